"""Mounted file systems, as /proc shows them."""

import os
import re
from dataclasses import dataclass
from pathlib import Path

OF_ONE_MACHINE = {
    "btrfs", "exfat", "ext2", "ext3", "ext4", "f2fs", "fuse.fuse-overlayfs", "jfs", "overlay", "ramfs",
    "rootfs", "tmpfs", "vfat", "xfs", "zfs",
}  # fmt: skip
"""Kinds of disks and memory that one machine has to itself; any other one may come over the network."""


@dataclass(frozen=True, kw_only=True)
class Mount:
    """One mounted file system."""

    point: str
    """Folder at which it is mounted."""
    kind: str
    """Such as ext4, nfs4, lustre."""


def mount_of(path: Path) -> Mount:
    """The file system on which a file or folder lies."""
    real, found = Path(os.path.realpath(path)), Mount(point="/", kind="unknown")
    for line in Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape").splitlines():
        before, _, after = line.partition(" - ")
        point = re.sub(r"\\([0-7]{3})", lambda digits: chr(int(digits[1], 8)), before.split()[4])
        # Of several at one place, the last one lies on top.
        if real.is_relative_to(point) and len(point) >= len(found.point):
            found = Mount(point=point, kind=after.split()[0])
    return found


def is_of_this_machine(path: Path) -> bool:
    """Tell whether what lies, or would lie, at a path is on a disk that this machine has to itself."""
    return mount_of(nearest_folder(path)).kind in OF_ONE_MACHINE


def are_on_one_disk(one: Path, other: Path) -> bool:
    """Tell whether what lies, or would lie, at two paths is on one file system."""
    return nearest_folder(one).stat().st_dev == nearest_folder(other).stat().st_dev


def nearest_folder(path: Path) -> Path:
    """Return the path, or the nearest of those above it that is there."""
    real = Path(os.path.realpath(path))
    return next(place for place in (real, *real.parents) if os.path.lexists(place))
