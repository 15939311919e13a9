"""Every second of a run is in one part of its wall clock."""

import pytest

from mri_hpc.rundir.ledger import Event, Kind
from mri_hpc.rundir.wall_clock import WallClock, account, by_one_clock


class Ledger:
    """A ledger and metrics by hand."""

    def __init__(self):
        self.events, self.metrics, self.attempt = [], [], "1.0"

    def at(self, second, kind, **values):
        self.events.append(Event(time=float(second), attempt=self.attempt, kind=kind.value, values=values))
        return self

    def steps(self, first, last, seconds):
        """Steps that are still in metrics.jsonl."""
        self.metrics += [
            {"step": step, "loss": 1.0, "seconds": seconds, "attempt": self.attempt}
            for step in range(first, last + 1)
        ]
        return self

    def next(self, attempt):
        self.attempt = attempt
        return self

    def started(self, began, ready, *, first_step, epoch=0):
        """Ranks that start, and take their first step."""
        self.at(began, Kind.STARTING).at(ready - 1, Kind.STARTED, epoch=epoch)
        return self.at(ready + first_step, Kind.FIRST_STEP, torch=ready - began, seconds=first_step)

    def decided(self, second, decision, cause, gone=None):
        if gone is not None:
            self.at(gone, Kind.RANKS_GONE)
        return self.at(second, Kind.DECIDED, decision=decision, cause=cause)

    def clock(self, now=1000.0):
        clock = account(self.events, self.metrics, now)
        shown = {name: seconds for name, seconds in clock.parts.items() if seconds}
        return clock, shown


def up_to_the_first_checkpoint():
    """Ten steps of 2 s, a save of 1 s, two more steps."""
    ledger = Ledger().at(0, Kind.SUBMITTED).started(10, 20, first_step=2).steps(1, 10, 2.0)
    return ledger.at(41, Kind.SAVED, step=10, seconds=1.0)


def finish(ledger, began, *, steps, epoch=0):
    """Resume, take some steps of 2 s, and end: 10 s + steps + 1 s validation + 2 s saving + 3 s + 1 s."""
    ready = began + 10
    ledger.started(began, ready, first_step=2, epoch=epoch).steps(steps[0], steps[1], 2.0)
    trained = ready + 2 * (steps[1] - steps[0] + 1)
    ledger.at(trained + 1, Kind.EPOCH, epoch=epoch, training_s=trained - ready, validation_s=1.0)
    ledger.at(trained + 3, Kind.SAVED, step=steps[1], seconds=2.0).at(trained + 3, Kind.TRAINED)
    ledger.at(trained + 6, Kind.PREDICTED, seconds=3.0)
    return ledger.decided(trained + 7, "finished", "finished", gone=trained + 7)


def test_nothing_has_happened_yet():
    assert account([], [], 9.0) == WallClock()


def test_an_uninterrupted_run():
    clock, parts = finish(Ledger().at(0, Kind.SUBMITTED), 5, steps=(1, 10)).clock()
    assert parts == {
        "queueing": 5, "starting": 10, "training": 20, "validation": 1, "saving": 2, "predicting": 3,
        "stopping": 1,
    }  # fmt: skip
    assert clock.total == 42
    assert (clock.ettr, clock.ettr_without_queueing) == (round(24 / 42, 4), round(24 / 37, 4))


def test_parts_that_are_rounded_leave_no_thousandth_below_zero():
    ledger = Ledger().at(0, Kind.SUBMITTED).at(2.7786, Kind.STARTING).at(3, Kind.STARTED)
    _, parts = ledger.decided(5.5572, "finished", "finished", gone=5.5566).clock()
    assert parts == {"queueing": 2.779, "starting": 2.778, "stopping": 0.001}


def test_a_preempted_run_waits_in_the_queue_and_loses_nothing():
    ledger = up_to_the_first_checkpoint().steps(11, 12, 2.0)
    ledger.at(45, Kind.STOP_AGREED, phase="training", unfinished_s=0.0).at(46, Kind.SAVED, seconds=1.0)
    ledger.decided(48, "again", "preempted", gone=47).next("1.1")
    clock, parts = finish(ledger, 108, steps=(13, 14)).clock()
    assert parts == {
        "queueing": 10 + 60, "starting": 20, "training": 28, "validation": 1, "saving": 1 + 1 + 2,
        "predicting": 3, "stopping": 2 + 1,
    }  # fmt: skip
    assert (clock.costs[0].steps_lost, clock.costs[0].seconds_lost) == (0, 0.0)
    assert clock.costs[0].seconds_down == 2 + 60 + 10


