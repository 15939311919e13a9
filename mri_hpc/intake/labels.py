"""What is known about a source beside its pixels: from folder names, or from a CSV."""

import csv
import functools
import io
import math
import posixpath
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mri_hpc.base.errors import BadSource, UserError
from mri_hpc.base.settings import nearest

SPLITS = ("train", "validation", "test")
PLANES = ("axial", "coronal", "sagittal")

SPLIT_WORDS = {
    "train": 0, "training": 0, "val": 1, "valid": 1, "validation": 1, "test": 2, "testing": 2,
}  # fmt: skip
PLANE_WORDS = {
    "ax": 0, "axial": 0, "tra": 0, "transversal": 0, "cor": 1, "coronal": 1, "sag": 2, "sagittal": 2,
}  # fmt: skip
TRUTHS = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False, "": False}
BOX = ("box_cx", "box_cy", "box_w", "box_h")
KNOWN_COLUMNS = {"path", "label", "patient", "study", "fold", "split", "plane", "plane_inferred", *BOX}

NO_LABEL_IN_CSV = "no label in CSV"
NO_CLASS_FOLDER = "no label: not in a class folder"
NO_BOX = (math.nan,) * 4
# As of folders, which name the same things; every image of a chunk takes the room of the longest.
MOST_LETTERS = 255
MOST_CLASSES = 2**15 - 1
# So many folders whose names differ in a number alone are no grades or stages.
LIKE_PATIENTS = 6
# Unless they are counted through from 0 or 1 on, and say of nobody that this is a person.
MOST_COUNTED = 20
PERSON = re.compile(
    "p|pt|pat|patients?|paciente|paziente|s|sub|subj|subjects?|sujet|proband|participant|volunteer|person|"
    "case|id|pid|mrn",
    re.IGNORECASE,
)


@dataclass(frozen=True, kw_only=True)
class Label:
    """What is known about one source."""

    label: str = ""
    """Class name; empty where unknown."""
    patient: str = ""
    """Patient id as given; empty where unknown."""
    study: str = ""
    """Study id as given; empty where unknown."""
    fold: int = -1
    """Fold given by the data; -1 none."""
    split: int = -1
    """Index into SPLITS; -1 none."""
    plane: int = -1
    """Index into PLANES; -1 unknown."""
    plane_inferred: bool = False
    """Whether the plane was guessed rather than recorded by a scanner."""
    box: tuple[float, float, float, float] = NO_BOX
    """Centre x, centre y, width, height as fractions of the source picture; NaN none."""


class FolderLabels:
    """Labels from folder names: ``CLASS/[PATIENT/]file``, or ``SPLIT/CLASS/[PATIENT/]file``.

    The first folder is a split where it is called train, training, val, valid, validation, test or testing
    and has folders of its own.
    """

    def of(self, path: str) -> Label:
        """What the folders say about a source; BadSource where there is no class folder."""
        return _of_folders(path.rpartition("/")[0])

    def check(self, paths: Iterable[str]) -> None:
        """UserError where a patient is in two splits."""
        in_splits = (path for path in paths if path.partition("/")[0].lower() in SPLIT_WORDS)
        # Names the folders above the patient's: the name itself may tell who it is.
        check_patients_stay(
            ((self._of(path), "below " + "/".join(path.split("/")[:2])) for path in in_splits), "the folders"
        )

    def refuse_patients(self, paths: Iterable[str]) -> None:
        """UserError where classes look like patients, whose ids would be read by all as names of classes."""
        names = self._classes(paths)
        if _are_like_patients(names) and not _are_counted(names):
            raise UserError(
                f"{len(names)} classes named like patients: nothing is stored; --source takes the folder "
                "above the class folders, SOURCE/CLASS/PATIENT/file; if they are classes, name them in a CSV "
                "(--labels), or take --ids as-given for released data"
            )

    def hint(self, paths: Iterable[str]) -> str:
        """A word on classes that look like a source one folder too deep or too high; empty where none do."""
        names = self._classes(paths)
        if len(names) == 1:
            return (
                f"all labels are {names[0]!r}: --source takes the folder that holds one folder a class, "
                "and a classifier needs two"
            )
        if _are_like_patients(names):
            return (
                f"{len(names)} classes named like patients ({names[0]}, {names[1]}, ...): --source takes the "
                "folder above the class folders, SOURCE/CLASS/PATIENT/file"
            )
        return ""

    def _classes(self, paths: Iterable[str]) -> list[str]:
        folders = {path.rpartition("/")[0] for path in paths} - {""}
        return sorted({self._of(f"{folder}/image").label for folder in folders} - {""})

    def _of(self, path: str) -> Label:
        try:
            return self.of(path)
        except BadSource:
            return Label()


