"""Metrics that no interruption takes back: up to the newest checkpoint; of a finished run all."""

from collections.abc import Iterator
from dataclasses import dataclass

from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.ledger import read_events
from mri_hpc.rundir.manifests import newest_manifest
from mri_hpc.rundir.metrics_log import read_metrics

NO_FIGURES = {"step", "attempt"}


@dataclass(frozen=True, kw_only=True)
class Point:
    """One figure at one step."""

    name: str
    value: float
    step: int
    time_s: float
    """Unix time: that of the first event of the run, and the seconds of all steps until then."""


def durable_points(run: RunDir) -> Iterator[Point]:
    """Yield figures of steps and validations, in order. UserError where files are of a newer format."""
    manifest, events = newest_manifest(run), read_events(run)
    now_s = events[0].time if events else 0.0
    for line in read_metrics(run):
        if not run.is_finished:
            if manifest is None or line["step"] > manifest.progress.step:
                continue
            # As mri_hpc.rundir.metrics_log drops them: a checkpoint may be of an epoch that is not validated.
            if "validation_loss" in line and line["epoch"] >= manifest.progress.epoch:
                continue
        now_s += line.get("seconds", 0.0)
        for name, value in line.items():
            if name not in NO_FIGURES and isinstance(value, int | float):
                yield Point(name=name, value=float(value), step=line["step"], time_s=now_s)