def died_at_step_12():
    """Its last two steps are in no checkpoint, its end is noticed 30 s after them."""
    ledger = up_to_the_first_checkpoint().decided(76, "again", "crash", gone=75).next("1.1")
    return ledger.at(76, Kind.LOST, steps=2, seconds=4.0, last_step_s=45.0)


def test_of_steps_done_again_the_first_time_is_lost_and_so_is_the_wait_until_a_death_is_noticed():
    clock, parts = finish(died_at_step_12(), 76, steps=(11, 12)).clock()
    assert parts == {
        "queueing": 10, "starting": 20, "training": 20 + 4, "validation": 1, "saving": 1 + 2,
        "predicting": 3, "lost": 4 + 30, "stopping": 1 + 1,
    }  # fmt: skip
    assert (clock.costs[0].steps_lost, clock.costs[0].seconds_lost) == (2, 34.0)
    assert clock.costs[1].steps_lost is None


def test_steps_after_the_last_checkpoint_of_a_dead_attempt_are_lost_before_anybody_has_found_that():
    ledger = up_to_the_first_checkpoint().steps(11, 12, 2.0).decided(76, "again", "crash", gone=75)
    _, parts = ledger.clock(now=80)
    assert parts == {
        "queueing": 10 + 4, "starting": 10, "training": 20, "saving": 1, "lost": 4 + 30, "stopping": 1
    }  # fmt: skip


def test_a_validation_that_a_damaged_checkpoint_takes_away_is_lost():
    ledger = up_to_the_first_checkpoint()
    ledger.at(51, Kind.EPOCH, epoch=0, training_s=20.0, validation_s=10.0).at(52, Kind.SAVED, seconds=1.0)
    ledger.at(53, Kind.STOP_AGREED, phase="training", unfinished_s=1.0)
    ledger.decided(54, "again", "requeued", gone=54).next("1.1")
    _, parts = finish(ledger, 54, steps=(11, 12), epoch=0).clock()
    assert (parts["validation"], parts["lost"]) == (1, 10 + 1)
    assert "unaccounted" not in parts


def test_a_validation_that_was_stopped_is_lost():
    ledger = up_to_the_first_checkpoint()
    ledger.at(49, Kind.STOP_AGREED, phase="validation", unfinished_s=8.0)
    ledger.decided(50, "again", "stopped", gone=50).next("1.1")
    _, parts = finish(ledger, 50, steps=(11, 12)).clock()
    assert parts["lost"] == 8
    assert "unaccounted" not in parts


@pytest.mark.parametrize("ends", [{"kind": Kind.STOP_AGREED, "unfinished_s": 7.0}, None])
def test_an_attempt_that_ends_before_its_first_step_was_starting(ends):
    ledger = Ledger().at(0, Kind.SUBMITTED).at(10, Kind.STARTING).at(18, Kind.STARTED, epoch=0)
    if ends:
        ledger.at(20, **ends)
    ledger.decided(20, "again", "stopped", gone=20).next("1.1")
    _, parts = finish(ledger, 20, steps=(1, 2)).clock()
    assert parts["starting"] == 10 + 10
    assert not {"lost", "unaccounted"} & set(parts)


def test_until_somebody_launches_it_again_a_cancelled_run_is_away_which_is_no_fault_of_the_cluster():
    ledger = up_to_the_first_checkpoint().at(42, Kind.CANCELLED)
    ledger.at(43, Kind.STOP_AGREED, unfinished_s=2.0).decided(44, "stay_away", "cancelled", gone=44)
    _, parts = ledger.clock(now=500)
    assert "away" not in parts
    assert sum(parts.values()) == 44
    ledger.next("2.0").at(600, Kind.SUBMITTED)
    clock, parts = finish(ledger, 605, steps=(11, 12)).clock()
    assert (parts["away"], parts["queueing"]) == (600 - 44, 10 + 5)
    assert clock.ettr == round((20 + 4 + 1 + 3) / (clock.total - 556), 4)


def test_a_run_that_vanished_was_away_since_it_was_last_heard_of():
    ledger = up_to_the_first_checkpoint().decided(300, "again", "vanished").next("2.0")
    ledger.at(300, Kind.SUBMITTED).at(311, Kind.LOST, steps=2, seconds=4.0, last_step_s=45.0)
    _, parts = finish(ledger, 301, steps=(11, 12)).clock()
    assert (parts["away"], parts["queueing"], parts["lost"]) == (300 - 45, 10 + 1, 4)
    assert "unaccounted" not in parts


