"""Requeued jobs that start again at once, not after two minutes: Slurm 25.11, where the site has it on.

Such a job is held for ever where its script ends with another status than 0 (seen with 26.05.5), unless it
has been told that it is not to be requeued any more: then it ends as FAILED, as any other.
"""

import functools
import re

from mri_hpc.base.exit_status import AGAIN
from mri_hpc.cluster import slurm

SINCE = (25, 11)
PARAMETER = "enable_expedited_requeue"
"""Of SlurmctldParameters."""
WORD = "expedite"
"""Of sbatch's --requeue."""
LINES = (
    "# A job of --requeue=expedite that fails is held for ever, unless it is to be requeued no more.",
    f"trap 'ended=$?; if [ \"$ended\" -ne 0 ] && [ \"$ended\" -ne {AGAIN} ]; "
    "then scontrol update \"JobId=$SLURM_JOB_ID\" Requeue=0 || exit 0; fi' EXIT",
)  # fmt: skip
"""Shell lines of a script: whatever it ends by."""


@functools.cache
def is_offered() -> bool:
    """Ask Slurm, once, whether jobs at hand may be requeued so; a Slurm that is too old is asked nothing."""
    found = re.search(r"(\d+)\.(\d+)", slurm.client_version())
    if not found or tuple(map(int, found.groups())) < SINCE:
        return False
    return is_on(slurm.configuration().get("SlurmctldParameters", ""))


def is_on(parameters: str) -> bool:
    """Tell it by SlurmctldParameters."""
    return PARAMETER in parameters.lower().split(",")
