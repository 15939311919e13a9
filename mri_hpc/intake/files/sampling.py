"""A sample of the files below a root, found in seconds however many there are."""

import itertools
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TypeVar

from mri_hpc.intake.files.sources import is_folder, is_passed_over, members_or_itself

T = TypeVar("T")

MOST_NAMES = 2000
"""Names of one folder that are looked at: on a network disk each may cost a question."""
MOST_LEVELS = 32
MOST_OF_ARCHIVE = 4


def sample_files(root: Path, most: int) -> list[str]:
    """Return paths of some files below the root, at most so many, from folders as different as there are."""
    found = _below(root, "", most, MOST_LEVELS)
    return sorted(
        name for path in found for name in _spread([*members_or_itself(root, path)], MOST_OF_ARCHIVE)
    )


def _below(root: Path, path: str, most: int, levels: int) -> list[str]:
    """Take files from a folder and, evenly, from those in it. levels: how deep it may go on."""
    folders, files = _some_names(root / path)
    prefix = f"{path}/" if path else ""
    if not folders or not levels:
        return [prefix + name for name in _spread(files, most)]
    own = [prefix + name for name in _spread(files, max(1, most // 8))]
    chosen = _spread(folders, most)
    shares = _shares(most - len(own), len(chosen))
    below = [
        _below(root, prefix + name, share, levels - 1)
        for name, share in zip(chosen, shares, strict=True)
        if share
    ]
    return [*own, *itertools.chain(*below)]


def _some_names(folder: Path) -> tuple[list[str], list[str]]:
    """Return names of folders and of files in a folder, sorted; none where it cannot be listed."""
    folders: list[str] = []
    files: list[str] = []
    try:
        with os.scandir(folder) as entries:
            for entry in itertools.islice(entries, MOST_NAMES):
                if not is_passed_over(entry.name):
                    (folders if is_folder(entry) else files).append(entry.name)
    except OSError:
        pass
    return sorted(folders), sorted(files)


def _spread(items: Sequence[T], most: int) -> list[T]:
    """Take at most so many, evenly spread."""
    if len(items) <= most:
        return list(items)
    return [items[number * len(items) // most] for number in range(most)]


def _shares(total: int, parts: int) -> list[int]:
    """Divide a number as evenly as may be."""
    return [(number + 1) * total // parts - number * total // parts for number in range(parts)]
