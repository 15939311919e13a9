"""A table of labels, as a file holds it: one line a source, one a series or study, or one a patient."""

import csv
import io
import posixpath
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mri_hpc.base.errors import UserError
from mri_hpc.base.settings import nearest
from mri_hpc.intake.labels.id_rows import KINDS, IdRow, read_id_row
from mri_hpc.intake.labels.label import (
    MOST_CLASSES,
    NO_BOX,
    PLANE_WORDS,
    SPLIT_WORDS,
    Label,
    at_site,
    check_patients_stay,
    check_site,
)
from mri_hpc.intake.labels.patient_rows import PatientRow
from mri_hpc.intake.labels.persons import nfc
from mri_hpc.intake.labels.table_columns import BOX, Columns, known, read_columns

TRUTHS = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False, "": False}
# As of folders, which name the same things; every image of a chunk takes the room of the longest.
MOST_LETTERS = 255


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table of labels, as it was read."""

    file: Path
    columns: Columns
    rows: Mapping[str, Label]
    """By path below the source root; empty where the table has no paths."""
    patients: Sequence[PatientRow]
    """Rows of patients, or of studies of theirs, where the table has neither paths nor ids of headers."""
    ids: Sequence[IdRow]
    """Rows of series and studies, where the table has no paths."""
    lines: Mapping[str, int]
    """Line of each of `rows`."""
    unlabelled: Mapping[str, int]
    """Words in place of a label that mean that there is none, and in how many rows."""

    @property
    def labels(self) -> Iterator[tuple[int, Label]]:
        """Line and label of each row."""
        yield from ((self.lines[path], label) for path, label in self.rows.items())
        yield from ((row.line, row.label) for row in self.patients)
        yield from ((row.line, row.label) for row in self.ids)


def read_table(
    path: Path,
    root: Path,
    *,
    site: str = "",
    needs: Sequence[str] = ("path", "label"),
    label_column: str = "",
    also_labels: Sequence[str] = (),
    ignoring: Sequence[str] = (),
) -> Table:
    """Read a table of labels, as read_csv does, or of patients. needs: the columns that it must have.

    label_column, also_labels, ignoring: as of read_columns.
    """
    text = _read_text(path)
    header = text.partition("\n")[0]
    delimiter = max(",;\t", key=header.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        columns = read_columns(
            reader.fieldnames or [],
            path,
            label_column=label_column,
            also_labels=also_labels,
            ignoring=ignoring,
        )
    except csv.Error as error:
        raise UserError(f"{path}, line 1: {error}; save it as a CSV again") from None
    reader.fieldnames = list(columns.meant)
    if "path" not in needs and not {"patient", *KINDS} & {*columns.meant}:
        needs = ("path", *needs)
    _check_columns(columns.meant, path, needs)
    unlabelled = Counter[str]()
    numbered = _numbered_rows(reader, path, unlabelled)
    rows: dict[str, Label] = {}
    patients: dict[int, PatientRow] = {}
    ids: list[IdRow] = []
    lines: dict[str, int] = {}
    if "path" in columns.meant:
        rows, lines = _read_rows(numbered, path, root, site)
        origins = ((label, lines[name]) for name, label in rows.items())
    elif {*KINDS} & {*columns.meant}:
        ids = _read_ids(numbered, path, site)
        origins = ((row.label, row.line) for row in ids)
    else:
        patients = _read_patients(numbered, path, site)
        origins = ((row.label, line) for line, row in patients.items())
    if not (rows or patients or ids):
        raise UserError(f"{path} has no line below its first: write one for each image, with path and label")
    labels = [*rows.values(), *(row.label for row in patients.values()), *(row.label for row in ids)]
    if len({label.label for label in labels}) > MOST_CLASSES:
        raise UserError(f"{path} has more than {MOST_CLASSES} different labels: are they one a file?")
    check_patients_stay(((label, f"line {line}") for label, line in origins), str(path))
    return Table(
        file=path,
        columns=columns,
        rows=rows,
        patients=[*patients.values()],
        ids=ids,
        lines=lines,
        unlabelled=unlabelled,
    )


def _read_text(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{path} does not exist: --labels takes a CSV with the columns path,label") from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder: --labels takes a CSV with the columns path,label") from None
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} is not UTF-8 ({error.reason} at byte {error.start}): save it as UTF-8, in a spreadsheet "
            "as 'CSV UTF-8'"
        ) from None
    if "\0" in text:
        raise UserError(
            f"{path} is not UTF-8 (it holds zero bytes): save it as UTF-8, in a spreadsheet as 'CSV UTF-8'"
        )
    if not text.strip():
        raise UserError(f"{path} is empty: --labels takes a CSV with the columns path,label")
    return text


def _check_columns(columns: Sequence[str], path: Path, needs: Sequence[str]) -> None:
    for wanted in needs:
        if wanted not in columns:
            found = ", ".join(columns) or "nothing"
            raise UserError(f"{path} has no column {wanted!r}, only {found}{nearest(wanted, columns)}")


def _read_rows(
    numbered: Iterable[tuple[int, dict[str, str]]], path: Path, root: Path, site: str
) -> tuple[dict[str, Label], dict[str, int]]:
    """Read the label of each source, and the line on which it stands."""
    rows: dict[str, Label] = {}
    lines: dict[str, int] = {}
    for line, row in numbered:
        where = f"{path}, line {line}"
        name = _relative(row["path"], root, where)
        label = _parse_row(row, where, site)
        if rows.setdefault(name, label) != label and not _same(rows[name], label):
            raise UserError(
                f"{where}: the same path stands on line {lines[name]} too, with other values; keep one"
            )
        lines.setdefault(name, line)
    return rows, lines


def _read_patients(
    numbered: Iterable[tuple[int, dict[str, str]]], path: Path, site: str
) -> dict[int, PatientRow]:
    """Read the rows of patients, and of studies of theirs, by the line on which each stands."""
    rows: dict[int, PatientRow] = {}
    lines: dict[tuple[str, str], int] = {}
    for line, row in numbered:
        where = f"{path}, line {line}"
        label = _parse_row(row, where, site)
        patient, study, own_site = (known(row.get(name, "")) for name in ("patient", "study", "site"))
        if not patient:
            raise UserError(f"{where}: the patient is empty: name one, or remove the line")
        one = PatientRow(patient=nfc(patient), study=nfc(study), site=own_site, line=line, label=label)
        first = lines.setdefault((label.patient, study), line)
        if not _same(rows.setdefault(first, one).label, label):
            raise UserError(
                f"{where}: the same patient stands on line {first} too, with other values; keep one, or tell "
                "them apart by a column study"
            )
    return rows


def _read_ids(numbered: Iterable[tuple[int, dict[str, str]]], path: Path, site: str) -> list[IdRow]:
    """Read the rows of series and studies, each id once."""
    rows: dict[tuple[str, str], IdRow] = {}
    for line, row in numbered:
        where = f"{path}, line {line}"
        one = read_id_row(row, line, where, _parse_row(row, where, site))
        first = rows.setdefault((one.kind, one.name), one)
        if not _same(first.label, one.label):
            raise UserError(
                f"{where}: the same {one.kind} stands on line {first.line} too, with other values; keep one"
            )
    return [*rows.values()]


def _same(a: Label, b: Label) -> bool:
    # NaN differs from itself, so boxes are compared as text.
    return repr(a) == repr(b)


def _numbered_rows(
    reader: "csv.DictReader[str]", path: Path, unlabelled: Counter[str]
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield rows with the lines on which they end; count words in place of a label."""
    try:
        for row in reader:
            # Cells beyond the header's have the name None; missing ones the value None.
            if any(row.pop(None, ())):
                raise UserError(
                    f"{path}, line {reader.line_num}: more cells than columns: put a text that holds the "
                    "separator in quotes"
                )
            cells = {name: (value or "").strip() for name, value in row.items() if name}
            if any(cells.values()):
                if not known(cells.get("label", "")) and cells.get("label"):
                    unlabelled[cells["label"]] += 1
                yield reader.line_num, cells
    except csv.Error as error:
        raise UserError(f"{path}, after line {reader.line_num}: {error}; save it as a CSV again") from None


