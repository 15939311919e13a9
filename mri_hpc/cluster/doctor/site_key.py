"""The key of the site's pseudonyms: its place, and who can read it."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

from mri_hpc.base.access import is_wider
from mri_hpc.base.mounts import are_on_one_disk, is_of_this_machine, mount_of, nearest_folder
from mri_hpc.cluster.doctor.finding import Check, Finding, Level, Site, fine, note, problem
from mri_hpc.cluster.doctor.fixes import key_at, mode_of
from mri_hpc.cluster.slurm import own_job_id
from mri_hpc.intake.labels.pseudonyms import key_path, site_key

SHARED = "export MRI_KEY_FILE=/project/folder/site.key, in site.env"
BLOCK = 4096
WITHOUT_NAMELESS = (errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL)
"""Answers of file systems, such as NFS, that have no files without names."""


def look(site: Site) -> Iterator[Finding]:
    """Look for the key; none is made."""
    path = key_path(site.environment)
    if path.is_file():
        yield _of_key(path)
    elif not (why := _why_not_made(path)):
        yield note(
            f"there is no key yet: the first preprocess makes {path}, and whoever has another one gives a "
            f"patient another pseudonym",
            f"to share one with the group: {SHARED}",
            # Of a node's own disk it would be gone, or another node's would be another.
            fix=None if own_job_id(site.environment) else key_at(path),
        )
    else:
        yield problem(f"the site's key cannot be made at {path}: {why}", SHARED)
        return
    if is_of_this_machine(path) and not are_on_one_disk(path, site.folder):
        is_refused = own_job_id(site.environment) and not path.is_file()
        kind = mount_of(nearest_folder(path)).kind
        yield Finding(
            level=Level.PROBLEM if is_refused else Level.NOTE,
            says=f"the key's folder is on a disk of this machine ({kind}), and stores will lie on another: a "
            "node that does not see it takes no images",
            cure=SHARED,
        )
    elif not site.environment.get("MRI_KEY_FILE"):
        yield note(
            "MRI_KEY_FILE is not set: where compute nodes see another home folder, they have no key",
            f"{SHARED}, where home is not on all nodes",
        )


def _of_key(path: Path) -> Finding:
    if is_wider(path, path.stat().st_gid):
        return problem(
            f"{path} is the site's key, and others may read it", f"chmod 600 {path}", fix=mode_of(path, 0o600)
        )
    # A group that the key was given to may read it.
    site_key(path, group=path.stat().st_gid)
    return fine(f"the site's key is {path}; keep a copy of it in a safe place")


def _why_not_made(path: Path) -> str:
    """Say what forbids to make the key; empty where nothing does. A file without a name is tried."""
    folder = nearest_folder(path)
    try:
        descriptor = os.open(folder, os.O_TMPFILE | os.O_WRONLY, 0o600)
    except OSError as error:
        if error.errno not in WITHOUT_NAMELESS:
            return str(error.strerror)
        return "" if os.access(folder, os.W_OK | os.X_OK) else f"{folder} cannot be written"
    try:
        os.write(descriptor, bytes(BLOCK))
    except OSError as error:
        return str(error.strerror)
    finally:
        os.close(descriptor)
    return ""


CHECK = Check(name="key", title="Key of pseudonyms", look=look)
