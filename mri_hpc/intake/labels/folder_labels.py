"""Labels from the names of folders."""

import functools
import itertools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from mri_hpc.base.errors import BadSource, UserError
from mri_hpc.intake.files.archives import as_folder
from mri_hpc.intake.labels.folder_words import PERSON_WORDS, is_of_images, is_person, is_site, is_study
from mri_hpc.intake.labels.label import PLANE_WORDS, SPLIT_WORDS, Label, check_patients_stay
from mri_hpc.intake.labels.persons import Mention, nfc

if TYPE_CHECKING:
    from mri_hpc.intake.labels.patient_pattern import PatientPattern

SAYS_ITSELF = (".mat", ".MAT")
"""Ends of the names of files that say their class themselves, so that folders need not."""
NO_CLASS_FOLDER = "no label: not in a class folder"
# So many folders whose names differ in a number alone are no grades or stages.
LIKE_PATIENTS = 6
# Unless they are counted through from 0 or 1 on, and say of nobody that this is a person.
MOST_COUNTED = 20
# Kept in memory, 0.7 kB each: every file is asked about several times.
MOST_FOLDERS = 2**16
LETTERS_OF_INITIALS = 3
# Before a number also in these words, which name other things as well.
PERSON = re.compile(f"{PERSON_WORDS}|s|case|id", re.IGNORECASE)


class FolderLabels:
    """Labels from folder names: ``CLASS/[PATIENT/]file``, or ``SPLIT/CLASS/[PATIENT/]file``.

    The first folder is a split where it is called train, training, val, valid, validation, test or testing
    and has folders of its own. Folders that are called as planes, splits, kinds of images or sites are no
    patients, and those called as studies only where nothing else is.
    """

    def __init__(self, site: str = "", pattern: "PatientPattern | None" = None) -> None:
        """site: where all the files come from; pattern: goes before the folders."""
        self.site = site
        self.pattern = pattern

    def of(self, path: str) -> Label:
        """Return the label that the folders give a source; BadSource where there is no class folder."""
        label = _of_folder(path.rpartition("/")[0], self.site)
        return self.pattern.onto(label, path) if self.pattern else label

    def site_of(self, path: str) -> str:
        """As in Labels."""
        return self.site

    def check(self, paths: Iterable[str]) -> None:
        """Raise UserError where a patient is in two splits."""
        paths = list(paths)
        if (
            len({path.partition("/")[0] for path in paths if "/" in path}) < 2
            and len(self.classes(paths)) < 2
        ):
            # A folder too high: splits and classes stand where patients do.
            return
        paths = paths if self.pattern else dict.fromkeys(f"{path.rpartition('/')[0]}/" for path in paths)
        labels = ((self._of(path), path) for path in paths)
        # Names the folders above the patient's: the name itself may tell who it is.
        check_patients_stay(
            ((label, f"below {_above_patient(path)}") for label, path in labels if label.split >= 0),
            "the folders",
        )

    def mentions(self, paths: Iterable[str]) -> Iterator[Mention]:
        """Yield the ids of patients that folders give, or a pattern finds in paths, each with its class."""
        paths = paths if self.pattern else sorted({f"{path.rpartition('/')[0]}/" for path in paths})
        for path in paths:
            label = self._of(path)
            if label.patient:
                above = f"a {'file' if self.pattern else 'folder'} in {_above_patient(path)}"
                yield Mention(patient=label.patient, where=above, label=label.label)

    def refuse_patients(self, paths: Iterable[str]) -> None:
        """Raise UserError where classes look like patients, whose ids all would read as names of classes."""
        names = self.classes(paths)
        if _are_like_patients(names) and not _are_counted(names):
            raise UserError(
                f"{len(names)} classes named like patients: nothing is stored; --source takes the folder "
                "above the class folders, SOURCE/CLASS/PATIENT/file; if they are classes, name them in a CSV "
                "(--labels), or take --ids as-given for released data"
            )

    def hint(self, paths: Iterable[str], without_lesion: str = "") -> str:
        """Return a hint where classes look like a source one folder too deep or too high; else empty.

        without_lesion: class of slices whose masks show none, which needs no folder.
        """
        names = sorted({*self.classes(paths), without_lesion} - {""})
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

    def classes(self, paths: Iterable[str]) -> list[str]:
        """Return the names of all classes."""
        folders = {path.rpartition("/")[0] for path in paths if not path.endswith(SAYS_ITSELF)} - {""}
        return sorted({self._of(f"{folder}/image").label for folder in folders} - {""})

    def _of(self, path: str) -> Label:
        try:
            return self.of(path)
        except BadSource:
            return Label()


