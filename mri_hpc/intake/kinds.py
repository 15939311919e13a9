"""Kinds of sequence below a source root: which source is of which, and which are taken."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from pathlib import Path

from mri_hpc.base.command import counted
from mri_hpc.base.errors import UserError
from mri_hpc.intake.decoding.dicom.listing import Series, descriptions_in
from mri_hpc.intake.decoding.sequence import KINDS, UNKNOWN, WORDS, Choice
from mri_hpc.intake.decoding.sequence_words import is_volume_name, kind_of_file
from mri_hpc.intake.labels.label import Labels, label_or_reason

CLASSES_SHOWN = 8


class Kinds:
    """The kind of sequence of each source: of a series by its headers, of a volume by its file's name."""

    def __init__(self, root: Path, series: Series) -> None:
        self._root = root
        self._series = series
        self._has_series = len(series) > 0
        self._is_taken: dict[str, bool] = {}

    def of(self, path: str) -> str:
        """Return the kind of a file's source; empty of pictures, and of what is no slice of MR."""
        # Of most sources none is DICOM: millions of pictures are asked for.
        if self._has_series and self._series.named(path).series:
            return self._series.kind_of(path)
        return kind_of_file(path) if is_volume_name(path) else ""

    def scanner_of(self, path: str) -> str:
        """Return maker and model of the scanner of a source; empty where its file does not tell."""
        return self._series.named(path).scanner

    def is_source(self, path: str) -> bool:
        """Tell whether a file is the first one of its source, and no copy."""
        return bool(self._series.files_of(path)) and not self._series.is_duplicate(path)

    def chosen(self, paths: Sequence[str], choice: Choice | None) -> "Chosen":
        """Part files into those that a choice takes, and those of other series."""
        if choice is None:
            return Chosen(paths=paths, left_out={})
        taken, others = [], Counter[str]()
        for path in paths:
            kind = self.of(path)
            # What has no kind is no series: a picture, or rejected for a reason of its own.
            if not kind or self._takes(path, kind, choice):
                taken.append(path)
            elif self.is_source(path):
                others[kind] += 1
        return Chosen(paths=taken, left_out={kind: others[kind] for kind in WORDS if others[kind]})

    def _takes(self, path: str, kind: str, choice: Choice) -> bool:
        if choice.pattern is None:
            return choice.takes(kind)
        name = self._series.named(path).series
        if not name:
            return choice.takes(kind, [path.rpartition("/")[2]])
        if name not in self._is_taken:
            first = self._series.first_of(name)
            self._is_taken[name] = choice.takes(kind, descriptions_in(self._root / first))
        return self._is_taken[name]


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """The files that a choice takes."""

    paths: Sequence[str]
    """Below the root, in the order that they had."""
    left_out: Mapping[str, int]
    """Series of other kinds, or that a pattern does not find, by kind."""


@dataclass(frozen=True, kw_only=True)
class KindCount:
    """Size of one kind in one class."""

    series: int
    """Sources: series, and files of volumes."""
    patients: int


@dataclass(frozen=True, kw_only=True)
class KindTable:
    """Kinds of sequence by class."""

    counts: Mapping[str, Mapping[str, KindCount]]
    """By kind, then by class."""
    of_patients: Mapping[str, frozenset[str]] = field(repr=False)
    """Kinds of each patient, by id as given. Never printed."""

    @property
    def of_several(self) -> int:
        """Patients who have several kinds."""
        return sum(len(kinds) > 1 for kinds in self.of_patients.values())

    def lines(self) -> Iterator[str]:
        """Yield the table as text, a line a kind."""
        classes = sorted({name for row in self.counts.values() for name in row})
        shown = classes[:CLASSES_SHOWN]
        more = [f"and {len(classes) - len(shown)} more classes"] if len(classes) > len(shown) else []
        rows = [["kind", *(name or "(none)" for name in shown), *more]]
        rows += [[kind, *(_cell(row.get(name)) for name in shown)] for kind, row in self.counts.items()]
        widths = [max(len(row[at]) for row in rows if at < len(row)) for at in range(len(rows[0]))]
        for row in rows:
            yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)).rstrip()

    def refusal(self) -> str:
        """Return why nothing is stored without a choice, and what to type; empty where it can be."""
        if not self.of_several:
            return ""
        has = "has" if self.of_several == 1 else "have"
        return (
            f"{counted(self.of_several, 'patient')} {has} series of several kinds, and none is chosen: a "
            f"class could follow the protocol, so nothing is stored. Type --series {self._most()} "
            f"(of {', '.join(self.counts)}; several may be given, all takes them all)"
        )

    def _most(self) -> str:
        """Return the kind of most patients, a known one where there is any."""
        known = [kind for kind in KINDS if kind in self.counts] or [UNKNOWN]
        return max(known, key=lambda kind: sum(one.patients for one in self.counts[kind].values()))


def kinds_by_class(paths: Sequence[str], kinds: Kinds, labels: Labels) -> KindTable:
    """Count kinds by class, among the sources that have a label. paths: of all files below the root."""
    series = Counter[tuple[str, str]]()
    patients: dict[tuple[str, str], set[str]] = {}
    of_patient: dict[str, set[str]] = {}
    for path in paths:
        kind = kinds.of(path)
        if not kind or not kinds.is_source(path):
            continue
        label, reason = label_or_reason(labels, path)
        if reason:
            continue
        series[kind, label.label] += 1
        if label.patient:
            patients.setdefault((kind, label.label), set()).add(label.patient)
            of_patient.setdefault(label.patient, set()).add(kind)
    counts = {
        kind: {
            name: KindCount(series=series[kind, name], patients=len(patients.get((kind, name), ())))
            for _kind, name in sorted(series)
            if _kind == kind
        }
        for kind in WORDS
    }
    return KindTable(
        counts={kind: row for kind, row in counts.items() if row},
        of_patients={name: frozenset(found) for name, found in of_patient.items()},
    )


def refuse_beside(table: KindTable, stored: Mapping[str, Set[str]]) -> None:
    """Raise UserError where patients bring kinds that a store, which has others of them, lacks."""
    before = {name: stored.get(name) or kinds for name, kinds in table.of_patients.items()}
    others = [name for name, kinds in table.of_patients.items() if not kinds <= before[name]]
    if not others:
        return
    there = {kind for name in others for kind in before[name]}
    have = "has" if len(others) == 1 else "have"
    named = ", ".join(kind for kind in WORDS if kind in there)
    raise UserError(
        f"{counted(len(others), 'patient')} {have} series of other kinds in the store ({named}): a class "
        "could follow the protocol, so nothing is stored. Type --series all to have them beside each other, "
        "or make a store of one kind by --series"
    )


def left_out_text(left_out: Mapping[str, int]) -> str:
    """Return a line on what a choice has left out."""
    kinds = ", ".join(f"{kind} {count}" for kind, count in left_out.items())
    return f"left out: {sum(left_out.values())} series of other kinds ({kinds})"


def _cell(count: KindCount | None) -> str:
    if count is None:
        return "-"
    of_patients = f" of {counted(count.patients, 'patient')}" if count.patients else ""
    return f"{count.series:,} series{of_patients}"
