"""Dates: the day on which pictures were taken. It stays in memory, unless dates are kept shifted."""

import datetime
import re

from mri_hpc.intake.decoding.dicom.elements import Elements, Tag
from mri_hpc.intake.decoding.dicom.header import Values

DAY = re.compile(r"(\d{4})(\d{2})(\d{2})")
FIRST_YEAR = 1900
"""Nothing was taken before: an earlier one stands for none."""
OF_DAYS = (Tag.ACQUISITION_DATE, Tag.ACQUISITION_DATE_TIME, Tag.SERIES_DATE, Tag.STUDY_DATE)
"""In the order in which they are asked."""


def date_of(elements: Elements) -> datetime.date | None:
    """Return the day of acquisition, else of the series, else of the study; None where none is told."""
    values = Values(elements)
    return next((day for tag in OF_DAYS if (day := _day(values.text(tag)))), None)


def _day(text: str) -> datetime.date | None:
    found = DAY.match(text)
    if not found or int(found[1]) < FIRST_YEAR:
        return None
    try:
        return datetime.date(*map(int, found.groups()))
    except ValueError:
        return None
