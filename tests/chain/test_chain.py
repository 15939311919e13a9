"""Parts of a chain: GPU hours, failures in a row, what came."""

from types import SimpleNamespace

import numpy as np
import pytest

from mri_hpc.base.errors import UserError
from mri_hpc.chain import training
from mri_hpc.chain.delivery import delivery_of
from mri_hpc.chain.layout import chain_at
from mri_hpc.chain.links import MOST_FAILURES, Outcome, State, failures_in_a_row
from mri_hpc.chain.training import allows_leaks, gpu_hours, gpu_seconds, meant_by
from mri_hpc.cluster.scheduler import Phase
from mri_hpc.rundir import server_clock
from mri_hpc.rundir.layout import Attempt, RunDir
from mri_hpc.rundir.ledger import Event, Kind, record
from mri_hpc.rundir.settings import JobSettings, TrainingSettings, save_settings


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


WEEK_S = 7 * 86400


@pytest.mark.parametrize("decided", [{"cause": "vanished"}, {"cause": "node_failure", "status": -1}])
def test_an_attempt_that_vanished_counts_up_to_its_last_sign_whenever_others_wrote_that_down(decided):
    own = [
        event("1.0", 0, Kind.SUBMITTED, ranks=4, gpus=4),
        event("1.0", 0, Kind.STARTING),
        event("1.0", 10, Kind.STARTED, ranks=4),
        event("1.0", 3600, Kind.SAVED),
    ]
    noticed = [*own, event("1.0", WEEK_S, Kind.DECIDED, **decided)]
    assert gpu_seconds(noticed, WEEK_S + 60) == 4 * 3600
    assert (
        gpu_seconds([*noticed, event("2.0", WEEK_S, Kind.SUBMITTED, ranks=4, gpus=4)], 2 * WEEK_S) == 4 * 3600
    )
    cancelled = [*own, event("1.0", WEEK_S, Kind.CANCELLED)]
    assert gpu_seconds(cancelled, None) == 4 * 3600, "its job has gone, and nobody has said so yet"
    assert gpu_seconds(own, 7200) == 4 * 7200, "it is at work"


def test_hours_of_a_run_whose_job_has_gone_end_with_its_last_sign(tmp_path, monkeypatch):
    run = RunDir(tmp_path / "raw-1")
    run.attempts.mkdir(parents=True)
    attempt = Attempt(submission=1, restart=0)
    for kind, values in ((Kind.SUBMITTED, {"ranks": 1, "gpus": 1}), (Kind.STARTED, {"ranks": 1})):
        record(run, attempt, kind, **values)
    ahead = server_clock.now(run.attempts) + 3600
    monkeypatch.setattr(training.server_clock, "now", lambda _folder: ahead)
    assert gpu_hours([run]) < 0.01
    monkeypatch.setattr(training, "live_job", lambda _run: "job")
    for phase, is_counted in ((Phase.RUNNING, True), (Phase.PENDING, False), (Phase.GONE, False)):
        monkeypatch.setattr(training, "phase_of", lambda _job, phase=phase: phase)
        assert (gpu_hours([run]) > 0.9) == is_counted, phase

    def no_answer(_job):
        raise UserError("Slurm does not answer")

    monkeypatch.setattr(training, "phase_of", no_answer)
    assert gpu_hours([run]) > 0.9, "counted rather than given away"


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


def test_words_of_a_training_are_read_for_what_is_asked_alone(tmp_path):
    run = RunDir(tmp_path / "run")
    run.path.mkdir()
    save_settings(run, TrainingSettings(val_fold=1, test_fold=2, allow_leaks=True), JobSettings())
    learnt = SimpleNamespace(model=run, is_retracted=False)
    words = ["--val-fold", "3", "--nodes", "2"]
    meant = meant_by(words, learnt)
    assert (meant.val_fold, meant.test_fold) == (3, 2), "the other one is of the model that it goes on from"
    assert not allows_leaks(words)
    assert allows_leaks([*words, "--allow-leaks"])
    assert not allows_leaks(["--allow_leaks", "--no-allow-leaks"])
    with pytest.raises(UserError, match=r"--launch: .*explicit argument 'x'; see: mri-hpc launch --help"):
        allows_leaks(["--allow-leaks=x"])
