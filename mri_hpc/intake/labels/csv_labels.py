"""Labels from a CSV: one line a source, one a series or study, or one a patient."""

import contextlib
import copy
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Self

from mri_hpc.base.errors import BadSource
from mri_hpc.intake.labels.doubts import Doubt
from mri_hpc.intake.labels.id_rows import NO_IDS, IdRows, IdsOf
from mri_hpc.intake.labels.label import NO_LABEL_IN_CSV, Label, at_site
from mri_hpc.intake.labels.label_table import Table, read_table
from mri_hpc.intake.labels.patient_pattern import PatientPattern
from mri_hpc.intake.labels.patient_rows import PatientRows
from mri_hpc.intake.labels.persons import Mention, nfc

MOST_NAMED = 8


class CsvLabels:
    """Labels from the rows of a CSV: by path below the source root, by ids in headers, or by patient."""

    problem = ""
    """Reason why nothing can be stored by them; empty where it can."""
    where = ""
    """Words for where below a source its pictures lie, if not anywhere."""

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
        self._by_id = IdRows(table.ids) if table.ids else None
        self._ids_of: IdsOf = lambda path: NO_IDS

    def knowing(self, ids_of: IdsOf) -> Self:
        """Return these labels, which look also at the ids in the headers of files."""
        known = copy.copy(self)
        known._ids_of = ids_of
        return known

    def of(self, path: str) -> Label:
        """Return the label that the CSV gives a source; BadSource where it gives none."""
        found = self._row(path)
        if self._patients:
            return self._patients.of(path, found, self._ids_of(path))
        if self._by_id:
            ids = self._ids_of(path)
            found = self._by_id.of(ids).label
            patient, study = found.patient or at_site(found.site, ids.patient), at_site(found.site, ids.study)
            found = replace(found, patient=patient, study=found.study or study)
        if found is None:
            raise BadSource(NO_LABEL_IN_CSV)
        return found if found.patient or not self.pattern else self.pattern.onto(found, path)

    def site_of(self, path: str) -> str:
        """As in Labels."""
        if not (self._patients or self._by_id):
            found = self._row(path)
            return found.site if found else self.site
        try:
            return self.of(path).site
        except BadSource:
            return self.site

    def mentions(self, paths: Iterable[str]) -> Iterator[Mention]:
        """Yield the ids of patients that rows give, whichever have files, and a pattern finds in paths."""
        for line, label in self.table.labels:
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

    def pictures(self, paths: list[str]) -> list[str]:
        """Return the files that are to be read among those of a source but its tables: all."""
        return paths

    def without_file(self, paths: Iterable[str]) -> list[int]:
        """Return the lines of rows that are of no file among `paths`, ascending."""
        if self._patients:
            return self._patients.without_file(
                (path, self.rows.get(path), self._ids_of(path)) for path in paths
            )
        if self._by_id:
            return self._by_id.without_file(map(self._ids_of, paths))
        there = {nfc(path) for path in paths}
        gone = {nfc(path): self.table.lines[path] for path in self.rows if nfc(path) not in there}
        return sorted(gone.values())

    def classes(self) -> list[str]:
        """Return the names of all classes."""
        labels = [*self.rows.values(), *(label for _line, label in self.table.labels)]
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
