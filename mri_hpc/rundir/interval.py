"""Intervals of a run that can be done again: from a kept checkpoint on, as far as one set of conditions goes.

Read from what the run keeps: checkpoints' manifests, metrics.jsonl, and the ledger's changes of conditions.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import takewhile
from pathlib import Path
from typing import Any

from mri_hpc.base.documents import convert
from mri_hpc.base.errors import UserError
from mri_hpc.rundir.following import Adoption, adoptions_of
from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.ledger import Kind, read_events
from mri_hpc.rundir.manifests import Manifest, checkpoint_folders, open_manifest
from mri_hpc.rundir.metrics_log import read_metrics
from mri_hpc.rundir.progress import Progress


@dataclass(frozen=True, kw_only=True)
class Interval:
    """Steps that follow a kept checkpoint, all done under the same conditions."""

    run: str
    """Folder of the run."""
    start: int
    """Step of the checkpoint from which they are done again."""
    end: int
    """The last of them."""
    kept: tuple[int, ...]
    """Those of them after which a checkpoint is kept."""
    conditions: Mapping[str, Any]
    """As they were recorded."""

    @property
    def ranks(self) -> int:
        """Ranks that did them."""
        return int(self.conditions["ranks"])

    @property
    def threads(self) -> int:
        """Threads of each rank; of ranks with several numbers of them, the least."""
        return min(map(int, str(self.conditions["threads"]).split(", ")))

    @property
    def is_on_gpus(self) -> bool:
        """Tell whether the ranks had GPUs: where torch finds none, it has no version of NCCL."""
        return bool(self.conditions.get("nccl"))

    def to_values(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return asdict(self)

    @classmethod
    def of_values(cls, values: Mapping[str, Any]) -> "Interval":
        """Return what `to_values` gave."""
        return convert(values, cls)


@dataclass(frozen=True, kw_only=True)
class Record:
    """Steps, validations and checkpoints as a run has recorded them."""

    steps: Mapping[int, Mapping[str, Any]]
    """Step → its line of metrics.jsonl."""
    validations: Mapping[int, Mapping[str, Any]]
    """Step → the line of the validation after it."""
    manifests: Mapping[int, Manifest]
    """Step → manifest of the checkpoint that is kept of it."""
    adoptions: Mapping[int, Adoption] = field(default_factory=dict)
    """Epoch → what was adopted at its start."""

    def progress_from(self, step: int) -> Progress:
        """Return the progress after a kept checkpoint, on the snapshot that is trained on next."""
        progress = self.manifests[step].progress
        adoption = self.adoptions.get(progress.epoch)
        if adoption is None or progress.step_in_epoch or adoption.snapshot == progress.snapshot:
            return progress
        return progress.on_snapshot(adoption.snapshot)

    def last_step_on(self, progress: Progress) -> float:
        """Return the last step on the snapshot of a progress; infinite where no other came."""
        steps = (one.step for one in self.adoptions.values() if one.epoch > progress.epoch)
        return min(steps, default=math.inf)


def read_record(run: RunDir) -> Record:
    """Read what is kept of a run's steps. Raises UserError."""
    lines = read_metrics(run)
    opened = {int(folder.name): open_manifest(folder) for folder in checkpoint_folders(run)}
    return Record(
        steps={line["step"]: line for line in lines if "loss" in line},
        validations={line["step"]: line for line in lines if "validation_loss" in line},
        manifests={step: found for step, found in opened.items() if isinstance(found, Manifest)},
        adoptions=adoptions_of(read_events(run)),
    )


def find_intervals(run: RunDir, record: Record, most_steps: int) -> list[Interval]:
    """Find what can be done again, at most one interval from each kept checkpoint on, in their order.

    Each is on one snapshot: it ends where a run that follows its store has adopted another.
    Of those that come to another kept checkpoint within so many steps, where any does. Raises UserError.
    """
    changes = _changes_by_attempt(run)
    found = [
        interval
        for start in sorted(record.manifests)
        if (interval := _interval_from(run, record, changes, start, most_steps))
    ]
    return [interval for interval in found if interval.kept] or found


def interval_from(intervals: Sequence[Interval], record: Record, run: RunDir, step: int) -> Interval:
    """Return that which begins at a step; UserError, with what there is, where none does."""
    for interval in intervals:
        if interval.start == step:
            return interval
    starts = ", ".join(str(interval.start) for interval in intervals)
    kept = "no checkpoint is kept" if step not in record.manifests else "no step is recorded"
    raise UserError(f"{run.path}: {kept} from step {step} on: choose --from-step from {starts}")


def _interval_from(
    run: RunDir,
    record: Record,
    changes: Mapping[str, Mapping[str, Any]],
    start: int,
    most_steps: int,
) -> Interval | None:
    manifest = record.manifests[start]
    last = min(start + most_steps, record.last_step_on(manifest.progress))
    following = list(takewhile(lambda step: step in record.steps and step <= last, _from(start + 1)))
    if not following:
        return None
    by_attempt = {one.attempt: one.conditions for one in record.manifests.values()}
    conditions, attempt, first = manifest.conditions, manifest.attempt, None
    for step in following:
        line = record.steps[step]
        if line["attempt"] != attempt:
            attempt = line["attempt"]
            # One that has kept no checkpoint went on from the last of the one before.
            conditions = by_attempt.get(attempt, {**conditions, **changes.get(attempt, {})})
        first = conditions if first is None else first
        if conditions != first:
            break
        end = step
    assert first is not None
    kept = tuple(step for step in sorted(record.manifests) if start < step <= end)
    return Interval(run=str(Path(run.path).absolute()), start=start, end=end, kept=kept, conditions=first)


def _changes_by_attempt(run: RunDir) -> dict[str, dict[str, Any]]:
    """Read which conditions each attempt found changed, and what they are with it."""
    found: dict[str, dict[str, Any]] = {}
    for event in read_events(run):
        if event.kind == Kind.CHANGED:
            found.setdefault(event.attempt, {})[event.values["condition"]] = event.values["now"]
    return found


def _from(step: int) -> Iterator[int]:
    while True:
        yield step
        step += 1
