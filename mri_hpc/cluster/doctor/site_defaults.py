"""The site file: what it sets for all users, and what of it the shell overrules."""

import dataclasses
from collections.abc import Iterator, Mapping

from mri_hpc.cluster.defaults import set_by_shell
from mri_hpc.cluster.doctor.finding import Check, Finding, Site, fine, note
from mri_hpc.cluster.doctor.fixes import line_in_site_env
from mri_hpc.rundir.site_file import PLACE, VARIABLE, site_file

OF_SBATCH = {"partition": "SBATCH_PARTITION", "account": "SBATCH_ACCOUNT", "qos": "SBATCH_QOS"}
"""Settings without which sbatch refuses jobs on some sites, and the variables that it reads."""


def look(site: Site) -> Iterator[Finding]:
    """Say what the file sets; UserError where it is damaged."""
    found = site_file(site.environment)
    if found.path is None:
        yield fine(
            f"no site file here ({PLACE}, or the one that {VARIABLE} names): no defaults but the program's"
        )
        return
    values = dataclasses.asdict(found.job)
    defaults = {name: values[name] for name in found.named}
    yield fine(
        f"{found.path} sets for all users: {_listed(defaults)}; at most: {_listed(found.ceilings.given())}"
    )
    by_shell = set_by_shell(site.environment)
    for name in found.named:
        if name in by_shell:
            yield fine(f"{by_shell[name]} of your shell comes before its {name.replace('_', '-')}")
        elif name in OF_SBATCH:
            variable, value = OF_SBATCH[name], str(values[name])
            yield note(
                f"launch takes {name} {value} from there; sbatch hpc/slurm/preprocess_array.sh does not",
                f"export {variable}={value}, in site.env",
                fix=line_in_site_env(site.clone, variable, value),
            )
    for name, value in found.variables.items():
        yield fine(f"{name} is {site.environment.get(name) or value}")


def _listed(values: Mapping[str, object]) -> str:
    return ", ".join(f"{name.replace('_', '-')} {value}" for name, value in values.items()) or "nothing"


CHECK = Check(name="site", title="What this site sets for all", look=look)
