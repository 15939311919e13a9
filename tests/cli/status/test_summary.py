"""A run's folder is folded into what status and report show."""

import math
from dataclasses import replace

import pytest

from mri_hpc.rundir.ledger import Event, Kind
from mri_hpc.rundir.manifests import Manifest
from mri_hpc.rundir.progress import Progress
from mri_hpc.rundir.settings import TrainingSettings
from mri_hpc.rundir.summary import State, steps_an_epoch, summarise


class Ledger:
    """Events one second apart."""

    def __init__(self):
        self.events = []

    def add(self, attempt, kind, **values):
        self.events.append(
            Event(time=float(len(self.events)), attempt=attempt, kind=kind.value, values=values)
        )
        return self


def decided(ledger, attempt, decision, cause, **values):
    return ledger.add(attempt, Kind.DECIDED, decision=decision, cause=cause, reason=f"{cause}!", **values)


def preempted_then_lost_a_node():
    ledger = Ledger().add("1.0", Kind.SUBMITTED, cluster="slurm", job_id="7", ranks=4)
    ledger.add("1.0", Kind.STARTED, ranks=4, host="n1", job_id="7")
    decided(ledger, "1.0", "again", "preempted")
    ledger.add("1.1", Kind.STARTED, ranks=4, host="n2", job_id="7")
    decided(ledger, "1.1", "again", "node_failure")
    ledger.add("1.2", Kind.STARTED, ranks=4, host="n3", job_id="7")
    return ledger.add("1.2", Kind.LOST, steps=30, seconds=12.5)


def steps(count, *, an_epoch=10, seconds=0.5):
    lines = []
    for step in range(1, count + 1):
        epoch = (step - 1) // an_epoch
        lines.append({"step": step, "epoch": epoch, "loss": 1 / step, "images": 8, "seconds": seconds})
        if step % an_epoch == 0:
            lines.append({"step": step, "epoch": epoch, "validation_loss": abs(2.1 - epoch)})
    return lines


