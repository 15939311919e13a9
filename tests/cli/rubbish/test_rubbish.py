"""Rubbish in, one clear line out: what, where, what was found, what to do. Nothing is lost."""

import pytest

from mri_hpc.__main__ import COMMANDS
from tests.cli.rubbish.corpus import CASES
from tests.cli.rubbish.desk import Desk, Patterns, new_folder
from tests.harness.disks import can_mount


@pytest.fixture(scope="session")
def patterns():
    """The source, the store and the run of which every case has copies."""
    with new_folder() as folder:
        yield Patterns(folder)


@pytest.fixture(scope="session")
def met():
    """Commands that have met rubbish so far."""
    return set()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_rubbish_in_gives_one_clear_line_and_nothing_is_lost(case, patterns, met):
    if case.needs_mount and not can_mount():
        pytest.skip("only root may mount a disk of its own")
    with new_folder() as folder:
        argv, _outcome = case.play(Desk(folder, patterns))
        met.add(argv[0])


def test_no_case_is_there_twice():
    assert len(CASES) >= 75
    assert len({case.name for case in CASES}) == len(CASES)


def test_every_command_meets_rubbish(met):
    assert set(met) >= set(COMMANDS) - {"doctor"}
