"""File systems of another kind, seen by this process and its children alone. Needs root."""

import contextlib
import ctypes
import errno
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

CLONE_NEWNS = 0x00020000
MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 32, 4096, 16384, 1 << 18
PAGE = 4096


class Disk:
    """A real file system of a given size at a folder, from now on in this process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        unseen_by_others()
        _mount("tmpfs", str(folder), "tmpfs", 0, "mode=755")

    def leave_room(self, pages: int) -> None:
        """Let so many pages of 4 KiB be free; a file takes one at least."""
        status = os.statvfs(self.folder)
        used = (status.f_blocks - status.f_bfree) * status.f_frsize
        _mount("tmpfs", str(self.folder), "tmpfs", MS_REMOUNT, f"size={used + pages * PAGE}")

    def make_read_only(self) -> None:
        """Refuse every change, whoever asks."""
        _mount("tmpfs", str(self.folder), "tmpfs", MS_REMOUNT | MS_RDONLY, "")


class QuotaDisk:
    """A real btrfs on which all that lies in `folder` together has a quota, from now on in this process."""

    def __init__(self, root: Path) -> None:
        root.mkdir()
        image, mounted = root / "image", root / "mounted"
        mounted.mkdir()
        self.folder = mounted / "folder"
        unseen_by_others()
        image.touch()
        os.truncate(image, 128 * 2**20)
        _run("mkfs.btrfs", "--quiet", image)
        _run("mount", "-o", "loop", image, mounted)
        _run("btrfs", "quota", "enable", mounted)
        _run("btrfs", "subvolume", "create", self.folder)
        self._group = f"0/{_run('btrfs', 'inspect-internal', 'rootid', self.folder).strip()}"

    def set_quota(self, size: int | None) -> None:
        """Let the folder hold so many bytes, with what btrfs itself needs for it; None: no end."""
        # By the number of its group: asked from within the folder, a full quota refuses this as well.
        _run("btrfs", "qgroup", "limit", "none" if size is None else size, self._group, self.folder.parent)

    def used(self) -> int:
        """Bytes that count now."""
        _run("btrfs", "filesystem", "sync", self.folder)
        shown = _run("btrfs", "qgroup", "show", "--raw", "-f", self.folder)
        return int(shown.split()[-2])


class SlowDisk:
    """A real ext4 on a disk that gives so many bytes a second, from now on in this process.

    Of cgroup v1, whose root alone may be told so of a device.
    """

    LIMIT = Path("/sys/fs/cgroup/blkio/blkio.throttle.read_bps_device")

    def __init__(self, root: Path, *, megabytes: int) -> None:
        root.mkdir()
        self._image, self.folder = root / "image", root / "mounted"
        self.folder.mkdir()
        unseen_by_others()
        self._image.touch()
        os.truncate(self._image, megabytes * 2**20)
        _run("mkfs.ext4", "-q", self._image)
        _run("mount", "-o", "loop", self._image, self.folder)

    @contextlib.contextmanager
    def slow(self, bytes_a_second: int) -> Iterator[None]:
        """Within this block reads are slow, from the disk at first; afterwards the disk is gone."""
        _run("umount", self.folder)
        _run("mount", "-o", "loop", self._image, self.folder)
        device = self.folder.stat().st_dev
        name = f"{os.major(device)}:{os.minor(device)}"
        self.LIMIT.write_text(f"{name} {bytes_a_second}")
        try:
            yield
        finally:
            # The next disk of this number is none of ours.
            self.LIMIT.write_text(f"{name} 0")
            _run("umount", "--lazy", self.folder)


@contextlib.contextmanager
def exfat_disk(root: Path, options: str) -> Iterator[Path]:
    """A folder on a real exFAT by FUSE, as a memory stick has it: with neither links nor permissions.

    options: of its mount, such as umask=077.
    """
    root.mkdir()
    image, mounted = root / "image", root / "mounted"
    mounted.mkdir()
    unseen_by_others()
    image.touch()
    os.truncate(image, 32 * 2**20)
    _run("mkfs.exfat", image)
    loop = _run("losetup", "--find", "--show", image).strip()
    try:
        _run("mount.exfat-fuse", "-o", options, loop, mounted)
    finally:
        # While it is mounted this only says that the device goes with the mount.
        _run("losetup", "--detach", loop)
    try:
        yield mounted
    finally:
        # The server of the file system would outlive this process.
        _run("umount", mounted)


def unseen_by_others() -> None:
    """What is mounted from now on is seen by this process and its children alone."""
    _call("unshare", CLONE_NEWNS)
    _mount("none", "/", "", MS_REC | MS_PRIVATE, "")


def open_the_way(*folders: Path) -> None:
    """From now on in this process, let any account reach these folders, whatever closed home they lie below.

    Nothing of the home itself is opened: an empty folder lies over it, with these folders in it.
    """
    above = {up for one in folders for up in one.parents}
    closed = {up for up in above if not up.stat().st_mode & 0o001}
    if not closed:
        return
    unseen_by_others()
    kept = {one: os.open(one, os.O_PATH) for one in folders}
    # The topmost ones: what lies below them is gone then.
    for home in (one for one in closed if not closed & {*one.parents}):
        _mount("tmpfs", str(home), "tmpfs", 0, "mode=755")
    for one, descriptor in kept.items():
        # It is there where another of them holds it.
        if not one.exists():
            one.mkdir(parents=True)
            _mount(f"/proc/self/fd/{descriptor}", str(one), "", MS_BIND, "")
        os.close(descriptor)


def without_hard_links() -> None:
    """From now on in this process, links are refused as exFAT and CIFS do."""

    def refused(*_names: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    os.link = refused  # type: ignore[assignment]


def can_mount() -> bool:
    """Whether this user may have a disk that no other process sees."""
    return (
        shutil.which("unshare") is not None
        and subprocess.run(
            ["unshare", "--mount", "sh", "-c", "mount -t tmpfs tmpfs /mnt"], capture_output=True, check=False
        ).returncode
        == 0
    )


def _run(*words: object) -> str:
    """What a program prints; it must succeed."""
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, check=False)
    assert done.returncode == 0, (words, done.stdout, done.stderr)
    return done.stdout


def _mount(source: str, target: str, kind: str, flags: int, options: str) -> None:
    _call("mount", source.encode(), target.encode(), kind.encode(), flags, options.encode())


def _call(name: str, *arguments: object) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, name)(*arguments) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), name)
