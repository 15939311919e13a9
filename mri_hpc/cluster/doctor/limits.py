"""Limits of this shell and machine: memory, open files, the folder of temporary files."""

import os
import resource
import tempfile
from collections.abc import Iterator
from pathlib import Path

from mri_hpc.base.command import shown_bytes
from mri_hpc.cluster.doctor.finding import Check, Finding, Site, fine, note, problem

LAUNCH_NEEDS = 2 * 2**30
"""Address space with which launch and preprocess start, decoders and HDF5 included."""
OPEN_FILES = 1024
TEMPORARY_NEEDS = 2**30


def look(_site: Site) -> Iterator[Finding]:
    """Look at what this shell may use."""
    yield fine(
        f"{len(os.sched_getaffinity(0))} cores, {shown_bytes(_memory())} of memory: a login node may be small"
    )
    most, _hard = resource.getrlimit(resource.RLIMIT_AS)
    if most != resource.RLIM_INFINITY and most < LAUNCH_NEEDS:
        yield problem(
            f"this shell may use {shown_bytes(most)} of address space (ulimit -v), too little to start",
            "ulimit -v unlimited, or work in a job: srun --pty bash",
        )
    files, most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    if files < OPEN_FILES:
        yield note(f"a process may have {files} files open (ulimit -n)", f"ulimit -n {min(4096, most_files)}")
    yield _temporary(Path(tempfile.gettempdir()))


def _temporary(folder: Path) -> Finding:
    found = os.statvfs(folder)
    free = found.f_bavail * found.f_frsize
    if found.f_flag & os.ST_NOEXEC:
        return note(
            f"programs cannot be started from {folder}, the folder of temporary files (noexec)",
            "export TMPDIR=/another/folder, if a library complains that it cannot load",
        )
    if free < TEMPORARY_NEEDS:
        return note(
            f"{folder}, the folder of temporary files, has {shown_bytes(free)} left",
            "export TMPDIR=/another/folder, before anything is installed",
        )
    return fine(f"temporary files go to {folder}, which has {shown_bytes(free)} left")


def _memory() -> int:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


CHECK = Check(name="limits", title="This machine and shell", look=look)
