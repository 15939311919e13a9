"""What befell a run, as the ledger tells it."""

from mri_hpc.results.pages.history import attempts_of, resumed_steps
from mri_hpc.rundir.ledger import Event, Kind
from mri_hpc.rundir.summary import summarise


def event(attempt, kind, second, **values):
    return Event(time=float(second), attempt=attempt, kind=kind.value, values=values)


EVENTS = [
    event("1.0", Kind.SUBMITTED, 0, job_id="7"),
    event("1.0", Kind.STARTED, 10, resumed_step=0, ranks=4, host="a", job_id="7"),
    event("1.0", Kind.SAVED, 20, step=40),
    event("1.0", Kind.RANKS_GONE, 30, status=137),
    event("1.0", Kind.DECIDED, 31, decision="again", cause="node_failure", reason="node is gone"),
    event("1.1", Kind.DECIDED, 50, decision="again", cause="crash", reason="never began"),
    event("1.2", Kind.STARTED, 60, resumed_step=40, ranks=4, host="b", job_id="7"),
    event("1.2", Kind.LOST, 60, steps=9, seconds=3.0),
    event("2.0", Kind.SUBMITTED, 90, job_id="8"),
]


def test_lost_steps_stand_beside_the_attempt_that_did_them():
    attempts = attempts_of(EVENTS)
    assert [(a.attempt, a.cost.steps_lost) for a in attempts] == [
        ("1.0", 9),
        ("1.1", None),
        ("1.2", None),
        ("2.0", None),
    ]
    assert sum(a.cost.steps_lost or 0 for a in attempts) == summarise(EVENTS, [], None, 100.0).steps_lost


def test_an_attempt_says_when_it_ran_from_which_step_to_which_and_why_it_ended():
    first = attempts_of(EVENTS)[0]
    assert (first.began_s, first.ended_s, first.resumed_step, first.reached_step) == (10.0, 30.0, 0, 40)
    assert (first.cause, first.decision, first.reason) == ("node_failure", "again", "node is gone")
    assert (first.job_id, first.ranks, first.host) == ("7", 4, "a")


def test_the_cost_of_an_end_is_what_was_lost_and_the_time_until_the_next_first_step():
    events = [
        *EVENTS[:3],
        event("1.0", Kind.RANKS_GONE, 30, status=137),
        event("1.0", Kind.DECIDED, 31, decision="again", cause="crash"),
        event("1.1", Kind.STARTING, 33),
        event("1.1", Kind.STARTED, 40, resumed_step=40),
        event("1.1", Kind.LOST, 40, steps=2, seconds=4.0, last_step_s=24.0),
        event("1.1", Kind.FIRST_STEP, 45, torch=10.0, seconds=2.0),
    ]
    first = attempts_of(events)[0].cost
    assert (first.steps_lost, first.seconds_lost, first.seconds_down) == (2, 4 + 6, 1 + 2 + 10)


def test_an_attempt_that_vanished_ended_when_it_was_last_heard_of():
    events = [*EVENTS[:3], event("1.0", Kind.DECIDED, 900, decision="again", cause="vanished")]
    assert attempts_of(events)[0].ended_s == 20.0


def test_an_attempt_that_still_runs_has_no_end():
    assert attempts_of(EVENTS)[2].ended_s is None


def test_the_run_was_taken_up_again_where_later_attempts_began():
    assert resumed_steps(attempts_of(EVENTS)) == [40]


def test_attempts_are_in_order_of_their_numbers():
    events = [event(name, Kind.STARTED, 0) for name in ("1.10", "1.9", "2.0")]
    assert [a.attempt for a in attempts_of(events)] == ["1.9", "1.10", "2.0"]


def test_an_attempt_that_has_predicted_is_finished_before_its_starter_says_so():
    done = [event("1.0", Kind.STARTED, 10, resumed_step=0), event("1.0", Kind.PREDICTED, 70, images=9)]
    (attempt,) = attempts_of(done)
    assert (attempt.ended_s, attempt.cause, attempt.decision) == (70.0, "finished", "finished")
