"""Settings of a job of which nothing was typed or saved: the shell's, then the site's, then the program's."""

import dataclasses
import os
from collections.abc import Mapping
from typing import Any

from mri_hpc.cluster import slurm
from mri_hpc.rundir.settings import JobSettings
from mri_hpc.rundir.site_file import SiteFile

VARIABLES = {
    **{name: (slurm.SBATCH_VARIABLES[name],) for name in ("partition", "account", "qos", "constraint")},
    "mem_gb": slurm.MEMORY_VARIABLES, "gpus_per_node": slurm.GPU_VARIABLES,
}  # fmt: skip


def default_job(site: SiteFile, environment: Mapping[str, str] = os.environ) -> JobSettings:
    """Return the site's defaults but for what the shell says: sbatch reads its variables by itself."""
    by_shell: dict[str, Any] = dict.fromkeys(set_by_shell(environment))
    return dataclasses.replace(site.job, **by_shell)


def set_by_shell(environment: Mapping[str, str]) -> dict[str, str]:
    """Return settings that the shell's variables name: setting → variable."""
    found = {
        name: next((one for one in variables if environment.get(one)), "")
        for name, variables in VARIABLES.items()
    }
    return {name: variable for name, variable in found.items() if variable}
