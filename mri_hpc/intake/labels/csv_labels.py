"""Labels from a CSV: one line a source, or one line a patient."""

import contextlib
import csv
import io
import posixpath
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mri_hpc.base.errors import BadSource, UserError
from mri_hpc.base.settings import nearest
from mri_hpc.intake.labels.doubts import Doubt
from mri_hpc.intake.labels.label import (
    MOST_CLASSES,
    NO_BOX,
    NO_LABEL_IN_CSV,
    PLANE_WORDS,
    SPLIT_WORDS,
    Label,
    at_site,
    check_patients_stay,
    check_site,
)
from mri_hpc.intake.labels.patient_pattern import PatientPattern
from mri_hpc.intake.labels.patient_rows import PatientRow, PatientRows
from mri_hpc.intake.labels.persons import Mention, nfc
from mri_hpc.intake.labels.table_columns import BOX, Columns, known, read_columns

TRUTHS = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False, "": False}

# As of folders, which name the same things; every image of a chunk takes the room of the longest.
MOST_LETTERS = 255
MOST_NAMED = 8


@dataclass(frozen=True, kw_only=True)
class Table:
    """A table of labels, as it was read."""

    file: Path
    columns: Columns
    rows: Mapping[str, Label]
    """By path below the source root; empty where the table has no paths."""
    patients: Sequence[PatientRow]
    """Rows of patients, or of studies of theirs, where the table has no paths."""
    lines: Mapping[str, int]
    """Line of each of `rows`."""
    unlabelled: Mapping[str, int]
    """Words in place of a label that mean that there is none, and in how many rows."""


class CsvLabels:
    """Labels from the rows of a CSV, by path below the source root or by patient."""

    def __init__(
        self,
        table: Table,
        *,
        files: Table | None = None,
        site: str = "",
        pattern: PatientPattern | None = None,
    ) -> None:
        """files: another table, by path, which names patients of this one; site, pattern: as typed."""
        self.table = table
        self.rows = files.rows if files else table.rows
        self.file = table.file
        """The file in which they stand."""
        self.files = (table.file, *([files.file] if files else []))
        """That, and the one which says whose the files are."""
        self.ignored = table.columns.ignored
        """Columns of the file that mean nothing here."""
        self.site = site
        self.pattern = pattern
        # Tables and files may come from systems that write the same letters otherwise.
        self._by_nfc = {nfc(path): label for path, label in self.rows.items() if not path.isascii()}
        self._patients = PatientRows(table.patients, site=site, pattern=pattern) if table.patients else None

    def of(self, path: str) -> Label:
        """Return the label that the CSV gives a source; BadSource where it gives none."""
        found = self._row(path)
        if self._patients:
            return self._patients.of(path, found)
        if found is None:
            raise BadSource(NO_LABEL_IN_CSV)
        return found if found.patient or not self.pattern else self.pattern.onto(found, path)

    def site_of(self, path: str) -> str:
        """As in Labels."""
        if not self._patients:
            found = self._row(path)
            return found.site if found else self.site
        try:
            return self.of(path).site
        except BadSource:
            return self.site

    def mentions(self, paths: Iterable[str]) -> Iterator[Mention]:
        """Yield the ids of patients that rows give, whichever have files, and a pattern finds in paths."""
        of_rows = [(self.table.lines[path], label) for path, label in self.table.rows.items()]
        of_rows += [(row.line, row.label) for row in self.table.patients]
        for line, label in of_rows:
            where = f"line {line} of {self.file.name}"
            if label.patient:
                yield Mention(patient=label.patient, where=where, label=label.label)
        for path in paths if self.pattern else ():
            with contextlib.suppress(BadSource):
                label = self.of(path)
                if label.patient:
                    where = f"a file in {path.rpartition('/')[0] or 'the source'}"
                    yield Mention(patient=label.patient, where=where, label=label.label)

    def _row(self, path: str) -> Label | None:
        found = self.rows.get(path)
        return self._by_nfc.get(nfc(path)) if found is None and not path.isascii() else found

    def num_without_file(self, paths: Iterable[str]) -> int:
        """Count rows that are of no file among `paths`."""
        if self._patients:
            return self._patients.num_without_file(paths, self.rows)
        return len({nfc(path) for path in self.rows} - {nfc(path) for path in paths})

    def classes(self) -> list[str]:
        """Return the names of all classes."""
        labels = [*self.rows.values(), *(row.label for row in self.table.patients)]
        return sorted({label.label for label in labels} - {""})

    @property
    def doubts(self) -> list[Doubt]:
        """Parts of the table that were not taken as they stand."""
        found = []
        if taken := self.table.columns.taken:
            shown = ", ".join(f"{name!r} as {wanted}" for wanted, name in taken.items())
            text = f"{self.file}: columns are taken for known ones: {shown}"
            found.append(Doubt(kind="columns-taken", count=len(taken), text=text))
        if self.ignored:
            shown = ", ".join(self.ignored[:MOST_NAMED])
            more = len(self.ignored) - MOST_NAMED
            text = f"{self.file}: columns without meaning here are ignored: {shown}"
            text += f" and {more} more" if more > 0 else ""
            found.append(Doubt(kind="columns-ignored", count=len(self.ignored), text=text))
        if words := self.table.unlabelled:
            shown = ", ".join(map(repr, sorted(words)))
            text = (
                f"{self.file}: {sum(words.values())} rows have {shown} in place of a label, which means that "
                "there is none: call a class otherwise, such as no_tumor"
            )
            found.append(Doubt(kind="labels-missing", count=sum(words.values()), text=text))
        return found


def read_csv(path: Path, root: Path, *, site: str = "", pattern: PatientPattern | None = None) -> CsvLabels:
    """Read labels from a CSV with the columns path and label; by comma, semicolon or tab; BOM or not.

    Paths are relative to `root`, or absolute below it. site: of rows that name none. UserError names the line
    that is wrong.
    """
    return CsvLabels(read_table(path, root, site=site), site=site, pattern=pattern)


def read_table(path: Path, root: Path, *, site: str = "", needs: Sequence[str] = ("path", "label")) -> Table:
    """Read a table of labels, as read_csv does, or of patients. needs: the columns that it must have."""
    text = _read_text(path)
    header = text.partition("\n")[0]
    delimiter = max(",;\t", key=header.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        columns = read_columns(reader.fieldnames or [], path)
    except csv.Error as error:
        raise UserError(f"{path}, line 1: {error}; save it as a CSV again") from None
    reader.fieldnames = list(columns.meant)
    if "path" not in needs and "patient" not in columns.meant:
        needs = ("path", *needs)
    _check_columns(columns.meant, path, needs)
    unlabelled = Counter[str]()
    numbered = _numbered_rows(reader, path, unlabelled)
    rows: dict[str, Label] = {}
    patients: dict[int, PatientRow] = {}
    lines: dict[str, int] = {}
    if "path" in columns.meant:
        rows, lines = _read_rows(numbered, path, root, site)
        origins = ((label, lines[name]) for name, label in rows.items())
    else:
        patients = _read_patients(numbered, path, site)
        origins = ((row.label, line) for line, row in patients.items())
    if not rows and not patients:
        raise UserError(f"{path} has no line below its first: write one for each image, with path and label")
    labels = [*rows.values(), *(row.label for row in patients.values())]
    if len({label.label for label in labels}) > MOST_CLASSES:
        raise UserError(f"{path} has more than {MOST_CLASSES} different labels: are they one a file?")
    check_patients_stay(((label, f"line {line}") for label, line in origins), str(path))
    return Table(
        file=path,
        columns=columns,
        rows=rows,
        patients=[*patients.values()],
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
