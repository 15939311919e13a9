"""Prints requirements.lock: the versions, in this environment, of what mri_hpc needs and of what that needs.

Refresh it in an environment whose tests pass:  .venv/bin/python tools/lock.py > requirements.lock
"""

import importlib.metadata
import re
from collections.abc import Iterable, Iterator

from packaging.requirements import Requirement

PROJECT = "mri_hpc"
# torch names these exactly by itself, and they differ from one kind of machine to another.
OF_TORCH = re.compile(r"nvidia-|cuda-|triton$")
HEAD = """\
# Versions with which the tests passed, of all that mri_hpc needs; without test tools. NVIDIA's libraries are
# left out: torch asks for exact ones itself. Used by: bash tools/install_cluster.sh --lock
# Refresh, in an environment whose tests pass: .venv/bin/python tools/lock.py > requirements.lock"""


def main() -> None:
    """Print the lock."""
    print(HEAD)
    names = sorted(closure([PROJECT]) - {normal(PROJECT)})
    for name in names:
        print(f"{name}=={importlib.metadata.version(name).partition('+')[0]}")


def closure(names: Iterable[str]) -> set[str]:
    """These distributions, and all that they need here."""
    found: set[str] = set()
    waiting = [normal(name) for name in names]
    while waiting:
        name = waiting.pop()
        if name not in found and not OF_TORCH.match(name):
            found.add(name)
            waiting += needs(name)
    return found


def needs(name: str) -> Iterator[str]:
    """What a distribution needs, without its extras."""
    for text in importlib.metadata.requires(name) or []:
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate({"extra": ""}):
            yield normal(requirement.name)


def normal(name: str) -> str:
    """The name as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    main()
