"""What was seen of events on several Slurms, joined over calls, and as a table."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from tests.harness.slurm_events import ROWS

BEGIN, END = "<!-- three_slurms writes from here", "<!-- to here -->"
# In these everything that was seen has to be alike, to stand in one column.
HEADS = ("slurm", "accounting", "python", "torch", "numpy")

Record = Mapping[str, Any]


def joined(kept: Record | None, found: Record) -> dict[str, Any]:
    """Add what was found to what is kept; alone, where it was seen with other versions."""
    is_alike = kept is not None and all(kept[name] == found[name] for name in HEADS)
    before = kept["events"] if kept and is_alike else {}
    return {**found, "events": {**before, **found["events"]}}


def unseen(names: Sequence[str], kept: Record | None) -> list[str]:
    """Those of some events that were not seen yet, or not as expected."""
    events = kept["events"] if kept else {}
    return [name for name in names if name not in events or events[name]["problems"]]


def with_table(page: str, records: Sequence[Record]) -> str:
    """Put the table of what was seen between the marks of a page."""
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    assert begin and end, "the page has no place for the table"
    first_line = rest.splitlines()[0]
    return "\n".join([before + begin + first_line, *table(records), END + after])


def table(records: Sequence[Record]) -> Iterator[str]:
    """One column a Slurm, one row an event, under what was equal."""
    columns = sorted(records, key=lambda record: (record["slurm"], record["accounting"] == "none"))
    yield row("", [f"{record['slurm']}, {books(record)}" for record in columns])
    yield row("---", ["---"] * len(columns))
    yield row("Python, torch", [f"{record['python']}, {record['torch']}" for record in columns])
    yield row("digests equal", [equal(record["events"]) for record in columns])
    for name in (event.name for event in ROWS):
        if any(name in record["events"] for record in columns):
            yield row(name, [cell(record["events"].get(name)) for record in columns])


def books(record: Record) -> str:
    return "no accounting" if record["accounting"] == "none" else "accounting"


def equal(events: Mapping[str, Record]) -> str:
    """Count the runs that went on, and those of them that ended with the digests of the uninterrupted one."""
    went_on = [event["is_equal"] for event in events.values() if event["is_equal"] is not None]
    return f"{sum(went_on)} of {len(went_on)}"


def cell(event: Record | None) -> str:
    """Say how it ended, when it went on, what accounting holds of it, and what is not as it should be."""
    if event is None:
        return "not played"
    digests = {True: "equal", False: "DIFFER", None: "stays away"}[event["is_equal"]]
    seconds = "" if event["next_step_s"] is None else f", {event['next_step_s']:.0f} s"
    states = f": {', '.join(event['states'])}" if event["states"] else ""
    return f"{digests}{seconds}{states}{' (not as expected)' if event['problems'] else ''}"


def row(name: str, cells: Sequence[str]) -> str:
    return f"| {name} | {' | '.join(cells)} |"
