"""File systems of another kind, seen by this process and its children alone. Needs root."""

import ctypes
import errno
import os
import shutil
import subprocess
from pathlib import Path

CLONE_NEWNS = 0x00020000
MS_RDONLY, MS_REMOUNT, MS_REC, MS_PRIVATE = 1, 32, 16384, 1 << 18
PAGE = 4096


class Disk:
    """A real file system of a given size at a folder, from now on in this process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        _call("unshare", CLONE_NEWNS)
        _mount("none", "/", "", MS_REC | MS_PRIVATE, "")
        _mount("tmpfs", str(folder), "tmpfs", 0, "mode=755")

    def leave_room(self, pages: int) -> None:
        """Let so many pages of 4 KiB be free; a file takes one at least."""
        status = os.statvfs(self.folder)
        used = (status.f_blocks - status.f_bfree) * status.f_frsize
        _mount("tmpfs", str(self.folder), "tmpfs", MS_REMOUNT, f"size={used + pages * PAGE}")

    def make_read_only(self) -> None:
        """Refuse every change, whoever asks."""
        _mount("tmpfs", str(self.folder), "tmpfs", MS_REMOUNT | MS_RDONLY, "")


def without_hard_links() -> None:
    """From now on in this process, links are refused as exFAT and CIFS do."""

    def refused(*_names: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    os.link = refused


def can_mount() -> bool:
    """Whether this user may have a disk that no other process sees."""
    return (
        shutil.which("unshare") is not None
        and subprocess.run(
            ["unshare", "--mount", "sh", "-c", "mount -t tmpfs tmpfs /mnt"], capture_output=True, check=False
        ).returncode
        == 0
    )


def _mount(source: str, target: str, kind: str, flags: int, options: str) -> None:
    _call("mount", source.encode(), target.encode(), kind.encode(), flags, options.encode())


def _call(name: str, *arguments: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), name)
