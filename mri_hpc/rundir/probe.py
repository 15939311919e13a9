"""A probe: steps that were timed before the first one, on one rank and on all, and what they say."""

import json
from dataclasses import asdict, dataclass
from typing import Any

from mri_hpc.base.atomic import publish_new_bytes
from mri_hpc.base.documents import convert, parse, with_format, without_format
from mri_hpc.rundir.layout import RunDir

FORMAT = 1
DERIVED = ("waiting", "speedup", "expected_s", "expected_alone_s", "device_hours", "device_hours_alone")
"""Properties of figures that are shown beside them."""


@dataclass(frozen=True, kw_only=True)
class Figures:
    """Figures of a probe; seconds are of a step, over all its images.

    None where there is nothing to measure: with one rank no other to compare with, without a GPU none of its.
    """

    ranks: int
    nodes: int
    """Nodes that were asked for: on this machine, groups of ranks."""
    threads: int
    """Of each rank."""
    has_gpu: bool
    """Each rank has one."""
    steps_per_epoch: int
    epochs: int
    """Most epochs; early stopping may come sooner."""
    compute_s: float
    """On all ranks, with images that are there already."""
    first_s: float
    """On all ranks, with images that are read for the first time."""
    again_s: float
    """The same images read again; `first_s` where not all images stay in memory."""
    images_stay: bool
    """All images of the run stay in memory once they were read."""
    alone_s: float | None = None
    """On one rank, with images read as for `again_s`; None where a step does not fit into its GPU."""
    alone_takes_long: bool = False
    """One rank was not timed alone: it would have taken minutes."""
    validation_s: float = 0.0
    """Of a whole validation, on all ranks."""
    memory_bytes: int = 0
    """Largest on any node, of all its ranks, without what the system can take back."""
    memory_limit_bytes: int | None = None
    """Memory that they may use on a node."""
    is_of_job: bool = False
    """A job has asked for that memory, and could ask for more."""
    gpu_bytes: int | None = None
    """Largest on any GPU."""
    gpu_limit_bytes: int | None = None
    """Memory of that GPU."""

    @property
    def waiting(self) -> float:
        """Fraction of the time of a step in which all wait for images."""
        return max(0.0, 1 - self.compute_s / self.again_s)

    @property
    def speedup(self) -> float | None:
        """Steps on all ranks, in the time of one on one rank."""
        return self.alone_s / self.again_s if self.alone_s else None

    @property
    def expected_s(self) -> float:
        """Seconds that all epochs take, saving and starting apart."""
        once = self.steps_per_epoch * max(0.0, self.first_s - self.again_s)
        return self.epochs * (self.steps_per_epoch * self.again_s + self.validation_s) + once

    @property
    def expected_alone_s(self) -> float | None:
        """The same on one rank."""
        return self.expected_s * self.speedup if self.speedup else None

    @property
    def device_hours(self) -> float:
        """GPU-hours of all epochs; core-hours where there is no GPU."""
        return self.expected_s * self.ranks * (1 if self.has_gpu else self.threads) / 3600

    @property
    def device_hours_alone(self) -> float | None:
        """The same on one rank."""
        return self.device_hours * self.speedup / self.ranks if self.speedup else None


@dataclass(frozen=True, kw_only=True)
class Probe:
    """A probe of a run, as it is kept."""

    time: float
    """Unix time at which it ended."""
    attempt: str
    """The attempt that made it, as ``submission.restart``."""
    verdict: str
    """One of worth.Worth."""
    sentence: str
    """Advice, for people."""
    figures: Figures | None = None
    """None where it did not come to its end."""

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, with what follows from the figures."""
        if self.figures is None:
            return asdict(self)
        derived = {name: getattr(self.figures, name) for name in DERIVED}
        return {**asdict(self), **derived, "expected_end": self.time + self.figures.expected_s}


def publish_probe(run: RunDir, probe: Probe) -> bool:
    """Publish a probe; False where another attempt has published one."""
    document = json.dumps(with_format(FORMAT, asdict(probe)), indent=1)
    return publish_new_bytes(run.probe, document.encode() + b"\n")


def read_probe(run: RunDir) -> Probe | None:
    """Read the probe of a run; None where there is none, or one that is damaged. Raises NewerFormat."""
    try:
        values = parse(run.probe.read_bytes())
        return convert(without_format(values, of=run.probe, reads=FORMAT), Probe)
    except (FileNotFoundError, ValueError):
        return None
