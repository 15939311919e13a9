"""The columns of a table of labels: which means what, also where it is called otherwise."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mri_hpc.base.errors import UserError
from mri_hpc.base.settings import nearest

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


def read_columns(
    header: Sequence[str],
    file: Path,
    *,
    label_column: str = "",
    also_labels: Sequence[str] = (),
    ignoring: Sequence[str] = (),
) -> Columns:
    """Read a header; UserError where a column is there twice, or two could be one. header: as it stands.

    label_column: the one of the label; empty: the one that is called so; also_labels: other names of it than
    in other tables; ignoring: columns that mean nothing in this one.
    """
    names = [name.strip().lower() for name in header]
    others = {**ALSO_CALLED, **({"label": also_labels} if also_labels else {})}
    if label_column:
        names = _with_label(names, label_column.strip().lower(), file)
    names = [f"({name})" if name in ignoring else name for name in names]
    for name in KNOWN:
        if names.count(name) > 1:
            raise UserError(f"{file} has {names.count(name)} columns {name!r}: keep one")
    taken: dict[str, str] = {}
    for wanted, called in others.items():
        found = [name for name in names if _plain(name) in called]
        if wanted in names or not found:
            continue
        if len(found) > 1:
            both = " and ".join(map(repr, found))
            option = ", or type --label-column" if wanted == "label" else ""
            raise UserError(f"{file} has no column {wanted!r} but {both}: call one of them {wanted}{option}")
        taken[wanted] = found[0]
    meant_by = {name: wanted for wanted, name in taken.items()}
    meant = [meant_by.get(name, name) for name in names]
    ignored = sorted({name.strip("()") for name in meant if name and name not in KNOWN})
    return Columns(meant=meant, taken=taken, ignored=tuple(ignored))


def _with_label(names: Sequence[str], column: str, file: Path) -> list[str]:
    """Return the names of columns with the one that is wanted as the label, and no other one."""
    if column not in names:
        found = ", ".join(names) or "nothing"
        raise UserError(f"{file} has no column {column!r}, only {found}{nearest(column, names)}")
    return ["label" if name == column else f"({name})" if name == "label" else name for name in names]


def _plain(name: str) -> str:
    return name.replace(" ", "_").replace("-", "_")


def known(cell: str) -> str:
    """Return a cell; empty where it says that nothing is known."""
    return "" if cell.lower() in MISSING else cell
