"""Following a growing store: which snapshot a run is trained on, from which epoch on.

A run's setting `snapshot` says where that comes from: a digest; FOLLOW, where the ledger says it; or a list,
as "3fa1,9bc2@4", where the second is trained on from epoch 4 on, counted from 1: that of a ledger, typed.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from mri_hpc.base.errors import UserError
from mri_hpc.rundir.ledger import Event, Kind

FOLLOW = "follow"
"""In place of a digest: the newest of each epoch's start."""
NEXT, FROM = ",", "@"


@dataclass(frozen=True, kw_only=True)
class Adoption:
    """The start of an epoch from which on a run is trained on another snapshot, or on its first."""

    epoch: int
    """From 0."""
    step: int
    """Steps done before."""
    snapshot: str
    """Its digest."""
    images: int = 0
    """Training images that it has."""


def adoptions_of(events: Iterable[Event]) -> dict[int, Adoption]:
    """Read epoch → what was adopted at its start; what was taken up later again, and otherwise, counts.

    Where that is what the epoch before has, the one in between was taken back, and never was.
    """
    found: dict[int, Adoption] = {}
    for event in events:
        if event.kind == Kind.ADOPTED:
            one = Adoption(**{name: event.values[name] for name in Adoption.__dataclass_fields__})
            # One that was done without a later one, whose steps were lost: that one never was.
            found = {epoch: kept for epoch, kept in found.items() if epoch < one.epoch}
            before = found[max(found)].snapshot if found else ""
            found |= {} if before == one.snapshot else {one.epoch: one}
    return found


NO_MORE = "told to finish by --no-follow"
"""Reason that a person has given."""


def why_followed(events: Iterable[Event]) -> str:
    """Read why a run adopts no newer snapshot any more; empty where it does."""
    reasons = [str(event.values.get("reason", "")) for event in events if event.kind == Kind.FOLLOWED]
    return reasons[-1] if reasons else ""


def has_caught_up(events: Iterable[Event], attempt: str) -> bool:
    """Tell whether the ranks of an attempt left since there was nothing new to learn."""
    return any(event.kind == Kind.CAUGHT_UP and event.attempt == attempt for event in events)


def is_list(snapshot: str) -> bool:
    """Tell whether a run's setting names several snapshots."""
    return NEXT in snapshot


def listed(snapshot: str) -> dict[int, str]:
    """Read epoch, from 0, → digest of a setting that names snapshots. Raises UserError."""
    first, *later = snapshot.split(NEXT)
    found = {0: first}
    for one in later:
        digest, _, number = one.partition(FROM)
        if not digest or not re.fullmatch(r"[1-9]\d*", number) or int(number) - 1 <= max(found):
            raise UserError(
                f"--snapshot takes DIGEST,DIGEST@EPOCH with epochs that rise from 2, got {snapshot!r}: "
                "status of a run that has followed its store prints its own"
            )
        found[int(number) - 1] = digest
    return found


def as_list(snapshots: Mapping[int, str]) -> str:
    """Write epoch, from 0, → digest as the setting that `listed` reads."""
    return NEXT.join(
        digest if epoch == 0 else f"{digest}{FROM}{epoch + 1}" for epoch, digest in sorted(snapshots.items())
    )
