"""The verdict of a drill, kept beside the runs, where the next launch looks for it."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from mri_hpc.base.atomic import replace_bytes
from mri_hpc.base.documents import convert, parse, with_format, without_format
from mri_hpc.base.errors import UserError
from mri_hpc.cluster.doctor.finding import Finding, Level
from mri_hpc.cluster.scheduler import Sizes

FORMAT = 1
FILE = "drills.json"


@dataclass(frozen=True, kw_only=True)
class Preemption:
    """Seconds that one preemption costs here, beside those in the queue."""

    stop_s: float
    """From the signal until all is saved and the ranks have gone."""
    held_s: float
    """From there until the job's script runs again: Slurm holds a requeued job for two minutes."""
    start_s: float
    """From there to the next step."""

    @property
    def whole_s(self) -> float:
        """All together."""
        return self.stop_s + self.held_s + self.start_s


@dataclass(frozen=True, kw_only=True)
class Shape:
    """The kind of job that was drilled."""

    partition: str
    """As typed, or as the shell names it; empty for the cluster's default."""
    nodes: int
    gpus_per_node: int
    python: str
    """Program that the job started."""

    def covers(self, other: "Shape") -> bool:
        """Tell whether what holds for this one holds for another: a network, and GPUs, were tried or not."""
        return (
            (self.partition, self.python) == (other.partition, other.python)
            and (self.nodes > 1 or other.nodes == 1)
            and (self.gpus_per_node > 0 or other.gpus_per_node == 0)
        )


@dataclass(frozen=True, kw_only=True)
class DrillVerdict:
    """The outcome of a drill."""

    shape: Shape
    time: float
    """Unix time of its end."""
    job_id: str
    findings: tuple[Finding, ...]
    """In the order in which they were met."""
    bad_nodes: tuple[str, ...] = ()
    """Nodes that the next try should leave out."""
    preemption: Preemption | None = None
    """None where it was not seen."""

    @property
    def problems(self) -> tuple[Finding, ...]:
        """Findings with which a run would fail."""
        return tuple(one for one in self.findings if one.level is Level.PROBLEM)


def shape_of(sizes: Sizes, *, partition: str | None, python: str) -> Shape:
    """Return the shape of a job."""
    return Shape(
        partition=partition or "", nodes=sizes.nodes, gpus_per_node=sizes.gpus_per_node, python=python
    )


def keep(runs: Path, verdict: DrillVerdict) -> Path:
    """Keep a verdict in a folder of runs, in place of an older one of the same shape; return the file."""
    others = [one for one in kept_verdicts(runs) if one.shape != verdict.shape]
    drills = [asdict(one) for one in [*others, verdict]]
    path = runs / FILE
    replace_bytes(path, json.dumps(with_format(FORMAT, {"drills": drills}), indent=1).encode() + b"\n")
    return path


def kept_verdicts(runs: Path) -> list[DrillVerdict]:
    """Read what was kept in a folder of runs, oldest first; UserError where it cannot be read."""
    path = runs / FILE
    try:
        values: Mapping[str, list[object]] = without_format(parse(path.read_bytes()), of=path, reads=FORMAT)
        return [convert(one, DrillVerdict) for one in values["drills"]]
    except FileNotFoundError:
        return []
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is damaged ({error}): remove it, and drill again") from None


def lack_of_drill(runs: Path, shape: Shape) -> str:
    """Say, for people, what the drills of a folder of runs leave open about such a job; empty for nothing."""
    try:
        fits = [one for one in kept_verdicts(runs) if one.shape.covers(shape)]
    except (OSError, UserError) as error:
        return str(error)
    if not fits:
        return "none yet: does such a job come back after a preemption here?"
    newest = max(fits, key=lambda one: one.time)
    return f"the last one found: {newest.problems[0].says}" if newest.problems else ""
