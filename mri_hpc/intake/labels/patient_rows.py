"""Rows of a table by patient: a row is of all files of its patient, or of one study of theirs."""

import re
from collections import defaultdict
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePosixPath

from mri_hpc.base.errors import BadSource
from mri_hpc.intake.labels.folder_words import is_of_images
from mri_hpc.intake.labels.id_rows import NO_IDS, HeaderIds
from mri_hpc.intake.labels.label import NO_LABEL_IN_CSV, Label, at_site
from mri_hpc.intake.labels.patient_pattern import PatientPattern
from mri_hpc.intake.labels.persons import nfc

UID = re.compile(r"[0-2](\.\d+){3,}")


@dataclass(frozen=True, kw_only=True)
class PatientRow:
    """One row of a table by patient."""

    patient: str
    """Id as it stands in the row."""
    study: str
    """As it stands in the row; empty where the row is of all studies."""
    site: str
    """As it stands in the row; empty where it names none."""
    line: int
    """On which it stands."""
    label: Label


class PatientRows:
    """Finds the row of a file by its patient: one that a pattern or another table names, else a folder.

    A folder's name, that of the file without its ending, or the patient in its header is the patient where it
    stands in a row as it is.
    """

    def __init__(
        self, rows: Sequence[PatientRow], *, site: str = "", pattern: PatientPattern | None = None
    ) -> None:
        """site: of all files, where rows may name others; pattern: goes before the folders."""
        self.rows = rows
        self._site, self._pattern = site, pattern
        self._by_patient = defaultdict[str, list[PatientRow]](list)
        for row in rows:
            for name in {row.patient, at_site(row.site, row.patient)}:
                self._by_patient[name].append(row)

    def of(self, path: str, named: Label | None = None, ids: HeaderIds = NO_IDS) -> Label:
        """Return the label of a file; BadSource where there is none.

        named: what another table says of it; ids: those in its header.
        """
        label = self._row(path, named, ids).label
        if named is None:
            return label
        return replace(
            named,
            label=label.label,
            patient=label.patient,
            study=label.study or named.study,
            fold=named.fold if label.fold < 0 else label.fold,
            split=named.split if label.split < 0 else label.split,
            site=label.site,
        )

    def without_file(self, files: Iterable[tuple[str, Label | None, HeaderIds]]) -> list[int]:
        """Return the lines of rows that are of none of the files, ascending. files: each as for `of`."""
        found = set[int]()
        for path, named, ids in files:
            try:
                found.add(id(self._row(path, named, ids)))
            except BadSource:
                continue
        return sorted(row.line for row in self.rows if id(row) not in found)

    def _row(self, path: str, named: Label | None, ids: HeaderIds) -> PatientRow:
        of_file = PurePosixPath(nfc(path))
        groups = self._pattern.named(nfc(path)) if self._pattern else {}
        names = {
            *of_file.parts[:-1],
            *groups.values(),
            named.study if named else "",
            ids.study,
            ids.accession,
        }
        rows: list[PatientRow] = []
        if groups or (named and named.patient):
            rows = self._by_patient.get(groups.get("patient") or (named.patient if named else ""), [])
        else:
            people = {*of_file.parts[:-1], nfc(ids.patient)}
            rows = [row for name in people for row in self._by_patient.get(name, ())]
            if not rows and _can_be_patient(of_file):
                rows = self._by_patient.get(of_file.stem, [])
        rows = [row for row in rows if not _is_of_other_study(row, ids)]
        of_site = [row for row in rows if row.site and row.site in names]
        return _one_of(of_site or [row for row in rows if row.site in ("", self._site)], names)


def _is_of_other_study(row: PatientRow, ids: HeaderIds) -> bool:
    """Tell whether a row names a study by its UID, and a file's header another one."""
    return bool(ids.study and UID.fullmatch(row.study) and row.study != ids.study)


def _can_be_patient(file: PurePosixPath) -> bool:
    """Tell whether a file's name can be its patient's id: a number below a folder is that of a slice."""
    return not file.stem.isdecimal() or all(map(is_of_images, file.parts[:-1]))


def _one_of(rows: Sequence[PatientRow], names: Container[str]) -> PatientRow:
    """Choose the row of a file; BadSource where none or several are its own. names: its studies and sites."""
    if not rows:
        raise BadSource(f"{NO_LABEL_IN_CSV}: no row of its patient")
    of_study = [row for row in rows if row.study and row.study in names]
    chosen = of_study or [row for row in rows if not row.study] or (rows if len(rows) == 1 else [])
    if not chosen:
        raise BadSource(f"{NO_LABEL_IN_CSV}: no row of its study")
    if len(chosen) > 1:
        raise BadSource(f"{NO_LABEL_IN_CSV}: its folders name several patients or studies")
    return chosen[0]
