"""Doubts about folders: what was taken for a class or a patient and looks like something else."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from mri_hpc.base.errors import BadSource
from mri_hpc.intake.labels.doubts import Doubt
from mri_hpc.intake.labels.folder_labels import Folders, read_folders
from mri_hpc.intake.labels.folder_words import is_person
from mri_hpc.intake.labels.label import SPLIT_WORDS

if TYPE_CHECKING:
    from mri_hpc.intake.labels.patient_pattern import PatientPattern

# Of the files of a class: so many below folders that are called as other classes are a second copy of these.
TWICE = 0.5
# Folders on average below one that was taken for a patient, that are no studies of theirs: where these are
# numbered and those above are not, and else.
FEW, MANY = 2, 5
OF_SITES = "^{above}(?P<site>[^/]+)/(?P<patient>[^/]+)/"


def doubts_of_folders(paths: Sequence[str], pattern: "PatientPattern | None" = None) -> list[Doubt]:
    """Return doubts about the folders that files lie in. paths: of files, below the root."""
    folders = _counted(paths)
    if len({one.label for one, _count in folders}) < 2:
        # What would be classes stands where patients do.
        return _too_high(folders)
    # Where a pattern names the patient, no folder does.
    others = _counted([path for path in paths if not pattern.named(path)]) if pattern else folders
    twice = _classes_twice(folders)
    doubts = (twice,) if twice else (_folders_of_folders(others), _in_several(others))
    return [doubt for doubt in doubts if doubt]


def _counted(paths: Iterable[str]) -> list[tuple[Folders, int]]:
    counts = Counter(path.rpartition("/")[0] for path in paths)
    return [(one, count) for path, count in counts.items() if (one := _read(path))]


def _read(path: str) -> Folders | None:
    try:
        return read_folders(path)
    except BadSource:
        return None


def _too_high(folders: list[tuple[Folders, int]]) -> list[Doubt]:
    """Find the splits of classes below the only class."""
    splits = sum(
        count for one, count in folders if len(one.below) > 1 and one.below[0].lower() in SPLIT_WORDS
    )
    if not splits:
        return []
    name = folders[0][0].label
    return [
        Doubt(
            kind="source-too-high",
            count=splits,
            text=f"all images lie below one folder, {name!r}, with folders of splits in it: give that folder "
            "as --source",
            accept="folders",
        )
    ]


def _classes_twice(folders: list[tuple[Folders, int]]) -> Doubt | None:
    """Find classes whose files lie, for the most part, in folders that are called as other classes."""
    # Numbers name grades as well as patients.
    classes = {one.label.casefold() for one, _count in folders if re.search(r"[^\W\d_]", one.label)}
    files, copies = Counter[str](), Counter[str]()
    names = defaultdict[str, set[str]](set)
    for one, count in folders:
        others = {name for name in one.below if name.casefold() in classes - {one.label.casefold()}}
        files[one.label] += count
        copies[one.label] += count if others else 0
        names[one.label] |= others
    twice = sorted(label for label in files if copies[label] and copies[label] >= TWICE * files[label])
    if not twice:
        return None
    held = ", ".join(sorted(names[twice[0]])[:4])
    return Doubt(
        kind="classes-twice",
        count=sum(copies[label] for label in twice),
        text=f"the folder {twice[0]!r} holds folders that are called as other classes ({held}), and would "
        "be a class itself: are the images there twice? Take one copy away, or give the other one alone as "
        "--source",
        accept="folders",
    )


def _folders_of_folders(folders: list[tuple[Folders, int]]) -> Doubt | None:
    """Find patients that hold no image but many folders, which look more like patients than they do."""
    below, direct = defaultdict[str, set[str]](set), set[str]()
    for one, _count in folders:
        if one.people and one.patient == one.people[-1]:
            direct.add(one.patient)
        elif one.people:
            below[one.patient].add(one.people[one.people.index(one.patient) + 1])
    groups = {name: held for name, held in below.items() if name not in direct and not is_person(name)}
    if not groups or (average := sum(map(len, groups.values())) / len(groups)) < max(
        _studies(groups), len(groups)
    ):
        return None
    return Doubt(
        kind="folders-of-folders",
        count=len(groups),
        text=f"folders in the place of patients that hold only folders, {average:.0f} on average: "
        f"{len(groups)}. Are those below them the patients? Then {_how(folders)}",
        accept="folders",
    )


def _studies(groups: Mapping[str, Iterable[str]]) -> int:
    """Return the number of folders below each of a few patients that makes them doubtful."""
    is_numbered = all(re.search(r"\d", name) for held in groups.values() for name in held)
    return FEW if is_numbered and not any(re.search(r"\d", name) for name in groups) else MANY


def _how(folders: list[tuple[Folders, int]]) -> str:
    """Say how the second folder below the class is named as the patient."""
    if all(one.people[:2] == one.below[:2] and len(one.below) > 1 for one, _count in folders):
        has_split = any(one.split >= 0 for one, _count in folders)
        return f"--patient-pattern '{OF_SITES.format(above='[^/]+/' * (2 if has_split else 1))}'"
    return "name them in a CSV (--labels, columns path, label, patient)"


def _in_several(folders: list[tuple[Folders, int]]) -> Doubt | None:
    """Find patients of one name below several folders that could be of sites."""
    above = defaultdict[str, set[tuple[str, ...]]](set)
    for one, _count in folders:
        if one.people:
            above[one.patient].add(one.above)
    doubtful = [name for name, groups in above.items() if len(groups) > 1]
    if not doubtful:
        return None
    return Doubt(
        kind="patients-in-several",
        count=len(doubtful),
        text=f"{len(doubtful)} patients lie below several folders between those of classes and patients: if "
        "they are other persons of the same number, name them in a CSV (--labels, columns path, label, "
        "patient), or the folder by a group (?P<site>...) of --patient-pattern",
        accept="folders",
    )
