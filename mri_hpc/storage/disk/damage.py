"""Damage of a store's files: which errors are one, and what to do about it."""

import errno
from pathlib import Path

from mri_hpc.base.errors import NewerFormat, StoreDamage

# The system or the user is at fault, not what is on the disk.
NO_DAMAGE = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EACCES, errno.EPERM}

UNREADABLE = (StoreDamage, NewerFormat)
"""Errors that are raised where a file of a store cannot be read."""


def is_damage(error: OSError) -> bool:
    """Tell whether a file that cannot be read is damaged, or lost."""
    return error.errno not in NO_DAMAGE


def advice(path: Path) -> str:
    """Return what to do about a damaged chunk or snapshot."""
    return f"repair it: mri-hpc store verify {path.parents[1]} --repair --source DIR"
