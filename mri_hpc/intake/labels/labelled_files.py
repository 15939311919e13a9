"""The files below a source root, and what labels them: a table, or the folders that they lie in."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from mri_hpc.base.errors import UserError
from mri_hpc.intake.files.sources import listing
from mri_hpc.intake.labels.bids import is_bids, tree_at
from mri_hpc.intake.labels.class_names import doubts_of_classes
from mri_hpc.intake.labels.doubts import Doubt
from mri_hpc.intake.labels.folder_doubts import doubts_of_folders
from mri_hpc.intake.labels.folder_labels import FolderLabels
from mri_hpc.intake.labels.id_rows import IdsOf
from mri_hpc.intake.labels.label import Labels, check_site, label_or_reason

if TYPE_CHECKING:
    from mri_hpc.intake.labels.csv_labels import CsvLabels

AnyLabels = TypeVar("AnyLabels", bound=Labels)

TABLE = "labels.csv"
"""The table that a source brings with it."""


def find_labels(
    root: Path, table: Path | None, *, site: str = "", patient_pattern: str = "", label_column: str = ""
) -> "FolderLabels | CsvLabels":
    """Open the labels in the table that is given, else in the one in the source, else of folders.

    site: of files of which no row names one; patient_pattern: see PatientPattern; empty: none; label_column:
    the one of the label in that table; empty: it is called so. Where the table that is given has rows of
    patients, the one in the source says whose the files are. The table of a BIDS tree is that of its
    participants.
    """
    site = check_site(site, "--site")
    pattern = None
    if patient_pattern:
        from mri_hpc.intake.labels.patient_pattern import PatientPattern

        pattern = PatientPattern(patient_pattern)
    own = root / TABLE
    file = table or (own if own.is_file() else None)
    tree = tree_at(root) if is_bids(root) else None
    if file is None:
        if tree is not None:
            from mri_hpc.intake.labels.bids_labels import read_bids

            return read_bids(root, tree, site=site, pattern=pattern, label_column=label_column)
        if label_column:
            raise UserError(
                "--label-column goes with a table of labels: --labels, or labels.csv in the source"
            )
        return FolderLabels(site, pattern)
    from mri_hpc.intake.labels.csv_labels import CsvLabels
    from mri_hpc.intake.labels.label_table import read_table

    found = read_table(file, root, site=site, needs=("label",), label_column=label_column)
    files = None
    if found.patients and own.is_file() and not own.samefile(file):
        files = read_table(own, root, needs=("path", "patient"))
    if tree is not None:
        from mri_hpc.intake.labels.bids_labels import BidsLabels

        return BidsLabels(found, tree, files=files, site=site, pattern=pattern)
    return CsvLabels(found, files=files, site=site, pattern=pattern)


def knowing(labels: AnyLabels, ids_of: IdsOf) -> AnyLabels:
    """Return labels that look also at the ids in the headers of files, where they are of a table."""
    if isinstance(labels, FolderLabels):
        return labels
    from mri_hpc.intake.labels.csv_labels import CsvLabels

    return labels.knowing(ids_of) if isinstance(labels, CsvLabels) else labels


def labelled_paths(
    root: Path, labels: "FolderLabels | CsvLabels", *, ids: str, shared: Path | None
) -> list[str]:
    """List paths below the root of all files but the tables of labels themselves.

    ids: as in Recipe; shared: as in sources.listing. UserError where there is no file, where a patient is in
    two splits, or where pseudonyms are wanted and ids of patients would be stored as the names of classes.
    """
    paths = paths_of(root, labels, shared)
    check_paths(labels, paths, ids=ids)
    return paths


def paths_of(root: Path, labels: "FolderLabels | CsvLabels", shared: Path | None = None) -> list[str]:
    """List paths below the root of all files but the table of labels; UserError where there is none."""
    paths = without_table(root, labels, listing(root, shared))
    if not paths:
        where = "" if isinstance(labels, FolderLabels) else labels.where
        raise UserError(
            f"{root} holds no files: --source (or MRI_SOURCE) takes the folder with the images{where}"
        )
    return paths


def without_table(root: Path, labels: "FolderLabels | CsvLabels", paths: list[str]) -> list[str]:
    """Return the paths of files other than the tables of labels; of a BIDS tree those of pictures."""
    if isinstance(labels, FolderLabels):
        return paths
    return labels.pictures(
        [path for path in paths if not any(_is_same(root, path, file) for file in labels.files)]
    )


def check_paths(labels: "FolderLabels | CsvLabels", paths: Sequence[str], *, ids: str) -> None:
    """Raise UserError where folders say what cannot be, or a pattern says nothing; ids: as in Recipe."""
    if labels.pattern:
        labels.pattern.refuse_idle(paths)
    if not isinstance(labels, FolderLabels) and labels.problem:
        raise UserError(labels.problem)
    if isinstance(labels, FolderLabels):
        labels.check(paths)
        if ids == "pseudonym":
            labels.refuse_patients(paths)


def doubts_of(labels: "FolderLabels | CsvLabels", paths: Sequence[str]) -> list[Doubt]:
    """Return what looks other than it was meant, before any file is read. paths: of all files."""
    if isinstance(labels, FolderLabels):
        return [*doubts_of_folders(paths, labels.pattern), *doubts_of_classes(labels.classes(paths))]
    from mri_hpc.intake.labels.table_doubts import doubts_of_patient_rows

    return [*labels.doubts, *doubts_of_classes(labels.classes()), *doubts_of_patient_rows(labels, paths)]


def pattern_hint(labels: "FolderLabels | CsvLabels", paths: Iterable[str]) -> Doubt | None:
    """Return a pattern that would name patients where nothing names one; None where there is none."""
    unnamed = [path for path in paths if _has_no_patient(labels, path)]
    if not unnamed:
        return None
    from mri_hpc.intake.labels.patient_pattern import suggestion

    return suggestion(unnamed)


def _has_no_patient(labels: "FolderLabels | CsvLabels", path: str) -> bool:
    label, reason = label_or_reason(labels, path)
    return not (reason or label.patient)


def _is_same(root: Path, path: str, table: Path) -> bool:
    if path.rpartition("/")[2] != table.name:
        return False
    return (root / path).exists() and (root / path).samefile(table)
