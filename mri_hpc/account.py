"""The account with which preprocess ends: what came in, what the store holds, and what of it is doubtful."""

import functools
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mri_hpc.base.command import counted
from mri_hpc.cohort.doubtful import doubts_of_counts
from mri_hpc.cohort.new_twins import new_twins_of_test
from mri_hpc.intake.files.sources import Sources
from mri_hpc.intake.labels.doubts import Doubt
from mri_hpc.storage.store import Grown, Intake, Missing, Snapshot, Store, Tally

MOST_LOOKED_FOR = 200_000
"""Images that may be missing. Adding costs what is new: of more, only who asks is told."""
CLASSES_SHOWN = 10


@dataclass(frozen=True, kw_only=True)
class Account:
    """All that is said when the last task is done."""

    tally: Tally
    """Of all tasks."""
    images: int
    """In the store."""
    patients: int
    classes: dict[str, int]
    """Images of each."""
    doubts: list[Doubt]

    def document(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {**asdict(self), "doubts": [asdict(doubt) for doubt in self.doubts]}


def account_of(
    store: Store, intake: Intake, sources: Sources, tally: Tally, *, is_stopping: Callable[[], bool]
) -> Account:
    """Sum up a store after sources were added. sources: all below the root; tally: of all tasks."""
    grown = store.grown()
    # All is folded only where an answer needs more than what has changed.
    current = functools.cache(store.current)
    counts = grown.counts
    return Account(
        tally=tally,
        images=counts.images,
        patients=counts.patients,
        classes=counts.classes,
        doubts=[
            *_of_missing(_missing(store, grown, current, intake, sources), store, intake.root),
            *doubts_of_counts(counts),
            *new_twins_of_test(store, current, tally.images, images=counts.images, is_stopping=is_stopping),
        ],
    )


def _missing(
    store: Store, grown: Grown, current: Callable[[], Snapshot], intake: Intake, sources: Sources
) -> Missing:
    """Find the stored images that are not in the source any more."""
    if (
        grown.counts.images > MOST_LOOKED_FOR
        and store.num_without_file(grown, sources.keys) > MOST_LOOKED_FOR
    ):
        return Missing(paths={}, is_counted=False)
    sites = {intake.labels.site, *map(intake.labels.site_of, sources.paths)}
    return store.find_missing(
        current(), intake.root, sources.keys, intake.pseudonyms,
        series=intake.series.former, sites=sites, most=MOST_LOOKED_FOR,
    )  # fmt: skip


def _of_missing(missing: Missing, store: Store, source: Path) -> Iterator[Doubt]:
    if missing.is_counted and not missing.hidden and not missing.paths:
        return
    import shlex

    what = f"mri-hpc store retract {shlex.quote(str(store.path))} --missing {shlex.quote(str(source))}"
    if not missing.is_counted:
        yield Doubt(
            kind="missing",
            count=MOST_LOOKED_FOR,
            text=f"more than {MOST_LOOKED_FOR:,} stored images are not in {source}: they came from "
            f"elsewhere, or their files are gone ({what} tells)",
        )
    if missing.hidden:
        yield Doubt(
            kind="not-listed",
            count=1,
            text=f"some folders in {source} cannot be looked into: what else is missing cannot be told",
        )
    if missing.paths:
        is_one = len(missing.paths) == 1
        yield Doubt(
            kind="missing",
            count=len(missing.paths),
            text=f"{counted(len(missing.paths), 'stored image')} {'is' if is_one else 'are'} no longer in "
            f"{source}{_moved(missing)}; take {'it' if is_one else 'them'} out: {what}",
        )


def _moved(missing: Missing) -> str:
    if not missing.moved:
        return ""
    where = {"class": len(missing.other_class), "patient": len(missing.other_patient)}
    parts = " and ".join(f"{count:,} to another {name}" for name, count in where.items() if count)
    return f", {len(missing.moved):,} of them moved{f', {parts}' if parts else ' to another path'}"


def print_account(account: Account) -> None:
    """Print it beside what commands print for scripts."""
    if not account.images:
        # Why nothing is stored stands in other lines.
        return
    shown = list(account.classes.items())[:CLASSES_SHOWN]
    classes = ", ".join(f"{name} {count:,}" for name, count in shown)
    more = f" and {len(account.classes) - len(shown):,} more" if len(account.classes) > len(shown) else ""
    patients = f" of {counted(account.patients, 'patient')}" if account.patients else ""
    of_classes = f": {classes}{more}" if classes else ""
    print(f"in the store: {counted(account.images, 'image')}{patients}{of_classes}", file=sys.stderr)
    for doubt in account.doubts:
        print(doubt.text, file=sys.stderr)


def print_next(account: Account, store: Path) -> None:
    """Say what to type next to those who have made a store of several classes."""
    import shlex

    if account.tally.images == account.images and len(account.classes) > 1:
        path = shlex.quote(str(store))
        print(
            f"next: python -m mri_hpc.store sheet {path} sheet.png, to look at the images; "
            f"python -m mri_hpc.launch --store {path}, to train",
            file=sys.stderr,
        )
