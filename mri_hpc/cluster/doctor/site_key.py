"""The key of the site's pseudonyms: its place, and who can read it."""

import os
from collections.abc import Iterator
from pathlib import Path

from mri_hpc.base.access import is_wider
from mri_hpc.cluster.doctor.finding import Check, Finding, Site, fine, note, problem
from mri_hpc.cluster.doctor.fixes import key_at, mode_of
from mri_hpc.cluster.slurm import own_job_id
from mri_hpc.intake.labels.pseudonyms import key_path, site_key


def look(site: Site) -> Iterator[Finding]:
    """Look for the key; none is made."""
    path = key_path(site.environment)
    if path.is_file():
        yield _of_key(path)
    elif _can_be_made(path):
        yield note(
            f"there is no key yet: the first preprocess makes {path}, and whoever has another one gives a "
            f"patient another pseudonym",
            "to share one with the group: export MRI_KEY_FILE=/project/folder/site.key, in site.env",
            # Of a node's own disk it would be gone, or another node's would be another.
            fix=None if own_job_id(site.environment) else key_at(path),
        )
    else:
        yield problem(
            f"the site's key cannot be made: {path.parent} cannot be written",
            "export MRI_KEY_FILE=/project/folder/site.key, in site.env",
        )
    if not site.environment.get("MRI_KEY_FILE"):
        yield note(
            "MRI_KEY_FILE is not set: where compute nodes see another home folder, they have no key",
            "export MRI_KEY_FILE=/project/folder/site.key, in site.env, where home is not on all nodes",
        )


def _of_key(path: Path) -> Finding:
    if is_wider(path, path.stat().st_gid):
        return problem(
            f"{path} is the site's key, and others may read it", f"chmod 600 {path}", fix=mode_of(path, 0o600)
        )
    # A group that the key was given to may read it.
    site_key(path, group=path.stat().st_gid)
    return fine(f"the site's key is {path}; keep a copy of it in a safe place")


def _can_be_made(path: Path) -> bool:
    nearest = next(folder for folder in path.parents if folder.exists())
    return nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)


CHECK = Check(name="key", title="Key of pseudonyms", look=look)