def _relative(text: str, root: Path, where: str) -> str:
    """Return the path as a source's path: below the root, with forward slashes."""
    if not text:
        raise UserError(f"{where}: the path is empty: name an image, or remove the line")
    path = posixpath.normpath(text.replace("\\", "/"))
    below = posixpath.relpath(path, root.absolute()) if path.startswith("/") else path
    if below.split("/")[0] == "..":
        raise UserError(f"{where}: the path is not below the source {root}: write paths relative to it")
    return below


def _parse_row(row: Mapping[str, str], where: str, site: str) -> Label:
    """Return the label of a row. site: where the row names none."""
    for name in ("label", "patient", "study", "site"):
        if not row.get(name, "").isprintable() or len(row.get(name, "")) > MOST_LETTERS:
            raise UserError(f"{where}: a {name} has at most {MOST_LETTERS} letters, all of them printable")
    cells = {name: known(cell) for name, cell in row.items()}
    site = check_site(cells.get("site") or site, where)
    box = [row.get(name, "") for name in BOX]
    return Label(
        label=cells.get("label", ""),
        patient=at_site(site, cells.get("patient", "")),
        study=at_site(site, cells.get("study", "")),
        fold=_fold(cells.get("fold", ""), where),
        split=_word(cells.get("split", ""), SPLIT_WORDS, "split", where),
        plane=_word(cells.get("plane", ""), PLANE_WORDS, "plane", where),
        plane_inferred=_word(cells.get("plane_inferred", ""), TRUTHS, "plane_inferred", where) == 1,
        box=_box(box if any(map(known, box)) else [], where),
        site=site,
    )


def _fold(text: str, where: str) -> int:
    if not text:
        return -1
    try:
        fold = int(text)
    except ValueError:
        raise UserError(f"{where}: fold must be a whole number, found {text!r}") from None
    if not 0 <= fold < 2**15:
        raise UserError(f"{where}: fold must be between 0 and 32767, found {text}")
    return fold


def _word(text: str, known: Mapping[str, int], what: str, where: str) -> int:
    word = text.lower()
    if word in known:
        return int(known[word])
    if not word:
        return -1
    choices = ", ".join(name for name in known if name)
    raise UserError(f"{where}: unknown {what} {text!r}{nearest(word, known)}; known: {choices}")


def _box(texts: list[str], where: str) -> tuple[float, float, float, float]:
    if not any(texts):
        return NO_BOX
    try:
        cx, cy, w, h = (float(text) for text in texts)
    except ValueError:
        raise UserError(f"{where}: a box needs four numbers ({', '.join(BOX)}), found {texts}") from None
    if not all(0 <= value <= 1 for value in (cx, cy, w, h)):
        raise UserError(f"{where}: a box is given in fractions of the image, between 0 and 1, found {texts}")
    return cx, cy, w, h