def _are_like_patients(names: Sequence[str]) -> bool:
    """Whether so many classes have names that differ in numbers alone."""
    return len(names) >= LIKE_PATIENTS and len({re.sub(r"\d+", "0", name) for name in names}) == 1


def _are_counted(names: Sequence[str]) -> bool:
    """Whether names that differ in numbers alone count few things that are not called persons."""
    word = re.match(r"[^\W\d_]*", names[0])
    if len(names) > MOST_COUNTED or (word and PERSON.fullmatch(word[0])):
        return False
    numbers = zip(*(map(int, re.findall(r"\d+", name)) for name in names), strict=True)
    differing = [sorted(place) for place in numbers if len({*place}) > 1]
    return differing in ([[*range(len(names))]], [[*range(1, len(names) + 1)]])


@functools.lru_cache
def _of_folders(path: str) -> Label:
    """What folders say; path: of the folder that holds a file."""
    folders = PurePosixPath(path).parts
    split = -1
    if len(folders) >= 2 and folders[0].lower() in SPLIT_WORDS:
        split = SPLIT_WORDS[folders[0].lower()]
        folders = folders[1:]
    if not folders:
        raise BadSource(NO_CLASS_FOLDER)
    if not "/".join(folders).isprintable():
        raise BadSource("folder name with characters that cannot be printed")
    return Label(label=folders[0], patient=folders[1] if len(folders) > 1 else "", split=split)


class CsvLabels:
    """Labels from the rows of a CSV, by path below the source root."""

    def __init__(self, rows: Mapping[str, Label], ignored: tuple[str, ...] = ()) -> None:
        self.rows = rows
        self.ignored = ignored
        """Columns of the file that mean nothing here."""

    def of(self, path: str) -> Label:
        """What the CSV says about a source; BadSource where it says nothing."""
        found = self.rows.get(path)
        if found is None:
            raise BadSource(NO_LABEL_IN_CSV)
        return found

    def num_without_file(self, paths: Iterable[str]) -> int:
        """Rows that name a file which is not among `paths`."""
        return len(self.rows.keys() - set(paths))


def read_csv(path: Path, root: Path) -> CsvLabels:
    """Labels in a CSV with the columns path and label; separated by comma, semicolon or tab; BOM or not.

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
    return CsvLabels(rows, tuple(sorted({name for name in columns if name and name not in KNOWN_COLUMNS})))


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
    """What the CSV says about each source, and on which line."""
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


def check_patients_stay(labels: Iterable[tuple[Label, str]], where: str) -> None:
    """UserError where one patient has two folds, or two splits. labels: with the place to name."""
    first: dict[str, tuple[Label, str]] = {}
    for label, place in labels:
        if not label.patient:
            continue
        before, before_place = first.setdefault(label.patient, (label, place))
        for what in ("fold", "split"):
            if getattr(before, what) != getattr(label, what):
                raise UserError(
                    f"{where}: a patient is in {what} {_shown(before, what)} ({before_place}) and in {what} "
                    f"{_shown(label, what)} ({place}); a patient is never in two: mend the {what}s"
                )


def _shown(label: Label, what: str) -> str:
    value: int = getattr(label, what)
    if value < 0:
        return "none"
    return SPLITS[value] if what == "split" else str(value)


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
    """The path as a source's path: below the root, with forward slashes."""
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
        patient=row.get("patient", ""),
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
