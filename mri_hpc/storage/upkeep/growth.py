"""Growth of a store: what commits added, by the time at which they were made."""

import contextlib
import datetime
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mri_hpc.storage.disk.damage import UNREADABLE
from mri_hpc.storage.disk.layout import StoreDir
from mri_hpc.storage.snapshot.publications import publications
from mri_hpc.storage.snapshot.totals import Totals, kept

if TYPE_CHECKING:
    import numpy as np

MOST_ROWS = 12

Day = datetime.date


@dataclass(frozen=True, kw_only=True)
class Unit:
    """A unit of time by which growth is counted."""

    name: str
    begin: Callable[[Day], Day]
    """Gives the first day of the unit that a day is in."""
    form: str
    """Format in which that day is written."""


UNITS = (
    Unit(name="day", begin=lambda day: day, form="%Y-%m-%d"),
    Unit(name="week", begin=lambda day: day - datetime.timedelta(days=day.weekday()), form="%Y-%m-%d"),
    Unit(name="month", begin=lambda day: day.replace(day=1), form="%Y-%m"),
    Unit(name="year", begin=lambda day: day.replace(month=1, day=1), form="%Y"),
)


@dataclass(frozen=True, kw_only=True)
class Period:
    """Additions of one day, week, month or year in which there were any."""

    since: str
    """Its first day, its month, or its year, in local time."""
    images: int
    """That were added, also those that were copies, or have been replaced or retracted since."""
    bytes: int
    """Of the chunk files in which they came."""
    patients: int | None
    """In the last snapshot that was published in the period; of the last period: now. None: no snapshot."""


@dataclass(frozen=True, kw_only=True)
class Growth:
    """Growth of a store over time."""

    by: str
    """The finest of day, week, month and year that gives few periods."""
    periods: Sequence[Period]
    """The earliest first."""


def growth(store: StoreDir, now: Totals) -> Growth:
    """Count what came in, by period. now: the totals of all that is there."""
    days = [_day(created) for created in now.added.created]
    by = _finest(days)
    images: dict[Day, int] = {}
    sizes: dict[Day, int] = {}
    for day, count, size in zip(days, now.added.images, now.added.bytes, strict=True):
        since = by.begin(day)
        images[since] = images.get(since, 0) + count
        sizes[since] = sizes.get(since, 0) + size
    shown = sorted(images)[-MOST_ROWS:]
    # In order of time: the last of each period stays.
    last = {by.begin(_day(one.time)): one.digest for one in publications(store)}
    periods = [
        Period(
            since=since.strftime(by.form),
            images=images[since],
            bytes=sizes[since],
            patients=now.patients if since == shown[-1] else _num_patients(store, last.get(since)),
        )
        for since in shown
    ]
    return Growth(by=by.name, periods=periods)


def arrivals(store: StoreDir, keys: "np.ndarray") -> list[str]:
    """Tell of each image in which day, week, month or year it came, by the snapshots that were published.

    keys: uint64, (n,). Empty where none holds it. Of each of few periods, the last snapshot is looked at.
    """
    # Here: whoever asks for the growth alone need not wait for it.
    import numpy as np

    from mri_hpc.storage.snapshot.catalogue import load_snapshot
    from mri_hpc.storage.snapshot.folding import positions

    times = [(_day(one.time), one.digest) for one in publications(store)]
    by = _finest([day for day, _digest in times])
    found = [""] * len(keys)
    left = np.arange(len(keys))
    # In order of time: the last of each period stays.
    for since, digest in {by.begin(day): digest for day, digest in times}.items():
        with contextlib.suppress(*UNREADABLE, PermissionError):
            is_there, _rows = positions(load_snapshot(store.snapshots / digest).key, keys[left])
            for at in left[is_there].tolist():
                found[at] = since.strftime(by.form)
            left = left[~is_there]
    return found


def _finest(days: Sequence[Day]) -> Unit:
    """Choose the finest unit that gives few periods."""
    fitting = [unit for unit in UNITS if len({*map(unit.begin, days)}) <= MOST_ROWS]
    return fitting[0] if fitting else UNITS[-1]


def _day(seconds: float) -> Day:
    return datetime.datetime.fromtimestamp(seconds).date()


def _num_patients(store: StoreDir, digest: str | None) -> int | None:
    """Count the patients in a published snapshot; None where there is none, or one that cannot be read."""
    if digest is None:
        return None
    folder = store.snapshots / digest
    try:
        if totals := kept(folder):
            return totals.patients
        # Slow to import, and needed for snapshots of 0.1.0 alone.
        from mri_hpc.storage.snapshot.catalogue import load_snapshot

        return len(load_snapshot(folder).column("patient_names"))
    except (*UNREADABLE, PermissionError):
        return None
