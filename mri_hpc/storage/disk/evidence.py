"""Evidence of who is one person: how each name was given, and where, in the private folder."""

import csv
import hashlib
import io
import os
from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields

from mri_hpc.base.access import make_private, publish_private
from mri_hpc.storage.disk.layout import StoreDir


@dataclass(frozen=True, kw_only=True, order=True)
class Evidence:
    """One name of a person, as it was met when it was stated whose it is."""

    patient_name: str
    """In the store."""
    patient: str
    """As given: the id, or the name."""
    where: str
    """Origin of it, for people."""
    other_name: str
    """Name in the store of whom the patient is the same as, or not any more."""
    is_same: str
    """yes or no."""


COLUMNS = tuple(field.name for field in fields(Evidence))


def publish_evidence(store: StoreDir, rows: Iterable[Evidence]) -> None:
    """Keep on what it rests that some names are of one person; harmless when the same is there.

    Not in a copy that is shared without its private folder: whoever has that knows the names alone.
    """
    if not os.access(store.private, os.W_OK):
        return
    data = evidence_csv(rows)
    make_private(store.persons)
    name = hashlib.sha256(data).hexdigest()[:32]
    publish_private(store.persons / f"{name}.csv", data)


def read_evidence(data: bytes) -> list[Evidence]:
    """Read the rows of one file; of a damaged one those that are whole."""
    rows = csv.reader(io.StringIO(data.decode("utf-8", "replace"), newline=""))
    next(rows, None)
    return [Evidence(**dict(zip(COLUMNS, row, strict=True))) for row in rows if len(row) == len(COLUMNS)]


def evidence_csv(rows: Iterable[Evidence]) -> bytes:
    """Return a file of evidence, a line a row."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    writer.writerows(sorted({astuple(row) for row in rows}))
    return text.getvalue().encode("utf-8", "replace")
