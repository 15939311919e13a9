"""Mounted file systems, as /proc shows them."""

import os
import re
from dataclasses import dataclass
from pathlib import Path


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
