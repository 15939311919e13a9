"""The site file: defaults and ceilings that those who run a cluster set for all of its users.

    [defaults]                      # of launch, by the names of its options
    partition = "gpu"
    time_limit_min = 1440
    [ceilings]
    nodes = 4
    [variables]                     # for shells that have not set them
    TORCH_HOME = "/project/torch"

What is typed comes first; then what a run has saved, the user's shell (which site.env sets), this file, and
last what the program takes by itself. A ceiling spares users a refusal of Slurm's hours later: no fence.
"""

import dataclasses
import os
from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mri_hpc.base.errors import UserError
from mri_hpc.base.settings import load_table, nearest, operation
from mri_hpc.rundir.settings import JobSettings

VARIABLE = "MRI_SITE"
PLACE = Path("/etc/mri_hpc/site.toml")
TABLES = ("defaults", "ceilings", "variables")
VARIABLES = ("TORCH_HOME", "MRI_PYTHON", "NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME")
"""Variables that it may set; the site's key is none of them: whom all users may be, a secret cannot be of."""
# Options of sbatch by which --slurm would ask for the same in other words.
OTHER_WORDS = {
    "nodes": "nodes", "time": "time_limit_min", "mem": "mem_gb", "mem-per-cpu": "mem_gb",
    "mem-per-gpu": "mem_gb", "cpus-per-task": "cpus_per_task", "ntasks-per-node": "tasks_per_node",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Ceilings:
    """The most that a job may ask for; None: the file does not say."""

    nodes: int | None = operation(None)
    """Nodes of the job."""
    tasks_per_node: int | None = operation(None)
    """Ranks a node."""
    gpus_per_node: int | None = operation(None)
    """GPUs a node."""
    cpus_per_task: int | None = operation(None)
    """Cores a rank."""
    mem_gb: float | None = operation(None)
    """Memory a node, in GB."""
    time_limit_min: int | None = operation(None)
    """Time limit of one attempt, in minutes."""

    def given(self) -> dict[str, float]:
        """Return those that the file sets, by the names of their settings."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value is not None}


@dataclass(frozen=True, kw_only=True)
class SiteFile:
    """Defaults, ceilings and variables of one site file; where there is none, none."""

    path: Path | None = None
    """None: there is no such file."""
    job: JobSettings = field(default_factory=JobSettings)
    """Settings of a job of which nothing was typed, saved, or set in the shell."""
    named: tuple[str, ...] = ()
    """Settings of these that the file names."""
    ceilings: Ceilings = field(default_factory=Ceilings)
    variables: Mapping[str, str] = field(default_factory=dict)


def site_file(environment: Mapping[str, str] = os.environ) -> SiteFile:
    """Read the site file: the one that MRI_SITE names, else that in /etc; UserError where it is none."""
    named = environment.get(VARIABLE)
    if named == "" or (named is None and not PLACE.is_file()):
        return SiteFile()
    path = Path(named or PLACE)
    try:
        return _read(path)
    except UserError as error:
        raise UserError(
            f"{error}: tell who runs this cluster; until then, {VARIABLE}= before a command does without it"
        ) from None


def _read(path: Path) -> SiteFile:
    # Reads the file as settings are read, which refuses what is no TOML.
    job, ceilings = load_table(path, "defaults", JobSettings), load_table(path, "ceilings", Ceilings)
    tables = _tables(path)
    for name in tables:
        if name not in TABLES:
            raise UserError(f"{path}: unknown table [{name}]{nearest(name, TABLES)}")
        if not isinstance(tables[name], dict):
            raise UserError(f"{path}: {name} is no table: write [{name}]")
    variables = tables.get("variables", {})
    for name, value in variables.items():
        if name not in VARIABLES:
            raise UserError(f"{path}: [variables] may set {', '.join(VARIABLES)}, not {name}")
        if not isinstance(value, str):
            raise UserError(f"{path}: {name} = {value!r} in [variables] must be a text in quotes")
    return SiteFile(
        path=path, job=_below(path, job, ceilings), named=tuple(tables.get("defaults", {})),
        ceilings=ceilings,
        variables=variables,
    )  # fmt: skip


def _tables(path: Path) -> dict[str, Any]:
    import tomllib

    document = tomllib.loads(path.read_text(encoding="utf-8"))
    return {name: value for name, value in document.items() if name != "format"}


def _below(path: Path, job: JobSettings, ceilings: Ceilings) -> JobSettings:
    """Return defaults that no ceiling refuses."""
    asked = {**dataclasses.asdict(job), "nodes": job.node_range.most}
    lowered: dict[str, Any] = {
        name: most
        for name, most in ceilings.given().items()
        if asked[name] is not None and asked[name] > most
    }
    if job.takes_any_number and "nodes" in lowered:
        most_nodes = int(lowered["nodes"])
        lowered["nodes"] = f"{min(job.node_range.least, most_nodes)}-{most_nodes}"
    try:
        return dataclasses.replace(job, **lowered)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def take_variables(site: SiteFile, environment: MutableMapping[str, str] = os.environ) -> None:
    """Set what the site file sets, in this process and those that it starts, where the shell has not."""
    for name, value in site.variables.items():
        environment.setdefault(name, value)


def refuse_above(site: SiteFile, job: JobSettings, *, tasks_per_node: int, gpus_per_node: int) -> None:
    """Raise UserError where a job asks for more than the site file has for anybody.

    tasks_per_node, gpus_per_node: of the job as it would be submitted.
    """
    of_node = {"tasks_per_node": tasks_per_node, "gpus_per_node": gpus_per_node}
    asked = {**dataclasses.asdict(job), **of_node, "nodes": job.node_range.most}
    most = site.ceilings.given()
    for name, ceiling in most.items():
        if asked[name] is not None and asked[name] > ceiling:
            option = f"--{name.replace('_', '-')}"
            raise UserError(
                f"{option} {asked[name]} is above the {ceiling} that {site.path} sets for all users here: "
                f"give {option} {ceiling} or less"
            )
    for pair in job.slurm:
        word = pair.partition("=")[0].strip().lstrip("-").replace("_", "-")
        if OTHER_WORDS.get(word) in most:
            option = f"--{OTHER_WORDS[word].replace('_', '-')}"
            raise UserError(
                f"--slurm {word}=...: {site.path} has a ceiling on {option} for all users here: give {option}"
            )
