"""A disk that some processes read slowly, by the kernel's doing; seen by this process and its children."""

import os
import shlex
import subprocess
import sys
from pathlib import Path

from tests.harness.disks import unseen_by_others

BLKIO = Path("/sys/fs/cgroup/blkio")
SIZE = 2**30


def why_none() -> str:
    """Say why there can be none here; empty where there can."""
    if not (BLKIO / "cgroup.procs").exists():
        return f"no control group of version 1 at {BLKIO}"
    return "" if os.geteuid() == 0 else "this needs root"


class SlowDisk:
    """An ext4 of its own, which is fast but for the processes that `python` starts."""

    def __init__(self, root: Path) -> None:
        self.folder = root / "disk"
        self.folder.mkdir()
        unseen_by_others()
        image = root / "disk.ext4"
        image.touch()
        os.truncate(image, SIZE)
        _run("mkfs.ext4", "-q", image)
        self._loop = _run("losetup", "--find", "--show", image).strip()
        _run("mount", self._loop, self.folder)
        # From now on the device goes with the mount.
        _run("losetup", "--detach", self._loop)
        self._group = BLKIO / f"slow-disk-{os.getpid()}"
        self._group.mkdir()
        self.python = root / "slow-python"
        procs = shlex.quote(str(self._group / "cgroup.procs"))
        self.python.write_text(f'#!/bin/sh\necho $$ >{procs}\nexec {sys.executable} "$@"\n')
        self.python.chmod(0o755)

    def limit(self, bytes_per_s: int) -> None:
        """Let all that `python` starts read so much a second, together."""
        number = self.folder.stat().st_dev
        device = f"{os.major(number)}:{os.minor(number)}"
        (self._group / "blkio.throttle.read_bps_device").write_text(f"{device} {bytes_per_s}")

    def forget(self) -> None:
        """Let nothing of it be in memory any more, as where other jobs took the room."""
        os.sync()
        Path("/proc/sys/vm/drop_caches").write_text("1")

    def close(self) -> None:
        """Take it away, once nobody reads it any more."""
        _run("umount", self.folder)
        self._group.rmdir()


def _run(*words: object) -> str:
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, (words, done.stdout, done.stderr)
    return done.stdout