def _are_like_patients(names: Sequence[str]) -> bool:
    """Tell whether so many classes have names that differ in numbers alone."""
    return len(names) >= LIKE_PATIENTS and len({re.sub(r"\d+", "0", name) for name in names}) == 1


def _are_counted(names: Sequence[str]) -> bool:
    """Tell whether names that differ in numbers alone count few things that are not called persons."""
    word = re.match(r"[^\W\d_]*", names[0])
    if len(names) > MOST_COUNTED or (word and PERSON.fullmatch(word[0])):
        return False
    numbers = zip(*(map(int, re.findall(r"\d+", name)) for name in names), strict=True)
    differing = [sorted(column) for column in numbers if len({*column}) > 1]
    return differing in ([[*range(len(names))]], [[*range(1, len(names) + 1)]])


@dataclass(frozen=True, kw_only=True)
class Folders:
    """The folders above a file, by what they say."""

    split: int
    """Index into SPLITS; -1 none."""
    label: str
    """Name of the class."""
    below: tuple[str, ...]
    """Folders below that of the class, from the top."""
    sites: tuple[str, ...]
    """Those of `below` that are called as sites, above all that can be a person's."""
    people: tuple[str, ...]
    """Those of `below` that can be a person's, or a study's of theirs; from the top."""

    @property
    def patient(self) -> str:
        """The folder of the patient: one that is called so, else the first; empty where there is none."""
        return next(filter(is_person, self.people), self.people[0] if self.people else "")

    @property
    def above(self) -> tuple[str, ...]:
        """Folders above the patient's that could have been a person's."""
        return self.people[: self.people.index(self.patient)] if self.people else ()


@functools.lru_cache(maxsize=MOST_FOLDERS)
def _of_folder(path: str, site: str) -> Label:
    """Read the label of the files in a folder. path: the folder's."""
    folders = read_folders(path)
    return Label(
        label=folders.label,
        patient="/".join([*filter(None, [site]), *folders.sites, nfc(folders.patient)])
        if folders.patient
        else "",
        split=folders.split,
        plane=_last(folders.below, PLANE_WORDS),
        site=site,
    )


def _above_patient(path: str) -> str:
    """Return the class folder, and the split's above it where there is one."""
    folders = path.split("/")
    return "/".join(folders[: 2 if folders[0].lower() in SPLIT_WORDS else 1])


@functools.lru_cache(maxsize=MOST_FOLDERS)
def read_folders(path: str) -> Folders:
    """Read the folders above a file; BadSource where none is a class. path: of the folder that holds it."""
    folders = tuple(map(as_folder, PurePosixPath(path).parts))
    split = -1
    if len(folders) >= 2 and folders[0].lower() in SPLIT_WORDS:
        split = SPLIT_WORDS[folders[0].lower()]
        folders = folders[1:]
    if not folders:
        raise BadSource(NO_CLASS_FOLDER)
    if not "/".join(folders).isprintable():
        raise BadSource("folder name with characters that cannot be printed")
    label, *below = folders
    names = [name for name in below if not is_of_images(name) and not _is_class_again(name, label)]
    people = [name for name in names if not is_study(name)] or names
    sites = tuple(itertools.takewhile(is_site, people))
    return Folders(
        split=_last(below, SPLIT_WORDS) if split < 0 else split,
        label=label,
        below=tuple(below),
        sites=sites,
        people=tuple(people[len(sites) :]),
    )


def _is_class_again(name: str, label: str) -> bool:
    """Tell whether a folder is that of the class within itself, as archives are unpacked."""
    # A number, or initials, can be those of a patient in a class of the same name.
    is_word = len(name) > LETTERS_OF_INITIALS and re.sub("[ _]", "", name).isalpha()
    return is_word and name.lower() == label.lower()


def _last(names: Sequence[str], words: Mapping[str, int]) -> int:
    """Return the number of the last name that is one of the words; -1 where none is."""
    return next((words[name.lower()] for name in reversed(names) if name.lower() in words), -1)
