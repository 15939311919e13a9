"""What several calls of tests/harness/three_slurms saw becomes one table."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from tests.harness.slurm_events import ROWS
from tests.harness.slurms_table import joined, table, unseen, with_table

pytestmark = pytest.mark.fast


def event(
    states: Sequence[str] | None = (), *, seconds: float | None = None, is_equal: bool | None = True,
    problems: Sequence[str] = (),
) -> dict[str, Any]:  # fmt: skip
    found = None if states is None else list(states)
    return {"states": found, "next_step_s": seconds, "is_equal": is_equal, "problems": list(problems)}


def record(
    slurm: str, events: Mapping[str, Any], *, accounting: str = "slurmdbd", torch: str = "2.15.0"
) -> dict[str, Any]:
    versions = {"python": "3.13.5", "torch": torch, "numpy": "2.5.5"}
    return {"slurm": slurm, "accounting": accounting, **versions, "events": events}


def test_events_of_several_calls_stand_together_unless_another_version_saw_them() -> None:
    first = record("24.11.5", {"preempted": event(), "scancel": event(problems=["slow"])})
    second = record("24.11.5", {"scancel": event(), "nothing": event()})
    both = joined(first, second)
    assert both["events"] == {"preempted": event(), "scancel": event(), "nothing": event()}
    assert joined(first, record("24.11.6", {"nothing": event()}))["events"] == {"nothing": event()}
    assert joined(first, record("24.11.5", {}, torch="2.16.0"))["events"] == {}
    assert joined(None, second) == second


def test_an_event_is_played_again_only_where_it_was_not_as_expected() -> None:
    kept = record("24.11.5", {"preempted": event(), "scancel": event(problems=["slow"])})
    assert unseen(["preempted", "scancel", "nothing"], kept) == ["scancel", "nothing"]
    assert unseen(["preempted"], None) == ["preempted"]


def test_the_table_has_a_column_a_slurm_and_says_what_was_not_played_or_not_as_expected() -> None:
    books = record("26.05.5", {"preempted": event(["PREEMPTED", "COMPLETED"], seconds=23.4)})
    bare = record(
        "26.05.5", {"loss is no number": event(None, is_equal=None), "preempted": event(is_equal=False)},
        accounting="none",
    )  # fmt: skip
    old = record("22.05.8", {"preempted": event(["REQUEUED"], problems=["states"])})
    assert list(table([bare, books, old])) == [
        "|  | 22.05.8, accounting | 26.05.5, accounting | 26.05.5, no accounting |",
        "| --- | --- | --- | --- |",
        "| Python, torch | 3.13.5, 2.15.0 | 3.13.5, 2.15.0 | 3.13.5, 2.15.0 |",
        "| digests equal | 1 of 1 | 1 of 1 | 0 of 1 |",
        "| preempted | equal: REQUEUED (not as expected) | equal, 23 s: PREEMPTED, COMPLETED | DIFFER |",
        "| loss is no number | not played | not played | stays away |",
    ]


def test_the_table_takes_the_place_of_the_one_before() -> None:
    page = "above\n<!-- three_slurms writes from here -->\n| old |\n<!-- to here -->\nbelow\n"
    lines = with_table(page, [record("22.05.8", {})]).splitlines()
    assert (lines[:2], lines[-2:]) == (page.splitlines()[:2], page.splitlines()[-2:])
    assert "| old |" not in lines and "|  | 22.05.8, accounting |" in lines


def test_an_event_may_have_other_books_on_a_newer_slurm_and_the_same_decisions() -> None:
    [event] = [row for row in ROWS if row.name == "preempted, PreemptMode=CANCEL"]
    books = {release: event.states_of(release)[0] for release in ("22.05.8", "24.11.5", "26.05.5")}
    assert books == {"22.05.8": "REQUEUED", "24.11.5": "REQUEUED", "26.05.5": "PREEMPTED"}
