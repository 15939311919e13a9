"""The file system under stores and runs: room, names, and what a store relies on."""

import itertools
import os
from collections.abc import Iterator

from mri_hpc.base.command import shown_bytes
from mri_hpc.base.mounts import mount_of
from mri_hpc.cluster.doctor.finding import Check, Finding, Site, fine, note, problem
from mri_hpc.testing.file_system import CHECKS
from mri_hpc.testing.proof import own_folder, prove

ROOM_NEEDED = 10 * 2**30
NAMES_NEEDED = 10_000
SLOW_S = 0.2
"""For the first thing that is tried, by which all others would take more than three seconds."""


def look(site: Site) -> Iterator[Finding]:
    """Look at its room, and at each thing that a store relies on, in a folder that is removed."""
    mount, found = mount_of(site.folder), os.statvfs(site.folder)
    free = found.f_bavail * found.f_frsize
    room = f"{site.folder} lies on {mount.kind}, with {shown_bytes(free)} left"
    if free < ROOM_NEEDED:
        yield note(
            f"{room}: little for checkpoints", "df -h, quota -s; or --store and --run on another file system"
        )
    else:
        yield fine(room)
    # 0 of all: a file system that makes names as they are needed.
    if found.f_files and found.f_favail < NAMES_NEEDED:
        yield problem(
            f"{found.f_favail:,} more files can be made there", "df -i; or work on another file system"
        )
    if not os.access(site.folder, os.W_OK | os.X_OK):
        yield problem(f"{site.folder} cannot be written by you", "another folder: mri-hpc doctor /scratch/me")
        return
    elsewhere = f"put stores on another file system; more: mri-hpc store prove {site.folder}"
    with own_folder(site.folder) as folder:
        # Without the stores that `store prove` tries, which takes a minute.
        asked = itertools.islice(prove(folder, seconds=0), len(CHECKS))
        outcomes = [next(asked)]
        is_slow = outcomes[0].seconds > SLOW_S
        outcomes += [] if is_slow else asked
    for outcome in outcomes:
        if not outcome.is_kept:
            yield problem(f"{outcome.what}: {outcome.found}; else {outcome.means}", elsewhere)
    if is_slow:
        yield note(
            f"{outcomes[0].what}, slowly: {outcomes[0].found}; what else a store relies on was not tried",
            f"mri-hpc store prove {site.folder}, which takes longer",
        )
    elif all(outcome.is_kept for outcome in outcomes):
        yield fine(f"it keeps {len(outcomes)} things that a store relies on: {outcomes[0].found}")


CHECK = Check(name="files", title="File system of stores and runs", look=look)
