"""Each test is of one kind, by the room in which it stands; its own mark goes before that of its room."""

from pathlib import Path

import pytest

# What each means stands in pyproject.toml.
KINDS = ("fast", "slurm", "slow")
ROOMS = {
    "base": "fast",
    "chain": "fast",
    "cli": "slow",
    "cluster": "slow",
    "cohort": "fast",
    "docs": "slow",
    "harness": "slow",
    "intake": "fast",
    "library": "slow",
    "loading": "fast",
    "promises": "slow",
    "results": "fast",
    "rundir": "fast",
    "slurm": "slurm",
    "storage": "fast",
    "training": "slow",
    "test_kinds.py": "fast",
    "test_layers.py": "slow",
    "test_words.py": "fast",
}
TESTS = Path(__file__).parent
# Those of all processes, which --beside gives to several.
COLLECTED = pytest.StashKey[list[pytest.Item]]()


def mark(item: pytest.Item) -> None:
    """Give a test the mark of its kind."""
    if not kinds_of(item):
        item.add_marker(ROOMS.get(item.path.relative_to(TESTS).parts[0], "slow"))


def kinds_of(item: pytest.Item) -> list[str]:
    """The kinds that a test is marked with."""
    return [kind for kind in KINDS if item.get_closest_marker(kind)]
