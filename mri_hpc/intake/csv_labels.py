"""Labels from a CSV: one line a source."""

import csv
import io
import posixpath
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from mri_hpc.base.errors import BadSource, UserError
from mri_hpc.base.settings import nearest
from mri_hpc.intake.labels import MOST_CLASSES, NO_BOX, PLANE_WORDS, SPLIT_WORDS, Label, check_patients_stay
from mri_hpc.intake.persons import Mention, nfc

TRUTHS = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False, "": False}
BOX = ("box_cx", "box_cy", "box_w", "box_h")
KNOWN_COLUMNS = {"path", "label", "patient", "study", "fold", "split", "plane", "plane_inferred", *BOX}

NO_LABEL_IN_CSV = "no label in CSV"
# As of folders, which name the same things; every image of a chunk takes the room of the longest.
MOST_LETTERS = 255


class CsvLabels:
    """Labels from the rows of a CSV, by path below the source root."""

    def __init__(
        self,
        rows: Mapping[str, Label],
        *,
        file: Path,
        ignored: tuple[str, ...] = (),
        lines: Mapping[str, int] | None = None,
    ) -> None:
        """lines: number of that of each path in the file."""
        self.rows = rows
        self._lines = lines or {}
        self.file = file
        """The file in which they stand."""
        self.ignored = ignored
        """Columns of the file that mean nothing here."""
        self._by_nfc = {nfc(path): label for path, label in rows.items() if not path.isascii()}

    def of(self, path: str) -> Label:
        """Return the label that the CSV gives a source; BadSource where it gives none."""
        found = self.rows.get(path)
        if found is None and not path.isascii():
            # The table and the files may come from systems that write the same letters otherwise.
            found = self._by_nfc.get(nfc(path))
        if found is None:
            raise BadSource(NO_LABEL_IN_CSV)
        return found

    def mentions(self, paths: Iterable[str]) -> Iterator[Mention]:
        """Yield the id of each row's patient, with the number of the line, whichever rows have files."""
        for path, label in self.rows.items():
            if label.patient:
                line = self._lines.get(path, 0)
                yield Mention(
                    patient=label.patient, where=f"line {line} of {self.file.name}", label=label.label
                )

    def num_without_file(self, paths: Iterable[str]) -> int:
        """Count rows that name a file which is not among `paths`."""
        return len({nfc(path) for path in self.rows} - {nfc(path) for path in paths})


def read_csv(path: Path, root: Path) -> CsvLabels:
    """Read labels from a CSV with the columns path and label; by comma, semicolon or tab; BOM or not.

    Paths are relative to `root`, or absolute below it. UserError names the line that is wrong.
    """
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
    if not text.strip():
        raise UserError(f"{path} is empty: --labels takes a CSV with the columns path,label")
    header = text.partition("\n")[0]
    delimiter = max(",;\t", key=header.count)
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        reader.fieldnames = columns = [name.strip().lower() for name in reader.fieldnames or []]
    except csv.Error as error:
        raise UserError(f"{path}, line 1: {error}; save it as a CSV again") from None
    _check_columns(columns, path)
    rows, lines = _read_rows(reader, path, root)
    if not rows:
        raise UserError(f"{path} has no line below its first: write one for each image, with path and label")
    if len({label.label for label in rows.values()}) > MOST_CLASSES:
        raise UserError(f"{path} has more than {MOST_CLASSES} different labels: are they one a file?")
    check_patients_stay(((label, f"line {lines[name]}") for name, label in rows.items()), str(path))
    ignored = tuple(sorted({name for name in columns if name and name not in KNOWN_COLUMNS}))
    return CsvLabels(rows, file=path, ignored=ignored, lines=lines)


def _check_columns(columns: Sequence[str], path: Path) -> None:
    for wanted in ("path", "label"):
        if wanted not in columns:
            found = ", ".join(columns) or "nothing"
            raise UserError(f"{path} has no column {wanted!r}, only {found}{nearest(wanted, columns)}")
    for name in KNOWN_COLUMNS:
        if columns.count(name) > 1:
            raise UserError(f"{path} has {columns.count(name)} columns {name!r}: keep one")


def _read_rows(
    reader: "csv.DictReader[str]", path: Path, root: Path
) -> tuple[dict[str, Label], dict[str, int]]:
    """Read the label of each source, and the line on which it stands."""
    rows: dict[str, Label] = {}
    lines: dict[str, int] = {}
    for line, row in _numbered_rows(reader, path):
        where = f"{path}, line {line}"
        name = _relative(row["path"], root, where)
        label = _parse_row(row, where)
        if rows.setdefault(name, label) != label and not _same(rows[name], label):
            raise UserError(
                f"{where}: the same path stands on line {lines[name]} too, with other values; keep one"
            )
        lines.setdefault(name, line)
    return rows, lines


def _same(a: Label, b: Label) -> bool:
    # NaN differs from itself, so boxes are compared as text.
    return repr(a) == repr(b)


def _numbered_rows(reader: "csv.DictReader[str]", path: Path) -> Iterator[tuple[int, dict[str, str]]]:
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


def _parse_row(row: Mapping[str, str], where: str) -> Label:
    for name in ("label", "patient", "study"):
        if not row.get(name, "").isprintable() or len(row.get(name, "")) > MOST_LETTERS:
            raise UserError(f"{where}: a {name} has at most {MOST_LETTERS} letters, all of them printable")
    box = [row.get(name, "") for name in BOX]
    return Label(
        label=row["label"],
        patient=nfc(row.get("patient", "")),
        study=row.get("study", ""),
        fold=_fold(row.get("fold", ""), where),
        split=_word(row.get("split", ""), SPLIT_WORDS, "split", where),
        plane=_word(row.get("plane", ""), PLANE_WORDS, "plane", where),
        plane_inferred=_word(row.get("plane_inferred", ""), TRUTHS, "plane_inferred", where) == 1,
        box=_box(box, where),
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