def test_a_node_that_died_without_a_word_left_the_run_queueing():
    ledger = up_to_the_first_checkpoint().decided(300, "again", "node_failure").next("1.1")
    ledger.at(311, Kind.LOST, steps=2, seconds=4.0, last_step_s=45.0)
    _, parts = finish(ledger, 301, steps=(11, 12)).clock()
    assert parts["queueing"] == 10 + 301 - 45


def test_of_a_run_that_waits_starts_or_works_the_clock_goes_on():
    ledger = Ledger().at(0, Kind.SUBMITTED)
    assert ledger.clock(now=7)[1] == {"queueing": 7}
    assert ledger.at(10, Kind.STARTING).clock(now=17)[1] == {"queueing": 10, "starting": 7}
    parts = up_to_the_first_checkpoint().clock(now=47)[1]
    assert parts == {"queueing": 10, "starting": 10, "training": 20, "saving": 1, "under_way": 6}
    requeued = up_to_the_first_checkpoint().decided(76, "again", "crash", gone=75)
    assert requeued.clock(now=100)[1]["queueing"] == 10 + 100 - 76
    assert Ledger().at(0, Kind.SUBMITTED).at(9, Kind.CANCELLED).clock(now=99)[1] == {"queueing": 9}


def test_what_an_attempt_that_was_cut_off_still_says_is_not_counted_twice():
    ledger = up_to_the_first_checkpoint()
    ledger.at(700, Kind.STOP_AGREED, unfinished_s=0.0).decided(701, "stay_away", "superseded", gone=701)
    ledger.next("2.0").at(60, Kind.SUBMITTED)
    clock, parts = finish(ledger, 61, steps=(11, 12)).clock()
    assert clock.total == 61 + 10 + 4 + 7
    assert parts["away"] == 60 - 41
    assert "unaccounted" not in parts


def test_ranks_that_were_started_by_hand_tell_their_age():
    ledger = Ledger().at(18, Kind.STARTED, epoch=0)
    ledger.at(22, Kind.FIRST_STEP, python=1.0, torch=7.0, join=2.0, first_step=2.0, seconds=2.0)
    ledger.steps(1, 1, 2.0)
    assert ledger.clock(now=22)[1] == {"starting": 10, "training": 2}


def test_seconds_that_no_event_tells_of_stand_on_a_line_of_their_own():
    ledger = up_to_the_first_checkpoint().at(51, Kind.SAVED, step=10, seconds=1.0)
    ledger.at(51, Kind.STOP_AGREED, unfinished_s=0.0).decided(51, "again", "stopped", gone=51)
    assert ledger.clock(now=51)[1]["unaccounted"] == 9


def behind(events, seconds):
    """The same events, as a machine writes them whose clock is behind."""
    return [Event(time=e.time - seconds, attempt=e.attempt, kind=e.kind, values=e.values) for e in events]


def test_an_attempt_on_a_node_whose_clock_is_behind_makes_no_part_negative():
    """The first attempt is preempted; the second goes on where clocks are two minutes behind."""
    ledger = up_to_the_first_checkpoint().steps(11, 12, 2.0)
    ledger.at(45, Kind.STOP_AGREED, phase="training", unfinished_s=0.0).at(46, Kind.SAVED, seconds=1.0)
    ledger.decided(47, "again", "preempted", gone=46)
    before = len(ledger.events)
    finish(ledger.next("1.1"), 57, steps=(13, 14))
    steady, _ = ledger.clock()
    ledger.events = [*ledger.events[:before], *behind(ledger.events[before:], 120)]
    clock, parts = ledger.clock()
    assert all(seconds > 0 for seconds in parts.values()), parts
    assert clock.training == steady.training
    # Nobody knows for how long it waited: the two minutes are gone, and that wait.
    assert clock.total == pytest.approx(steady.total - 10, abs=5)


def test_times_that_are_in_order_stay_as_they_are_and_so_does_what_no_clock_explains():
    ledger = finish(Ledger().at(0, Kind.SUBMITTED), 5, steps=(1, 10))
    assert by_one_clock(ledger.events) == ledger.events
    years = [*ledger.events, *behind(Ledger().next("2.0").at(0, Kind.SUBMITTED).events, 10_000)]
    assert by_one_clock(years) == years
