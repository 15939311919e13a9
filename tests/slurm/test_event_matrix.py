"""Real training, interrupted on a real Slurm: rows of tests/harness/event_matrix, which plays all of them."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from tests.harness.event_play import HEADS, Uninterrupted, play_all
from tests.harness.real_run import make_store
from tests.harness.slurm_events import ROWS

# What stand-ins for the ranks cannot show: that four real ones on two nodes hear Slurm in time and go on with
# the same bits, and that a rank which does nothing any more is ended. Suspending is played with ranks of one
# host in tests/promises, and by Slurm in the whole matrix alone.
PLAYED = ("preempted", "a rank hangs")
# Fewer steps than in the whole matrix, saved more often.
SHORT = {"epochs": 2, "checkpoint_interval_s": 1.0}
# A rank that cannot end when it is told to is killed sooner than on most clusters.
SANDBOXES = {"a rank hangs": ("--kill-wait", "5")}
PAGE = Path(__file__).parents[2] / "docs" / "preemption.md"


@pytest.fixture(scope="module")
def outcomes(slurm_possible, tmp_path_factory):
    folder = tmp_path_factory.mktemp("events")
    whole = Uninterrupted(store=make_store(folder), folder=folder, kept=folder)
    rows = [
        replace(row, **SHORT, sandbox=SANDBOXES.get(row.name, row.sandbox))
        for row in ROWS
        if row.name in PLAYED
    ]
    return {outcome.row.name: outcome for outcome in play_all(rows, whole, workers=len(rows))}


@pytest.mark.parametrize("name", PLAYED)
def test_an_interrupted_run_loses_no_more_than_promised_and_ends_as_the_uninterrupted_one(name, outcomes):
    assert outcomes[name].problems == ()
    assert outcomes[name].is_equal


def test_the_table_of_the_page_on_preemption_holds_every_event():
    _, _, below = PAGE.read_text(encoding="utf-8").partition(f"| {' | '.join(HEADS)} |\n")
    rows = re.match(r"(\|.*\n)+", below)
    assert rows, "tests/harness/event_matrix --write-table writes it"
    assert [row.split(" | ")[0].strip("| ") for row in rows[0].splitlines()[1:]] == [row.name for row in ROWS]
