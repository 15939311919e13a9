"""Partitions of Slurm: their GPUs, and the most that a job may ask of one."""

from dataclasses import dataclass

from mri_hpc.base.errors import UserError
from mri_hpc.cluster import slurm
from mri_hpc.cluster.slurm_answers import seconds_of


@dataclass(frozen=True, kw_only=True)
class Partition:
    """The most that a job may ask for: of the partitions that it may go to, the largest of each."""

    has_gpus: bool
    least_gpus: int = 1
    """Of a node that has any; 0 where none has."""
    most_minutes: float = float("inf")
    """Longest time limit."""
    most_nodes: float = float("inf")
    """Most nodes of a job."""


def partition_of_job(named: str | None, cluster: str = "") -> Partition:
    """Look up where a job would go. named: as of ``--partition``; None: where sbatch sends it by itself.

    cluster: another one than that at hand. Raises UserError where there is no such partition, or Slurm does
    not answer.
    """
    text, by_shell = slurm.partition_lines(cluster), slurm.partition_of_shell()
    return parse_partitions(text, named or by_shell, "--partition" if named else "SBATCH_PARTITION")


def parse_partitions(text: str, wanted: str | None, named: str = "--partition") -> Partition:
    """Parse lines in slurm.PARTITION_FORM. wanted: names with commas between; None: the default.

    named: the option or variable with its name. Raises UserError where there is no such partition.
    """
    rows = [line.split("|") for line in text.splitlines() if "|" in line]
    for name in (wanted or "").split(","):
        if name and name not in {row[0].rstrip("*") for row in rows}:
            known = ", ".join(sorted({row[0].rstrip("*") for row in rows}))
            raise UserError(f"{named} {name} does not exist; this cluster has: {known}")
    names = wanted.split(",") if wanted else [row[0].rstrip("*") for row in rows if row[0].endswith("*")]
    meant = {name: [row for row in rows if row[0].rstrip("*") == name] for name in names}
    limits = [_limits(rows) for rows in meant.values() if rows]
    gpus = [_gpus_of(row[1]) for rows in meant.values() for row in rows]
    return Partition(
        has_gpus=any(gpus),
        least_gpus=min(filter(None, gpus), default=0),
        most_minutes=max((minutes for minutes, _ in limits), default=float("inf")),
        most_nodes=max((nodes for _, nodes in limits), default=float("inf")),
    )


def refuse_what_cannot_start(partition: Partition, *, nodes: int, minutes: int) -> None:
    """Raise UserError for a job that Slurm may take, and would never start."""
    if minutes > partition.most_minutes:
        most = int(partition.most_minutes)
        raise UserError(
            f"--time-limit-min {minutes} is more than the partition gives ({most}): ask for at most {most}; "
            f"a run that needs longer requeues itself"
        )
    if nodes > partition.most_nodes:
        most = int(partition.most_nodes)
        raise UserError(f"--nodes {nodes} is more than the partition gives a job: ask for at most {most}")


def _gpus_of(devices: str) -> int:
    """Count the GPUs of a node as sinfo shows its devices: ``gpu:a100:4(S:0-1),lscratch:900``."""
    words = [word.split("(")[0] for word in devices.split(",") if word.startswith("gpu")]
    counts = [word.rsplit(":", 1)[-1] for word in words]
    return sum(int(count) if count.isdigit() else 1 for count in counts)


def _limits(rows: list[list[str]]) -> tuple[float, float]:
    """Return the longest time, in minutes, and the most nodes that one partition gives a job."""
    longest_s = seconds_of(rows[0][2]) if len(rows[0]) > 2 else None
    nodes = sum(int(row[3]) for row in rows if len(row) > 3)
    most = rows[0][4].rsplit("-", 1)[-1] if len(rows[0]) > 4 else ""
    return (
        float("inf") if longest_s is None else longest_s / 60,
        min(nodes or float("inf"), int(most) if most.isdigit() else float("inf")),
    )
