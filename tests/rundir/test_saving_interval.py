"""How often a run saves: little more is lost than must be, whatever a save costs and an attempt dies of."""

import math
import random

import pytest

from mri_hpc.rundir.layout import Attempt
from mri_hpc.rundir.ledger import Event, Kind
from mri_hpc.rundir.saving_interval import (
    LEAST_S,
    MOST_S,
    Cost,
    Failures,
    Pace,
    choose,
    costs_of,
    failures_of,
    words_of,
)

HOUR = 3600.0
PARTS = 4
"""Of the time between two failures, in each of which the interval is chosen once."""


def costing(seconds):
    return [Cost(held_s=seconds, written_s=seconds)]


def loss_rate(interval_s, cost_s, between_s):
    """Fraction of the time that goes into saves, and into work done again: half an interval a failure."""
    return cost_s / interval_s + interval_s / (2 * between_s)


def least_rate(cost_s, between_s):
    """That of the best interval within the bounds, for one who knows what is to come."""
    best = min(max(math.sqrt(2 * cost_s * between_s), LEAST_S), MOST_S)
    return loss_rate(best, cost_s, between_s)


def chosen_rate(cost_s, between_s, length_s, chance):
    """That of the intervals that are chosen while failures come at random, known once they have come."""
    now, number, lost = 0.0, 0, 0.0
    while now < length_s:
        end = min(length_s, now + chance.expovariate(1 / between_s))
        for part in range(PARTS):
            watched_s = now + (end - now) * (part + 0.5) / PARTS
            chosen = choose(costing(cost_s), Failures(number=number, watched_s=watched_s))
            lost += loss_rate(chosen.seconds, cost_s, between_s) * (end - now) / PARTS
        now, number = end, number + 1
    return lost / length_s


