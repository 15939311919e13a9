"""Patients of images, by the folders in which these lie."""

from collections import defaultdict
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mri_hpc.intake.files.sources import root_name
from mri_hpc.intake.labels.folder_words import is_of_images, is_study
from mri_hpc.intake.labels.label import SPLIT_WORDS
from mri_hpc.intake.labels.persons import nfc


@dataclass(frozen=True, kw_only=True)
class PatientFolder:
    """A folder that stands for a patient."""

    name: str
    above: Path
    """Resolved folder above it, in which folders of one name are of one patient, whatever their class."""
    given: str = field(compare=False)
    """Its path as the user gave it."""


def patient_folders(root: Path, parts: Sequence[str], classes: Container[str]) -> list[PatientFolder | None]:
    """Find the patient's folder of each file below the folder `root`; None where nothing tells.

    The first folder below the root that names no class, split or study. Where no file has one, and none lies
    in a folder of a class or split, all are of one patient: the root itself, unless it is a class or split.
    """
    above = root.resolve()
    below = [part.split("/")[:-1] for part in parts]
    groups = [[name for name in names if _is_group(name, classes)] for names in below]
    people = [[n for n in names if not _is_group(n, classes) and not _is_word(n)] for names in below]
    if not any(groups) and not any(people) and not _is_group(root_name(root), classes):
        itself = PatientFolder(name=nfc(root_name(root)), above=above.parent, given=str(root))
        return [itself] * len(parts)
    return [
        PatientFolder(name=nfc(names[0]), above=above, given=str(root / names[0])) if names else None
        for names in people
    ]


def names_of(folders: Iterable[PatientFolder]) -> dict[PatientFolder, str]:
    """Name each patient by the folder's name, or where others share it by its path."""
    unique = dict.fromkeys(folders)
    above: dict[str, set[Path]] = defaultdict(set)
    for folder in unique:
        above[folder.name].add(folder.above)
    return {folder: folder.name if len(above[folder.name]) == 1 else folder.given for folder in unique}


def _is_group(name: str, classes: Container[str]) -> bool:
    return name in classes or name.lower() in SPLIT_WORDS


def _is_word(name: str) -> bool:
    return is_of_images(name) or is_study(name)
