"""Labels of a BIDS tree: the subject is the patient, the session the study, a table says the class."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

from mri_hpc.intake.labels.bids import SUBJECT, Tree, session_of, subject_of
from mri_hpc.intake.labels.csv_labels import CsvLabels
from mri_hpc.intake.labels.doubts import Doubt
from mri_hpc.intake.labels.label import Label, at_site
from mri_hpc.intake.labels.label_table import Table, read_table
from mri_hpc.intake.labels.patient_pattern import PatientPattern
from mri_hpc.intake.labels.patient_rows import PatientRow
from mri_hpc.intake.labels.table_columns import Columns

PARTICIPANTS = "participants.tsv"
ALSO_LABELS = ("group", "dx", "diagnosis", "class", "target", "category", "pathology", "condition")
"""Columns of the participants that may say their class."""


class BidsLabels(CsvLabels):
    """Labels from a table for the pictures of a BIDS tree, by subject, or by path."""

    where = "; of a BIDS tree pictures lie in sub-*/[ses-*/]anat"

    def __init__(
        self,
        table: Table,
        tree: Tree,
        *,
        files: Table | None = None,
        site: str = "",
        pattern: PatientPattern | None = None,
        problem: str = "",
    ) -> None:
        """problem: why the table says no class, empty where it does; others as in CsvLabels."""
        patients = [_as_subject(row, site) for row in table.patients]
        super().__init__(replace(table, patients=patients), files=files, site=site, pattern=pattern)
        self.problem = problem
        self._tree = tree
        self._left_out = Counter[str]()

    def of(self, path: str) -> Label:
        """As in Labels: with the subject and the session that the path names, where rows name none."""
        label = Label(site=self.site) if self.problem else super().of(path)
        patient, study = (at_site(label.site, name) for name in (subject_of(path), session_of(path)))
        return replace(label, patient=label.patient or patient, study=label.study or study)

    def pictures(self, paths: list[str]) -> list[str]:
        """As in CsvLabels: pictures in anat, no masks, nothing derived."""
        kept, self._left_out = self._tree.kept(paths)
        return kept

    @property
    def doubts(self) -> list[Doubt]:
        """As in CsvLabels, and what was left out of the tree."""
        shown = ", ".join(f"{count:,} {what}" for what, count in sorted(self._left_out.items()))
        text = f"a BIDS tree; files left out: {shown or 'none'}"
        tree = Doubt(kind="bids-left-out", count=self._left_out.total(), text=text)
        return [tree, *super().doubts]


def read_bids(
    root: Path, tree: Tree, *, site: str, pattern: PatientPattern | None, label_column: str
) -> BidsLabels:
    """Read the labels of the participants; none, with the reason, where their table has no class of them."""
    file = root / PARTICIPANTS
    if not file.is_file():
        return _without_labels(file, tree, site, f"{root} is a BIDS tree without {PARTICIPANTS}")
    table = read_table(
        file,
        root,
        site=site,
        needs=("patient",),
        label_column=label_column,
        also_labels=ALSO_LABELS,
        ignoring=("site",),
    )
    problem = ""
    if "label" not in table.columns.meant:
        found = ", ".join(table.columns.ignored) or "no other column"
        problem = f"{file} has none of the columns {', '.join(('label', *ALSO_LABELS))}, but {found}"
        if table.columns.ignored:
            problem += ": name the column of the class by --label-column"
    return BidsLabels(table, tree, site=site, pattern=pattern, problem=problem and f"{problem}{OR_LABELS}")


OR_LABELS = "; or give a table of labels (--labels; --look --write-labels writes one to be filled in)"


def _without_labels(file: Path, tree: Tree, site: str, problem: str) -> BidsLabels:
    columns = Columns(meant=(), taken={}, ignored=())
    table = Table(file=file, columns=columns, rows={}, patients=(), ids=(), lines={}, unlabelled={})
    return BidsLabels(table, tree, site=site, problem=f"{problem}{OR_LABELS}")


def _as_subject(row: PatientRow, site: str) -> PatientRow:
    """Return a row whose patient is called as the folder is: sub-01, also where it says 01."""
    if row.patient.startswith(SUBJECT):
        return row
    patient = f"{SUBJECT}{row.patient}"
    return replace(row, patient=patient, label=replace(row.label, patient=at_site(row.label.site, patient)))