def manifest_at(step):
    progress = Progress(step=step, epoch=step // 10, samples_digest="aa")
    return Manifest(
        progress=progress, attempt="1.0", written_s=0.0, weights_digest="bb", files={}, conditions={}
    )


@pytest.mark.parametrize(
    ("decision", "cause", "state"),
    [
        ("again", "preempted", State.REQUEUED),
        ("again", "crash", State.REQUEUED),
        ("finished", "finished", State.FINISHED),
        ("stay_away", "cancelled", State.CANCELLED),
        ("give_up", "crash", State.GAVE_UP),
        ("give_up", "user_error", State.FAILED),
    ],
)
def test_the_last_decision_says_how_the_run_stands(decision, cause, state):
    ledger = decided(Ledger().add("1.0", Kind.STARTED, ranks=1), "1.0", decision, cause)
    assert summarise(ledger.events, [], None, now=9.0).state == state


def test_a_run_is_pending_then_runs():
    ledger = Ledger().add("1.0", Kind.SUBMITTED, ranks=2)
    assert summarise(ledger.events, [], None, now=9.0).state == State.PENDING
    assert summarise(ledger.add("1.0", Kind.STARTING).events, [], None, now=9.0).state == State.STARTING
    assert summarise(ledger.add("1.0", Kind.STARTED).events, [], None, now=9.0).state == State.RUNNING
    assert summarise([], [], None, now=9.0).state == State.PENDING


def test_a_supervisor_that_is_faster_than_the_launch_that_notes_it_still_runs():
    ledger = Ledger().add("1.0", Kind.STARTED).add("1.0", Kind.SUBMITTED)
    assert summarise(ledger.events, [], None, now=9.0).state == State.RUNNING


def test_what_an_attempt_that_was_cut_off_still_says_is_not_how_the_run_stands():
    ledger = Ledger().add("1.0", Kind.STARTED).add("2.0", Kind.SUBMITTED).add("2.0", Kind.STARTED)
    decided(ledger, "1.0", "stay_away", "superseded")
    summary = summarise(ledger.events, [], None, now=9.0)
    assert (summary.state, summary.reason) == (State.RUNNING, "")


def test_restarts_causes_and_losses_are_counted():
    summary = summarise(preempted_then_lost_a_node().events, [], None, now=10.0)
    assert summary.restarts == 2
    assert summary.causes == {"preempted": 1, "node_failure": 1}
    assert (summary.steps_lost, summary.seconds_lost) == (30, 12.5)
    assert (summary.attempt, summary.job_id, summary.ranks, summary.host) == ("1.2", "7", 4, "n3")
    assert summary.since_s == 4.0


def test_an_attempt_that_failed_before_its_ranks_started_is_a_restart_too():
    ledger = decided(Ledger().add("1.0", Kind.STARTED), "1.0", "again", "requeued")
    decided(ledger, "1.1", "give_up", "user_error")
    assert summarise(ledger.events, [], None, now=9.0).restarts == 1


def test_a_loss_is_charged_to_the_attempt_that_caused_it():
    history = summarise(preempted_then_lost_a_node().events, [], None, now=10.0).history
    assert [(r.attempt, r.cause, r.steps_lost) for r in history] == [
        ("1.0", "preempted", 0),
        ("1.1", "node_failure", 30),
    ]


def test_a_clock_that_was_set_back_between_two_attempts_leaves_a_summary():
    events = preempted_then_lost_a_node().events
    turned = [replace(event, time=event.time + 1000.0 * (event.attempt == "1.0")) for event in events]
    for now in (2.0, 2000.0):
        history = summarise(turned, [], None, now).history
        assert [restart.attempt for restart in history] == ["1.0", "1.1"]


def test_a_second_word_about_an_attempt_replaces_the_first():
    ledger = decided(Ledger().add("1.0", Kind.STARTED), "1.0", "again", "preempted")
    decided(ledger, "1.0", "give_up", "preempted")
    summary = summarise(ledger.events, [], None, now=9.0)
    assert summary.state == State.GAVE_UP
    assert summary.causes == {"preempted": 1}


def test_the_reason_and_the_last_words_are_shown_only_while_nothing_runs():
    ledger = decided(Ledger().add("1.0", Kind.STARTED), "1.0", "give_up", "crash", last_words=["boom"])
    summary = summarise(ledger.events, [], None, now=9.0)
    assert (summary.reason, summary.last_words) == ("crash!", ("boom",))
    ledger.add("2.0", Kind.SUBMITTED).add("2.0", Kind.STARTED)
    assert summarise(ledger.events, [], None, now=9.0).reason == ""


def test_a_run_cancelled_while_it_waits_does_not_give_the_reason_of_the_attempt_before():
    ledger = decided(Ledger().add("1.0", Kind.STARTED), "1.0", "again", "preempted")
    summary = summarise(ledger.add("1.0", Kind.CANCELLED).events, [], None, now=9.0)
    assert (summary.state, summary.reason) == (State.CANCELLED, "")


def test_a_finished_run_gives_no_reason_also_before_its_end_was_noted():
    ledger = decided(Ledger().add("1.0", Kind.STARTED), "1.0", "again", "preempted")
    assert summarise(ledger.events, [], None, now=9.0, is_finished=True).reason == ""


def test_progress_speed_and_time_left_come_from_the_metrics():
    summary = summarise([], steps(25), manifest_at(20), now=0.0, epochs=6)
    assert (summary.epoch, summary.step, summary.saved_step) == (2, 25, 20)
    assert summary.images_per_s == 16.0
    assert summary.time_left_s == (60 - 25) * 0.5
    assert (summary.validation_loss, summary.best_validation_loss, summary.best_epoch) == (1.1, 1.1, 1)
    assert (summary.weights_digest, summary.samples_digest) == ("bb", "aa")


def test_before_the_first_validation_the_time_left_is_unknown():
    assert summarise([], steps(5), None, now=0.0, epochs=6).time_left_s is None
    assert steps_an_epoch(steps(5)) is None
    assert steps_an_epoch(steps(25)) == 10


def test_a_validation_loss_that_is_no_number_is_never_the_best():
    lines = [
        {"step": 10, "epoch": 0, "validation_loss": math.nan},
        {"step": 20, "epoch": 1, "validation_loss": 0.5},
    ]
    assert summarise([], lines, None, now=0.0).best_validation_loss == 0.5


def test_done_outweighs_whatever_the_ledger_says():
    ledger = decided(Ledger().add("1.0", Kind.STARTED), "1.0", "again", "preempted")
    assert (
        summarise(ledger.events, steps(25), None, now=0.0, epochs=6, is_finished=True).state == State.FINISHED
    )


def test_batch_size_and_rate_are_known_once_auto_is_settled_and_the_parent_from_the_start():
    settings = TrainingSettings(batch_size="auto", continue_from="/runs/first")
    before = summarise([], [], None, now=0.0, settings=settings)
    assert (before.batch_size, before.highest_lr, before.continued_from) == (None, None, "/runs/first")
    after = summarise([], [], None, now=0.0, settings=replace(settings, batch_size=256, lr=2e-3))
    assert (after.batch_size, after.highest_lr) == (256, 2e-3)
