"""Looks at test patients are counted: a further one, by another model, has to be meant.

Counted with the store, since runs come and go and its test patients stay; a store that cannot be written to
fails no command: the look is then kept beside the run, and counts among the runs in that folder.
"""

import contextlib
import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import ClassVar

from mri_hpc.base.access import user_name
from mri_hpc.base.command import counted, shown
from mri_hpc.base.errors import UserError
from mri_hpc.results.answers.whole_predictions import read_whole
from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.look import (
    Look,
    digest_of_test_set,
    ordinal,
    read_look,
    units_of,
    write_look,
    write_who_looked,
)
from mri_hpc.rundir.provenance import read_provenance
from mri_hpc.rundir.settings import load_training
from mri_hpc.storage.store import Store

MOST_NAMED = 3
"""Runs that a refusal names."""


class FurtherLook(UserError):
    """Another model was judged by the same test patients, and it was not said that one more is meant."""

    kind: ClassVar[str] = "further-look"

    def __init__(self, run: RunDir, words: str) -> None:
        """words: without a path, for a page that is made to be shared."""
        super().__init__(f"{shown(run.path)}: {words}")
        self.words = words


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """A run whose test figures are wanted, and the look that this is."""

    run: RunDir
    look: Look
    is_counted: bool
    """False for a run of before looks were counted: its look is written down, and never refused."""


def look_at(runs: Sequence[RunDir], *, is_meant: bool) -> list[str]:
    """Write down that the test figures of runs are looked at; FurtherLook where that has to be meant.

    Nothing is written where one of them is refused. Figures that were shown before are no further look.
    Returns notes on what could not be written. is_meant: the user asks for a further look by its option.
    """
    asked = [found for run in runs if (found := _asked(run))]
    for number, one in enumerate(asked):
        _refuse(one, [*_known(one.run), *(other.look for other in asked[:number])], is_meant=is_meant)
    return [note for one in asked if (note := _write_down(one, is_meant=is_meant))]


def _asked(run: RunDir) -> _Asked | None:
    """Return the look that a run's test figures would be; None where they were shown, or there are none."""
    provenance = read_provenance(run)
    model, kept = provenance.get("model_digest"), read_look(run)
    if not model or (kept and kept.look.pair == (model, provenance.get("test_set"))):
        return None
    _classes, rows = read_whole(run)
    units = units_of(rows)
    if not units:
        return None
    look = Look(
        model=str(model),
        test_set=digest_of_test_set(rows),
        run=run.path.resolve().name,
        when=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        num_units=len(units),
        units=tuple(units),
    )
    return _Asked(run=run, look=look, is_counted="test_set" in provenance)


def _known(run: RunDir) -> list[Look]:
    """List the looks that stand in the run's store, and those beside other runs that it could not take."""
    looks: list[Look] = []
    if store := _store_of(run):
        # One that cannot be read is out of reach, as one that is gone.
        with contextlib.suppress(OSError):
            looks += store.test_looks()
    return [*looks, *_beside(run)]


def _beside(run: RunDir) -> list[Look]:
    """List the looks of the runs in the same folder that their store could not take."""
    paths = sorted(run.path.absolute().parent.glob("*/look.json"))
    kept = [read_look(RunDir(path.parent)) for path in paths if path != run.look.absolute()]
    return [one.look for one in kept if one and not one.is_in_store]


def _store_of(run: RunDir) -> Store | None:
    try:
        return Store.open(Path(load_training(run).store))
    except (UserError, OSError):
        return None


def _refuse(asked: _Asked, known: Sequence[Look], *, is_meant: bool) -> None:
    """Raise FurtherLook where other models were judged by some of the patients, and no more is meant."""
    if any(one.pair == asked.look.pair for one in known):
        return
    before = _before(asked.look, known)
    if is_meant or not asked.is_counted or not before:
        return
    latest = "; ".join(map(str, before[-MOST_NAMED:]))
    raise FurtherLook(
        asked.run,
        f"its {asked.look.num_units} test patients, or some of them, were looked at before with "
        f"{counted(len(before), 'other model')} ({latest}). To choose between models, look at validation "
        f"patients (evaluate --split validation); where a {ordinal(len(before) + 1)} look is meant, type "
        "--look-again: it is counted, and the page says so",
    )


def _before(look: Look, known: Sequence[Look]) -> list[Look]:
    """Return the looks of other models at some of the same patients, each once, in their order."""
    others = {one.pair: one for one in known if one.pair != look.pair and one.shares_patients_with(look)}
    return [*others.values()]


def _write_down(asked: _Asked, *, is_meant: bool) -> str:
    """Write a look down where it can be; return a note where it cannot."""
    before, is_in_store, has_account = _known(asked.run), False, False
    if store := _store_of(asked.run):
        # A store that may not be written to must not fail who reads a run.
        with contextlib.suppress(OSError):
            written = store.add_test_look(asked.look, partial(_refuse, asked, is_meant=is_meant))
            before, is_in_store, has_account = (
                [*written.before, *_beside(asked.run)],
                True,
                written.has_account,
            )
    if not asked.is_counted:
        return ""
    try:
        write_look(asked.run, asked.look, _before(asked.look, before), is_in_store=is_in_store)
        if not has_account:
            write_who_looked(asked.run, user_name())
    except OSError as error:
        kept = "in the store alone" if is_in_store else "nowhere"
        return (
            f"{shown(asked.run.path)}: this look at test patients is written down {kept} ({error.strerror})"
        )
    return ""
