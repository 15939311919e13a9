"""The one door through which files are published: readers see all of a file or none of it."""

import contextlib
import errno
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from mri_hpc.base.errors import UserError
from mri_hpc.base.process import look_at

TEMP_PREFIX = ".tmp-"
"""Prefix of names that no reader looks at; a kill can leave such files behind."""

RENAME_NOREPLACE = 1
AT_FDCWD = -100
# What link(2) answers on file systems without hard links (exFAT, CIFS, some FUSE and bind mounts).
NO_HARD_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EXDEV, errno.EMLINK}


def publish_new(
    path: Path, write: Callable[[Path], None], check: Callable[[Path], None] | None = None
) -> bool:
    """Publish a file that never changes; True if it is ours, False if `path` was there already (and stays).

    `write` fills a temporary file in the same folder; `check` reopens it and raises if it is not sound.
    Order: data fsync, check, link, directory fsync.
    """
    with temporary_beside(path) as temp:
        write(temp)
        _sync_file(temp)
        if check:
            check(temp)
        is_ours = _link_new(temp, path)
    sync_folder(path.parent)
    return is_ours


def publish_new_bytes(
    path: Path,
    data: bytes,
    *,
    check: Callable[[Path], None] | None = None,
    is_private: bool = False,
    group: int | None = None,
) -> bool:
    """Publish `data` as a file that never changes; False if `path` was there already (and stays).

    `check` as in publish_new; a private file is readable by its owner alone from its first byte, and by one
    group if that is given.
    """
    return publish_new(path, lambda temp: _write_bytes(temp, data, is_private=is_private, group=group), check)


def replace_bytes(path: Path, data: bytes, *, is_private: bool = False, group: int | None = None) -> None:
    """Publish `data` at `path`; it replaces a file that may be there. Options as in publish_new_bytes."""
    replace(path, lambda temp: _write_bytes(temp, data, is_private=is_private, group=group))


def replace(path: Path, write: Callable[[Path], object]) -> None:
    """Publish a file written by `write` at `path`; it replaces one that may be there."""
    with temporary_beside(path) as temp:
        write(temp)
        _sync_file(temp)
        temp.replace(path)
    sync_folder(path.parent)


def publish_folder(path: Path, fill: Callable[[Path], None]) -> bool:
    """Publish a whole folder at once; False if `path` was there already (and stays).

    `fill` writes plain files straight into the temporary folder it is given.
    """
    with temporary_beside(path) as temp:
        _fill_folder(temp, fill)
        try:
            temp.rename(path)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
            return False
    sync_folder(path.parent)
    return True


def replace_folder(path: Path, fill: Callable[[Path], None], check: Callable[[], None] | None = None) -> None:
    """Publish a whole folder in place of what may be there; `fill` as in publish_folder.

    `check` is called once all is durable, and raises where it is not to be published any more.
    A kill between the two renames leaves neither: only for what can be made again.
    """
    with temporary_beside(path) as temp, temporary_beside(path) as old:
        _fill_folder(temp, fill)
        if check:
            check()
        with contextlib.suppress(FileNotFoundError):
            path.rename(old)
        try:
            temp.rename(path)
        except OSError:
            # Another process has taken ours away: what was there stays.
            with contextlib.suppress(OSError):
                old.rename(path)
            raise
    sync_folder(path.parent)


def remove_folder(path: Path) -> None:
    """Remove a folder, or a file, at once: no reader sees a part of it; harmless when it is not there.

    Of a link to a folder the link alone.
    """
    with temporary_beside(path) as temp, contextlib.suppress(FileNotFoundError):
        path.rename(temp)


def move(path: Path, target: Path) -> bool:
    """Give a published file another name in its folder; False where it is not there any more."""
    try:
        path.rename(target)
    except FileNotFoundError:
        return False
    return True


def is_abandoned(temp: Path) -> bool | None:
    """Tell whether the process that made a temporary file has ended; None if that is unknown here.

    No clock is asked: one that jumps takes no file away from a process that is still writing it.
    """
    maker = re.fullmatch(rf"{re.escape(f'{TEMP_PREFIX}{_here()}-')}(\d+)\.(\d+)-[0-9a-f]{{8}}-.+", temp.name)
    if maker is None:
        return None
    try:
        return look_at(int(maker[1])).start_ticks != int(maker[2])
    except OSError:
        return not _is_process(int(maker[1]))


