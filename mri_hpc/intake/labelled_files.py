"""The files below a source root, and what labels them: a table, or the folders that they lie in."""

from collections.abc import Sequence
from pathlib import Path

from mri_hpc.base.errors import UserError
from mri_hpc.intake.csv_labels import CsvLabels, read_csv
from mri_hpc.intake.folder_labels import FolderLabels
from mri_hpc.intake.sources import listing

TABLE = "labels.csv"
"""The table that a source brings with it."""


def find_labels(root: Path, table: Path | None) -> FolderLabels | CsvLabels:
    """Open the labels in the table that is given, else in the one in the source, else of folders."""
    own = root / TABLE
    file = table or (own if own.is_file() else None)
    return read_csv(file, root) if file else FolderLabels()


def labelled_paths(
    root: Path, labels: FolderLabels | CsvLabels, *, ids: str, shared: Path | None
) -> list[str]:
    """List paths below the root of all files but the table of labels itself.

    ids: as in Recipe; shared: as in sources.listing. UserError where there is no file, where a patient is in
    two splits, or where pseudonyms are wanted and ids of patients would be stored as the names of classes.
    """
    paths = paths_of(root, labels, shared)
    check_paths(labels, paths, ids=ids)
    return paths


def paths_of(root: Path, labels: FolderLabels | CsvLabels, shared: Path | None = None) -> list[str]:
    """List paths below the root of all files but the table of labels; UserError where there is none."""
    paths = without_table(root, labels, listing(root, shared))
    if not paths:
        raise UserError(f"{root} holds no files: --source (or MRI_SOURCE) takes the folder with the images")
    return paths


def without_table(root: Path, labels: FolderLabels | CsvLabels, paths: list[str]) -> list[str]:
    """Return the paths of files other than the table of labels."""
    if not isinstance(labels, CsvLabels):
        return paths
    return [path for path in paths if not _is_same(root, path, labels.file)]


def check_paths(labels: FolderLabels | CsvLabels, paths: Sequence[str], *, ids: str) -> None:
    """Raise UserError where folders say what cannot be; ids: as in Recipe."""
    if isinstance(labels, FolderLabels):
        labels.check(paths)
        if ids == "pseudonym":
            labels.refuse_patients(paths)


def _is_same(root: Path, path: str, table: Path) -> bool:
    if path.rpartition("/")[2] != table.name:
        return False
    return (root / path).exists() and (root / path).samefile(table)
