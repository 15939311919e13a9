"""Settings of a job of which nothing was typed or saved: the shell's, then the site's, then the program's."""

import argparse
import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mri_hpc.cluster.sbatch_options import GPU_OPTIONS, MEMORY_OPTIONS, variable_of
from mri_hpc.rundir.settings import JobSettings
from mri_hpc.rundir.site_file import SiteFile

VARIABLES = {
    **{name: (variable_of(name),) for name in ("partition", "account", "qos", "constraint")},
    "mem_gb": tuple(map(variable_of, sorted(MEMORY_OPTIONS))),
    "gpus_per_node": tuple(map(variable_of, sorted(GPU_OPTIONS))),
}  # fmt: skip


def default_job(
    site: SiteFile, environment: Mapping[str, str] = os.environ, *, typed: Sequence[str] = ()
) -> JobSettings:
    """Return the site's defaults but for what the shell says: sbatch reads its variables by itself.

    typed: the command line, of which --slurm may say it in Slurm's words.
    """
    otherwise: dict[str, Any] = dict.fromkeys({*set_by_shell(environment), *_set_by_slurm(typed)})
    return dataclasses.replace(site.job, **otherwise)


def _set_by_slurm(typed: Sequence[str]) -> Iterator[str]:
    """Yield settings for which --slurm has several words, and names one."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--slurm", nargs="*", default=())
    pairs = parser.parse_known_args(list(typed))[0].slurm
    words = {pair.partition("=")[0].strip().lstrip("-").replace("_", "-") for pair in pairs}
    if GPU_OPTIONS & words:
        yield "gpus_per_node"
    if MEMORY_OPTIONS & words:
        yield "mem_gb"


def set_by_shell(environment: Mapping[str, str]) -> dict[str, str]:
    """Return settings that the shell's variables name: setting → variable."""
    found = {
        name: next((one for one in variables if environment.get(one)), "")
        for name, variables in VARIABLES.items()
    }
    return {name: variable for name, variable in found.items() if variable}
