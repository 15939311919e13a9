"""Images that are named by files and folders, and the patient of each."""

import os
from collections import defaultdict
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from mri_hpc.intake.files.archives import as_folder
from mri_hpc.intake.files.sources import list_sources, members_or_itself, root_name
from mri_hpc.intake.labels.folder_words import is_of_images, is_study
from mri_hpc.intake.labels.label import SPLIT_WORDS
from mri_hpc.intake.labels.persons import nfc

PatientFrom = Literal["folder", "file", "none"]
"""Origin of the patient: folder, the first that is no class, split or study, else the one given; file, each
file by itself; none, nothing."""


@dataclass(frozen=True, kw_only=True)
class Image:
    """One file, or one series of files, to be judged."""

    path: Path
    patient: str
    """Empty where nothing names one."""
    others: tuple[Path, ...] = ()
    """The other files of the series that it begins."""
    may_name_patient: bool = False
    """True where the patient whom its header names goes before that of a folder."""
    is_own_patient: bool = False
    """True where it is a patient of its own if it holds several slices: nothing names another."""


@dataclass(frozen=True, kw_only=True)
class Rejected:
    """One file or folder that could not be judged, and why."""

    path: Path
    reason: str


@dataclass(frozen=True, kw_only=True)
class FoundImages:
    """The images that paths stand for."""

    images: tuple[Image, ...]
    """Each file once."""
    rejected: tuple[Rejected, ...]
    """Paths that name no file."""


def find_images(
    paths: Sequence[Path], patient_from: PatientFrom = "folder", classes: Sequence[str] = ()
) -> FoundImages:
    """Find the files that the paths name, and the patient of each. classes: names that are no patient's."""
    found: dict[Path, tuple[Path, PatientFolder | None]] = {}
    rejected = []
    for path in paths:
        try:
            parts = list(list_sources(path)) if path.is_dir() else _parts_of_file(path)
        except OSError as error:
            rejected.append(Rejected(path=path, reason=f"folder cannot be read: {error.strerror}"))
            continue
        if not parts or not path.exists():
            reason = "folder holds no file" if path.exists() else "does not exist"
            rejected.append(Rejected(path=path, reason=reason))
            continue
        is_folder = parts != [""]
        owners = _patient_folders(path, parts, classes) if is_folder else [None]
        # Links below a folder are files of their own: git-annex keeps equal images of two patients as one.
        base = path.resolve() if is_folder else path.parent.resolve() / path.name
        for part, owner in zip(parts, owners, strict=True):
            found.setdefault(base / part, (path / part, owner))
    names = _names_of(owner for _file, owner in found.values() if owner)
    images = [_image(file, names[owner] if owner else "", patient_from) for file, owner in found.values()]
    return FoundImages(images=tuple(images), rejected=tuple(rejected))


def _parts_of_file(path: Path) -> list[str]:
    """Return the members of an archive; of any other file the empty name of itself."""
    own = path.name
    return [member[len(own) + 1 :] for member in members_or_itself(path.parent, own)]


def as_text(name: str | Path) -> str:
    """Return a file's name as text that can be written: bytes of other encodings become question marks."""
    return os.fsencode(name).decode(errors="replace")


def _image(file: Path, folder: str, patient_from: PatientFrom) -> Image:
    patient = _patient(file, folder, patient_from)
    by_folder = patient_from == "folder"
    is_own = not patient and by_folder
    return Image(path=file, patient=patient, may_name_patient=by_folder, is_own_patient=is_own)


def _patient(file: Path, folder: str, patient_from: PatientFrom) -> str:
    """Name the patient of a file. folder: the name that folders give; empty where they give none."""
    return {"folder": as_text(folder), "file": as_text(file), "none": ""}[patient_from]


@dataclass(frozen=True, kw_only=True)
class PatientFolder:
    """A folder that stands for a patient."""

    name: str
    above: Path
    """Resolved folder above it, in which folders of one name are of one patient, whatever their class."""
    given: str = field(compare=False)
    """Its path as the user gave it."""


def _patient_folders(root: Path, parts: Sequence[str], classes: Container[str]) -> list[PatientFolder | None]:
    """Find the patient's folder of each file below the folder `root`; None where nothing tells.

    The first folder below the root that names no class, split or study. Where no file has one, and none lies
    in a folder of a class or split, all are of one patient: the root itself, unless it is a class or split.
    """
    above = root.resolve()
    below = [part.split("/")[:-1] for part in parts]
    groups = [[name for name in names if _is_group(name, classes)] for names in below]
    people = [[n for n in names if not _is_group(n, classes) and not _is_word(n)] for names in below]
    if not any(groups) and not any(people) and not _is_group(root_name(root), classes):
        itself = PatientFolder(name=nfc(as_folder(root_name(root))), above=above.parent, given=str(root))
        return [itself] * len(parts)
    return [
        PatientFolder(name=nfc(as_folder(names[0])), above=above, given=str(root / names[0]))
        if names
        else None
        for names in people
    ]


def _names_of(folders: Iterable[PatientFolder]) -> dict[PatientFolder, str]:
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
