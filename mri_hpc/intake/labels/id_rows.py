"""Rows of a table by the ids in the headers of files: of a series, a study, or an accession number."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from mri_hpc.base.errors import BadSource, UserError
from mri_hpc.intake.labels.label import NO_LABEL_IN_CSV, Label
from mri_hpc.intake.labels.table_columns import known

KINDS = ("series_uid", "study_uid", "accession")
"""Columns by which a row may know its files; the first of these that is filled in does."""


@dataclass(frozen=True, kw_only=True)
class HeaderIds:
    """The ids in the header of a file by which a row of a table may know it. Never printed."""

    series: str = field(default="", repr=False)
    """Empty where the file is no DICOM or names none."""
    study: str = field(default="", repr=False)
    accession: str = field(default="", repr=False)
    patient: str = field(default="", repr=False)

    def by_kind(self) -> Iterator[tuple[str, str]]:
        """Yield column and id, the most particular first; no empty ones."""
        pairs = zip(KINDS, (self.series, self.study, self.accession), strict=True)
        return (pair for pair in pairs if pair[1])


IdsOf = Callable[[str], HeaderIds]
"""Returns the ids in a file, by its path below the root; empty ones where it is no DICOM."""
NO_IDS = HeaderIds()


@dataclass(frozen=True, kw_only=True)
class IdRow:
    """One row of a table by ids."""

    kind: str
    """One of KINDS."""
    name: str = field(repr=False)
    """The id, as it stands in the row."""
    line: int
    """On which it stands."""
    label: Label


class IdRows:
    """Finds the row of a file by the ids in its header: that of its series, else of its study."""

    def __init__(self, rows: Sequence[IdRow]) -> None:
        self.rows = rows
        self._by_id = {(row.kind, row.name): row for row in rows}

    def of(self, ids: HeaderIds) -> IdRow:
        """Return the row of a file; BadSource where there is none."""
        found = next((row for pair in ids.by_kind() if (row := self._by_id.get(pair))), None)
        if found is None:
            what = "no row of its series or study" if ids.series else "not DICOM, and the CSV names DICOM"
            raise BadSource(f"{NO_LABEL_IN_CSV}: {what}")
        return found

    def without_file(self, all_ids: Iterable[HeaderIds]) -> list[int]:
        """Return the lines of rows that are of no file, ascending. all_ids: those in each file."""
        there = {pair for ids in all_ids for pair in ids.by_kind()}
        return sorted(row.line for row in self.rows if (row.kind, row.name) not in there)


def read_id_row(row: Mapping[str, str], line: int, where: str, label: Label) -> IdRow:
    """Read one row. UserError, naming where it stands, if it has none of KINDS."""
    kind = next((kind for kind in KINDS if known(row.get(kind, ""))), "")
    if not kind:
        shown = ", ".join(kind for kind in KINDS if kind in row)
        raise UserError(f"{where}: {shown} is empty: name a series or a study, or remove the line")
    return IdRow(kind=kind, name=row[kind], line=line, label=label)
