"""Replays: steps of a run that were done again, held against what the run has recorded of them."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from mri_hpc.base.atomic import replace_bytes
from mri_hpc.base.documents import convert, parse
from mri_hpc.rundir.interval import Interval, Record

INTERVAL, REPLAYED = "interval.json", "replayed.json"
"""Files in the folder in which ranks do steps again: what they are to do, and what came of it."""
OF_A_STEP = ("images", "lr", "loss", "gradient_norm")
"""Figures of a step that are the same to the bit where all else is, in the order in which they arise."""
CHOSEN = ("steps", "images", "lr", "samples")
"""Figures that no rounding touches: functions of integers and settings."""
ROUNDING = {"float32": (1e-4, 0.05)}
COARSE_ROUNDING = (2e-2, 0.1)
"""Differences of the first loss, and of any, that rounding explains, by the type of the forward pass. Both
begin with the same weights, so that the first step differs by its own rounding alone; from there it grows."""

LEAST_LOSS = 0.1
"""Of which a difference is a share: losses close to 0 say little."""


class Outcome(StrEnum):
    """The outcome of a replay."""

    EQUAL = "equal"  # to the bit
    CLOSE = "close"  # within what rounding explains, where equal bits are not promised
    DIFFERS = "differs"


@dataclass(frozen=True, kw_only=True)
class Replayed:
    """Steps as they were done again."""

    steps: list[dict[str, float]] = field(default_factory=list)
    """In their order: step, and OF_A_STEP."""
    validations: dict[int, float] = field(default_factory=dict)
    """Step → the loss of the validation after it."""
    samples: dict[int, str] = field(default_factory=dict)
    """Step after which a checkpoint is kept → digest of all samples so far."""
    weights: dict[int, str] = field(default_factory=dict)
    """The same of the weights."""
    changed: dict[str, tuple[Any, Any]] = field(default_factory=dict)
    """Conditions that differ: as they were, as they are now."""
    damage: str = ""
    """Damage of the checkpoint, from which nothing was done then; empty where there is none."""


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A quantity that is another one than was recorded."""

    step: int
    quantity: str
    recorded: Any
    now: Any


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A replay, held against the run's record."""

    outcome: Outcome
    num_steps: int
    first: Difference | None
    """The first difference; None where there is none."""
    is_promised: bool
    """True where equal bits are: under --deterministic, and no condition differs."""
    first_loss_off: float
    """Difference of the first loss, as a share of it (of 0.1 where it is below)."""
    largest_loss_off: float
    """The same of the loss that differs most."""


def write_interval(folder: Path, interval: Interval) -> None:
    """Leave in a folder what is to be done again there."""
    replace_bytes(folder / INTERVAL, json.dumps(interval.to_values()).encode())


def read_interval(folder: Path) -> Interval:
    """Read what is to be done again."""
    return Interval.of_values(parse((folder / INTERVAL).read_bytes()))


def write_replayed(folder: Path, replayed: Replayed) -> None:
    """Leave what came of it."""
    replace_bytes(folder / REPLAYED, json.dumps(asdict(replayed)).encode())


def read_replayed(folder: Path) -> Replayed | None:
    """Read what came of it; None where the ranks did not come to an end."""
    try:
        values = parse((folder / REPLAYED).read_bytes())
    except FileNotFoundError:
        return None
    # JSON has no other keys than texts.
    by_step = {
        name: {int(s): v for s, v in values[name].items()} for name in ("validations", "samples", "weights")
    }
    return convert({**values, **by_step}, Replayed)


def compare(record: Record, interval: Interval, replayed: Replayed) -> Comparison:
    """Hold a replay against the record of the same steps."""
    differences = list(_differences(record, interval, replayed))
    is_promised = bool(interval.conditions.get("deterministic")) and not replayed.changed
    off = [_off(record.steps[int(done["step"])]["loss"], done["loss"]) for done in replayed.steps]
    first_off, largest_off = (off[0], max(off)) if off else (0.0, 0.0)
    of_first, of_any = ROUNDING.get(str(interval.conditions.get("arithmetic", "float32")), COARSE_ROUNDING)
    is_rounding = first_off <= of_first and largest_off <= of_any
    is_close = is_rounding and not any(one.quantity in CHOSEN for one in differences)
    return Comparison(
        outcome=Outcome.EQUAL if not differences
        else Outcome.CLOSE if is_close and not is_promised
        else Outcome.DIFFERS,
        num_steps=len(replayed.steps), first=min(differences, key=_order, default=None),
        is_promised=is_promised, first_loss_off=first_off, largest_loss_off=largest_off,
    )  # fmt: skip


def _differences(record: Record, interval: Interval, replayed: Replayed) -> Iterator[Difference]:
    end = interval.start + len(replayed.steps)
    if end < interval.end:
        # By --epochs or --patience as they are now, the training is over before.
        yield Difference(step=end + 1, quantity="steps", recorded=interval.end, now=end)
    for done in replayed.steps:
        step = int(done["step"])
        before = record.steps[step]
        for name in OF_A_STEP:
            # Of runs of before some are not written down.
            if name in done and name in before and done[name] != before[name]:
                yield Difference(step=step, quantity=name, recorded=before[name], now=done[name])
    for step, digest in replayed.samples.items():
        progress = record.manifests[step].progress
        if digest != progress.samples_digest:
            yield Difference(step=step, quantity="samples", recorded=progress.samples_digest, now=digest)
    for step, digest in replayed.weights.items():
        kept = record.manifests[step].weights_digest
        if digest != kept:
            yield Difference(step=step, quantity="weights", recorded=kept, now=digest)
    for step, loss in replayed.validations.items():
        before = record.validations.get(step, {})
        if before and loss != before["validation_loss"]:
            recorded = before["validation_loss"]
            yield Difference(step=step, quantity="validation loss", recorded=recorded, now=loss)


def _order(difference: Difference) -> tuple[int, int]:
    names = ("steps", "images", "lr", "samples", "loss", "gradient_norm", "weights", "validation loss")
    return difference.step, names.index(difference.quantity)


def _off(recorded: float, now: float) -> float:
    return abs(now - recorded) / max(abs(recorded), LEAST_LOSS)


def differing_conditions(changed: Mapping[str, tuple[Any, Any]]) -> str:
    """Say which conditions differ, for people."""
    return ", ".join(f"{name} {before}, now {now}" for name, (before, now) in changed.items())
