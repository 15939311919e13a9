"""Parts of a chain: GPU hours, failures in a row, what came."""

from types import SimpleNamespace

import numpy as np
import pytest

from mri_hpc.chain.delivery import delivery_of
from mri_hpc.chain.layout import chain_at
from mri_hpc.chain.links import MOST_FAILURES, Outcome, State, failures_in_a_row
from mri_hpc.chain.training import gpu_seconds
from mri_hpc.rundir.ledger import Event, Kind


def event(attempt, time_s, kind, **values):
    return Event(attempt=attempt, time=time_s, kind=kind, values=values)


def test_gpu_seconds_are_those_between_start_and_end_of_all_attempts_times_their_gpus():
    ended = [
        event("1.0", 0, Kind.SUBMITTED, ranks=4, gpus=4),
        event("1.0", 100, Kind.STARTING),
        event("1.0", 130, Kind.STARTED, ranks=4),
        event("1.0", 300, Kind.DECIDED),
        event("1.1", 500, Kind.STARTING),
        event("1.1", 510, Kind.STARTED, ranks=2),
    ]
    assert gpu_seconds(ended, 600) == 4 * 200 + 2 * 100, "the newest counts up to now"
    # One that vanished counts up to its last sign, once another was begun.
    again = [*ended, event("2.0", 900, Kind.SUBMITTED, ranks=4, gpus=8), event("2.0", 950, Kind.STARTING)]
    assert gpu_seconds([*again, event("2.0", 960, Kind.STARTED, ranks=4)], 1000) == 4 * 200 + 2 * 10 + 8 * 50
    without = [event("1.0", 0, Kind.SUBMITTED, ranks=4), *ended[1:]]
    assert gpu_seconds(without, 600) == 0, "on processors"


def test_failures_in_a_row_are_those_of_jobs_since_a_person_typed_one():
    def link(state, *, is_of_job=True):
        return Outcome(number=1, state=state, words="", is_of_job=is_of_job)

    failed = link(State.FAILED)
    assert failures_in_a_row([failed] * MOST_FAILURES) == MOST_FAILURES
    assert failures_in_a_row([failed, link(State.NOTHING), failed]) == 1
    assert failures_in_a_row([failed, failed, link(State.STOPPED)]) == 0
    assert failures_in_a_row([failed, link(State.FAILED, is_of_job=False), failed]) == 1


def snapshot(keys, labels, classes, generation=None):
    return SimpleNamespace(
        key=np.array(keys, np.uint64), label=np.array(labels), classes=classes,
        generation=np.array(generation or [0] * len(keys)), __len__=lambda: len(keys),
    )  # fmt: skip


def test_what_came_is_new_replaced_or_labelled_otherwise_by_name():
    before = snapshot([1, 2, 3, 5], [0, 1, -1, 0], ("b", "c"))
    now = snapshot([2, 3, 4, 5, 6], [2, -1, 0, 2, 1], ("a", "b", "c"), [0, 0, 0, 0, 0])
    found = delivery_of(now, before)
    assert (found.rows.tolist(), found.num_gone) == ([2, 3, 4], 1), "of 5 the class has another name"
    assert found.words == "3 new or changed images, 1 gone"
    replaced = snapshot([1, 2, 3, 5], [0, 1, -1, 0], ("b", "c"), [0, 1, 0, 0])
    assert delivery_of(replaced, before).rows.tolist() == [1]
    assert delivery_of(before, before).is_nothing


def test_a_chain_whose_name_no_model_could_have_is_refused(tmp_path):
    with pytest.raises(Exception, match="is no name for a chain"):
        chain_at(tmp_path / "a b")