def append_line(path: Path, line: str) -> None:
    """Append one line durably, in a single write, so that lines of several processes do not mix.

    Raises OSError where not all of it could be written.
    """
    assert "\n" not in line
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        size = os.fstat(descriptor).st_size
        # A full disk cuts a line short: it must not swallow the one that follows.
        is_cut_short = size > 0 and os.pread(descriptor, 1, size - 1) != b"\n"
        data = b"\n" * is_cut_short + line.encode() + b"\n"
        if os.write(descriptor, data) < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        # Some network file systems refuse to fsync a folder; there the server keeps the order.
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
            raise
    finally:
        os.close(descriptor)


def _here() -> str:
    """Name the scope in which a process id is unique: the machine, and the container in it."""
    return f"{os.uname().nodename}.{Path('/proc/self/ns/pid').stat().st_ino}"


def _is_process(number: int) -> bool:
    """Tell whether there is such a process, also where other users' are hidden in /proc."""
    try:
        os.kill(number, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def _remove(temp: Path) -> None:
    try:
        temp.unlink(missing_ok=True)
    except OSError as error:
        # Where nothing can be written, nothing is there: the error that led here says more.
        if error.errno != errno.EROFS:
            raise


@contextlib.contextmanager
def temporary_beside(path: Path) -> Iterator[Path]:
    """Yield a name beside `path` that no reader looks at; gone afterwards, short of a kill."""
    # mkstemp would give mode 0600; a plain open honours the umask and the folder's group.
    maker = f"{_here()}-{os.getpid()}.{look_at(os.getpid()).start_ticks}"
    temp = path.with_name(f"{TEMP_PREFIX}{maker}-{os.urandom(4).hex()}-{path.name}")
    try:
        yield temp
    except OSError as error:
        # A write that fails does not name its file, and the temporary name means nothing to the user.
        if error.errno and str(error.filename or temp).startswith(str(temp)):
            error.filename, error.filename2 = str(path), None
        raise
    finally:
        if temp.is_dir() and not temp.is_symlink():
            # Rare, and the end of a job is decided in seconds, imports among them.
            import shutil

            shutil.rmtree(temp)
        else:
            _remove(temp)


def _fill_folder(temp: Path, fill: Callable[[Path], None]) -> None:
    temp.mkdir()
    fill(temp)
    for file in temp.iterdir():
        _sync_file(file)
    sync_folder(temp)


def _write_bytes(path: Path, data: bytes, *, is_private: bool, group: int | None) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if is_private else 0o666)
    with os.fdopen(descriptor, "wb") as file:
        if is_private and group is not None:
            os.fchown(descriptor, -1, group)
            # Not when it is made: the umask would take it back.
            os.fchmod(descriptor, 0o660)
        file.write(data)


def _sync_file(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _link_new(temp: Path, path: Path) -> bool:
    """Give the finished file its final name unless that name is taken; True if the name is ours."""
    try:
        os.link(temp, path)
    except FileExistsError:
        # On NFS a link that worked can be answered with an error when the reply was lost.
        return temp.stat().st_nlink == 2
    except OSError as error:
        if error.errno not in NO_HARD_LINKS:
            raise
        return _rename_new(temp, path)
    return True


def _rename_new(temp: Path, path: Path) -> bool:
    # As shutil above: needed only where there are no hard links.
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(AT_FDCWD, os.fsencode(temp), AT_FDCWD, os.fsencode(path), RENAME_NOREPLACE) == 0:
        return True
    code = ctypes.get_errno()
    if code == errno.EEXIST:
        return False
    if code in (errno.EINVAL, *NO_HARD_LINKS):
        raise UserError(
            f"{path} cannot be published: this file system has neither hard links nor renames that replace "
            "nothing (exfat-fuse, sshfs and rclone have not); choose a folder on another one"
        )
    raise OSError(code, os.strerror(code), str(path))
