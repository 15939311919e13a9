"""Labels from the names of folders."""

import functools
import re
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

from mri_hpc.base.errors import BadSource, UserError
from mri_hpc.intake.labels import SPLIT_WORDS, Label, check_patients_stay

SAYS_ITSELF = (".mat", ".MAT")
"""Ends of the names of files that say their class themselves, so that folders need not."""
NO_CLASS_FOLDER = "no label: not in a class folder"
# So many folders whose names differ in a number alone are no grades or stages.
LIKE_PATIENTS = 6
# Unless they are counted through from 0 or 1 on, and say of nobody that this is a person.
MOST_COUNTED = 20
PERSON = re.compile(
    "p|pt|pat|patients?|paciente|paziente|s|sub|subj|subjects?|sujet|proband|participant|volunteer|person|"
    "case|id|pid|mrn",
    re.IGNORECASE,
)


class FolderLabels:
    """Labels from folder names: ``CLASS/[PATIENT/]file``, or ``SPLIT/CLASS/[PATIENT/]file``.

    The first folder is a split where it is called train, training, val, valid, validation, test or testing
    and has folders of its own.
    """

    def of(self, path: str) -> Label:
        """Return the label that the folders give a source; BadSource where there is no class folder."""
        return _of_folders(path.rpartition("/")[0])

    def check(self, paths: Iterable[str]) -> None:
        """Raise UserError where a patient is in two splits."""
        in_splits = (path for path in paths if path.partition("/")[0].lower() in SPLIT_WORDS)
        # Names the folders above the patient's: the name itself may tell who it is.
        check_patients_stay(
            ((self._of(path), "below " + "/".join(path.split("/")[:2])) for path in in_splits), "the folders"
        )

    def refuse_patients(self, paths: Iterable[str]) -> None:
        """Raise UserError where classes look like patients, whose ids all would read as names of classes."""
        names = self._classes(paths)
        if _are_like_patients(names) and not _are_counted(names):
            raise UserError(
                f"{len(names)} classes named like patients: nothing is stored; --source takes the folder "
                "above the class folders, SOURCE/CLASS/PATIENT/file; if they are classes, name them in a CSV "
                "(--labels), or take --ids as-given for released data"
            )

    def hint(self, paths: Iterable[str]) -> str:
        """Return a hint where classes look like a source one folder too deep or too high; else empty."""
        names = self._classes(paths)
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

    def _classes(self, paths: Iterable[str]) -> list[str]:
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


@functools.lru_cache
def _of_folders(path: str) -> Label:
    """Read a label from folder names. path: of the folder that holds a file."""
    folders = PurePosixPath(path).parts
    split = -1
    if len(folders) >= 2 and folders[0].lower() in SPLIT_WORDS:
        split = SPLIT_WORDS[folders[0].lower()]
        folders = folders[1:]
    if not folders:
        raise BadSource(NO_CLASS_FOLDER)
    if not "/".join(folders).isprintable():
        raise BadSource("folder name with characters that cannot be printed")
    return Label(label=folders[0], patient=folders[1] if len(folders) > 1 else "", split=split)
