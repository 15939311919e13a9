"""All checks of the doctor, and the loop over them."""

from collections.abc import Iterator, Sequence

from mri_hpc.base.command import described
from mri_hpc.base.errors import UserError
from mri_hpc.cluster.doctor import (
    file_system,
    gpus,
    libraries,
    limits,
    network,
    private_folders,
    scheduler,
    site_defaults,
    site_key,
    weights_cache,
)
from mri_hpc.cluster.doctor.finding import Check, Finding, Site, problem

CHECKS: tuple[Check, ...] = (
    libraries.CHECK, limits.CHECK, file_system.CHECK, site_key.CHECK, private_folders.CHECK,
    site_defaults.CHECK, scheduler.CHECK, network.CHECK, gpus.CHECK, weights_cache.CHECK,
)  # fmt: skip


def examine(site: Site, checks: Sequence[Check] = CHECKS) -> Iterator[tuple[Check, list[Finding]]]:
    """Yield each check with what it found; one that fails is a problem like any other."""
    for check in checks:
        found: list[Finding] = []
        try:
            found.extend(check.look(site))
        except UserError as error:
            found.append(problem(str(error), ""))
        except OSError as error:
            says, _, cure = described(error).partition("; ")
            found.append(problem(says, cure))
        yield check, found
