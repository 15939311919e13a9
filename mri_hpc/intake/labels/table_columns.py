"""The columns of a table of labels: which means what, also where it is called otherwise."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mri_hpc.base.errors import UserError

BOX = ("box_cx", "box_cy", "box_w", "box_h")
KNOWN = (
    "path", "label", "patient", "study", "site", "fold", "split", "plane", "plane_inferred", *BOX,
    "series_uid", "study_uid", "accession",
)  # fmt: skip
ALSO_CALLED = {
    "path": ("filename", "file_name", "file", "filepath", "file_path", "image", "image_path", "img_path"),
    "label": ("diagnosis", "class", "target", "category"),
    "series_uid": ("seriesinstanceuid", "series_instance_uid", "seriesuid", "series_id"),
    "study_uid": ("studyinstanceuid", "study_instance_uid", "studyuid"),
    "accession": ("accessionnumber", "accession_number", "accession_no"),
    "patient": (
        "patient_id", "patientid", "subject", "subject_id", "subjectid", "participant", "participant_id",
    ),
}  # fmt: skip
MISSING = {"", "nan", "na", "n/a", "#n/a", "<na>", "none", "null"}
"""Cells that say that nothing is known, in any case; a class of heads without tumour is called otherwise."""


@dataclass(frozen=True, kw_only=True)
class Columns:
    """The columns of one table."""

    meant: Sequence[str]
    """Of each column, as it is known here."""
    taken: Mapping[str, str]
    """Names in the table of those that are called otherwise there, by what they are taken for."""
    ignored: tuple[str, ...]
    """Those that mean nothing here."""


def read_columns(header: Sequence[str], file: Path) -> Columns:
    """Read a header; UserError where a column is there twice, or two could be one. header: as it stands."""
    names = [name.strip().lower() for name in header]
    for name in KNOWN:
        if names.count(name) > 1:
            raise UserError(f"{file} has {names.count(name)} columns {name!r}: keep one")
    taken: dict[str, str] = {}
    for wanted, others in ALSO_CALLED.items():
        found = [name for name in names if _plain(name) in others]
        if wanted in names or not found:
            continue
        if len(found) > 1:
            both = " and ".join(map(repr, found))
            raise UserError(f"{file} has no column {wanted!r} but {both}: call one of them {wanted}")
        taken[wanted] = found[0]
    meant_by = {name: wanted for wanted, name in taken.items()}
    meant = [meant_by.get(name, name) for name in names]
    ignored = sorted({name for name in meant if name and name not in KNOWN})
    return Columns(meant=meant, taken=taken, ignored=tuple(ignored))


def _plain(name: str) -> str:
    return name.replace(" ", "_").replace("-", "_")


def known(cell: str) -> str:
    """Return a cell; empty where it says that nothing is known."""
    return "" if cell.lower() in MISSING else cell