@pytest.mark.parametrize("failures", [1, 3, 10])
@pytest.mark.parametrize("between_h", [3, 6, 24, 7 * 24])
@pytest.mark.parametrize("cost_s", [0.02, 0.5, 5.0])
def test_the_expected_loss_is_within_a_fifth_of_the_least_from_the_first_hour_on(cost_s, between_h, failures):
    chance = random.Random(0)
    rates = [
        chosen_rate(cost_s, between_h * HOUR, failures * between_h * HOUR, chance)
        for _ in range(150 // failures)
    ]
    assert sum(rates) / len(rates) <= 1.2 * least_rate(cost_s, between_h * HOUR)


def test_the_loss_by_failures_one_by_one_is_the_expected_one():
    chance, cost_s, between_s, interval_s = random.Random(0), 1.0, HOUR, 85.0
    lost = done = 0.0
    for _ in range(2000):
        life_s = chance.expovariate(1 / between_s)
        saves = int(life_s / (interval_s + cost_s))
        done, lost = done + life_s, lost + life_s - saves * interval_s
    assert lost / done == pytest.approx(loss_rate(interval_s, cost_s, between_s), rel=0.05)


def test_the_interval_stays_within_its_bounds_and_the_writer_has_its_time():
    often, never = Failures(number=10_000, watched_s=1.0), Failures(watched_s=1e9)
    assert choose(costing(1e-3), often).seconds == LEAST_S
    assert choose(costing(100.0), never).seconds == MOST_S
    # Nine tenths of the time nothing is written, whatever that leads to.
    assert choose([Cost(held_s=1e-3, written_s=30.0)], often).seconds == 300.0
    assert choose([Cost(held_s=1e-3, written_s=900.0)], often).seconds == 9000.0
    assert choose([], often).seconds == LEAST_S
    # One save that a busy disk has held up says nothing of the others.
    assert choose([*costing(0.1), *costing(60.0), *costing(0.1)], never).held_s == 0.1


class Ledger:
    """Events, one attempt after the other."""

    def __init__(self):
        self.events = []

    def at(self, time_s, restart, kind, **values):
        attempt = str(Attempt(submission=1, restart=restart))
        self.events.append(Event(time=time_s, attempt=attempt, kind=kind, values=values))
        return self


def test_attempts_that_died_or_relied_on_a_checkpoint_are_failures_and_no_others():
    ledger = Ledger()
    ledger.at(0, 0, Kind.STARTING).at(10, 0, Kind.STARTED).at(110, 0, Kind.RANKS_GONE)
    ledger.at(111, 0, Kind.DECIDED, cause="crash")
    # Told to stop, and saved; then relying on what was saved.
    ledger.at(200, 1, Kind.STARTED).at(300, 1, Kind.STOP_AGREED, way="finish").at(301, 1, Kind.DECIDED)
    ledger.at(400, 2, Kind.STARTED).at(450, 2, Kind.STOP_AGREED, way="rely").at(451, 2, Kind.DECIDED)
    # The node was lost: nobody could say so.
    ledger.at(500, 3, Kind.STARTED).at(600, 3, Kind.SAVED)
    # Ranks that never came, and an error that comes again however often one saves.
    ledger.at(700, 4, Kind.STARTING).at(701, 4, Kind.RANKS_GONE)
    ledger.at(800, 5, Kind.STARTED).at(850, 5, Kind.RANKS_GONE).at(851, 5, Kind.DECIDED, cause="user_error")
    ledger.at(900, 6, Kind.STARTED)
    assert failures_of(ledger.events, now=1000) == Failures(
        number=3, watched_s=100 + 100 + 50 + 100 + 50 + 100
    )
    assert failures_of(ledger.events[:2], now=60) == Failures(number=0, watched_s=50)
    ledger.at(1000, 6, Kind.TRAINED).at(1100, 6, Kind.RANKS_GONE)
    # It had learnt what there was, and left.
    ledger.at(1200, 7, Kind.STARTED).at(1300, 7, Kind.CAUGHT_UP).at(1301, 7, Kind.RANKS_GONE)
    assert failures_of(ledger.events, now=9999).number == 3
    assert failures_of([], now=9999) == Failures()


def test_what_a_save_costs_is_what_it_holds_up_and_slows_and_a_stop_costs_none():
    ledger = Ledger()
    ledger.at(1, 0, Kind.SAVED, seconds=0.2, written_s=9.0, work_s=3.0, slowed_s=0.3, reason="interval")
    # Of versions before, for which all waited.
    ledger.at(2, 0, Kind.SAVED, seconds=4.0, reason="epoch").at(3, 0, Kind.SAVED, seconds=5.0, reason="stop")
    assert costs_of(ledger.events) == [Cost(held_s=0.5, written_s=9.0), Cost(held_s=4.0, written_s=4.0)]


SAVED = {"seconds": 2.0, "written_s": 3.0, "slowed_s": 0.0, "reason": "interval"}


def test_an_attempt_goes_by_what_its_saves_cost_and_notes_the_interval_where_it_is_another():
    pace = Pace("auto", [], now=0)
    assert pace.seconds == LEAST_S
    noted = pace.add(SAVED, now=60)
    assert pace.seconds == noted.seconds == pytest.approx(math.sqrt(2 * 2.0 * noted.between_s), rel=0.01)
    assert pace.add(SAVED, now=400) is None
    ledger = Ledger().at(0, 0, Kind.STARTED).at(60, 0, Kind.SAVED, **SAVED)
    ledger.at(60, 0, Kind.INTERVAL, **noted.to_values()).at(90, 0, Kind.RANKS_GONE)
    # The next attempt knows both, and that there was a failure: it saves more often.
    again = Pace("auto", ledger.events, now=100)
    assert again.seconds == pytest.approx(noted.seconds / math.sqrt(3), rel=0.01)
    assert again.add({**SAVED, "reason": "stop"}, now=101) is None
    assert again.add(SAVED, now=102).failures == 1


def test_an_interval_that_was_typed_wins_and_notes_nothing():
    pace = Pace(7.0, [], now=0)
    assert (pace.seconds, pace.add(SAVED, now=1), pace.seconds) == (7.0, None, 7.0)


def test_status_says_how_often_a_run_saves_and_why():
    assert words_of([], 300.0) == "every 300 s, as its settings say"
    assert words_of([], "auto") == "every 60 s until a save was timed"
    noted = choose(costing(0.25), Failures(number=2, watched_s=20 * HOUR))
    values = {**noted.to_values(), "of_a_later_version": 1}
    ledger = Ledger().at(1, 0, Kind.INTERVAL, **values)
    assert words_of(ledger.events, "auto") == (
        "every 129 s: a save holds training for 0.25 s, and a failure is expected every 9 h (2 in 20 h, and "
        "one in 6 h was assumed)"
    )
