"""The demands of a store on a file system, one by one, with two processes where two can differ."""

import errno
import fcntl
import mmap
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mri_hpc.base.atomic import (
    publish_folder,
    publish_new_bytes,
    replace_bytes,
    sync_folder,
)
from mri_hpc.testing import processes

NAMES, REPLACEMENTS, LOOKS = 40, 60, 10
BLOCK = 2**16
NO_FSYNC_OF_FOLDERS = (errno.EINVAL, errno.EOPNOTSUPP)


class NotKept(Exception):
    """Something that a store relies on is not so here; the message says what was found."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that a store relies on."""

    what: str
    means: str
    """For a store, where it is not so."""
    look: Callable[[Path], str]
    """Looks in an empty folder, and says what was found; NotKept, OSError or UserError where it is not so."""


def give_names(folder: Path) -> str:
    """Have two processes publish files of the same names: each name is one's, and the file is that one's."""

    def publish(who: int) -> Callable[[], object]:
        def step() -> None:
            won = [name for name in range(NAMES) if publish_new_bytes(folder / f"{name}", _block(who))]
            (folder / f"won-{who}").write_bytes(bytes(won))

        return step

    processes.together([publish(1), publish(2)], folder)
    first, second = ((folder / f"won-{who}").read_bytes() for who in (1, 2))
    twice, never = set(first) & set(second), set(range(NAMES)) - set(first) - set(second)
    if twice or never:
        raise NotKept(
            f"of {NAMES} names, {len(twice)} were given to both of two processes, {len(never)} to none"
        )
    wrong = [
        name for name in range(NAMES) if (folder / f"{name}").read_bytes() != _block(1 + (name in second))
    ]
    if wrong:
        raise NotKept(
            f"{len(wrong)} of {NAMES} files are not as the process wrote them that was given the name"
        )
    return f"{NAMES} names, asked for by two processes, {_way_of_linking(folder)}"


def _way_of_linking(folder: Path) -> str:
    try:
        os.link(folder / "0", folder / "another")
    except OSError as error:
        return f"by renames that replace nothing (no hard links: {error.strerror})"
    return "by hard links"


def replace_files(folder: Path) -> str:
    """Replace a file in one process, read it in another: it is always one of the versions, whole."""
    path = folder / "file"
    replace_bytes(path, _block(0))

    def replace() -> None:
        for version in range(1, REPLACEMENTS):
            replace_bytes(path, _block(version))

    with processes.none_left():
        child, reads, is_running = processes.start(replace, folder), 0, True
        while is_running:
            is_running = not processes.has_ended(child)
            data = _read_whole(path)
            if data != data[:1] * BLOCK:
                raise NotKept(
                    f"a file that was being replaced was read as {len(data)} bytes of {BLOCK}, or mixed"
                )
            reads += 1
        processes.wait(child, folder)
    return f"{REPLACEMENTS} versions, read {reads} times meanwhile"


def _read_whole(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise NotKept("a file that was being replaced was missing for a moment") from None


def list_names(folder: Path) -> str:
    """Write a file in one process; list the folder, listed before, in another, and read the file."""
    for look in range(LOOKS):
        before = {path.name for path in folder.iterdir()}
        name = f"file-{look}"
        processes.together([partial(replace_bytes, folder / name, _block(look))], folder)
        after = {path.name for path in folder.iterdir()}
        if after - before != {name}:
            raise NotKept(
                f"after {name} was published, another process listed {sorted(after - before)} as new"
            )
        if (folder / name).read_bytes() != _block(look):
            raise NotKept(f"{name} was listed, but another process did not read what was written")
    return f"{LOOKS} of {LOOKS} at once"


def publish_folders(folder: Path) -> str:
    """Have two processes publish folders of the same names: each is one's, whole, and stays."""

    def publish(who: int) -> Callable[[], object]:
        def fill(temp: Path) -> None:
            for part in range(3):
                (temp / f"{part}").write_bytes(_block(who))

        def step() -> None:
            won = [name for name in range(LOOKS) if publish_folder(folder / f"{name}", fill)]
            (folder / f"won-{who}").write_bytes(bytes(won))

        return step

    processes.together([publish(1), publish(2)], folder)
    first, second = (set((folder / f"won-{who}").read_bytes()) for who in (1, 2))
    if first & second or len(first | second) < LOOKS:
        raise NotKept(f"of {LOOKS} folders, {len(first & second)} were published by both of two processes")
    for name in range(LOOKS):
        parts = [part.read_bytes() for part in (folder / f"{name}").iterdir()]
        if parts != [_block(1 + (name in second))] * 3:
            raise NotKept(f"folder {name} is not whole, or not that of the process that published it")
    return f"{LOOKS} folders, each of one process"


def sync(folder: Path) -> str:
    """Time fsync of files and folders."""
    seconds = []
    for name in range(LOOKS):
        start_s = time.monotonic()
        replace_bytes(folder / f"{name}", _block(name))
        seconds.append(time.monotonic() - start_s)
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
        which = "files and folders"
    except OSError as error:
        if error.errno not in NO_FSYNC_OF_FOLDERS:
            raise
        which = "files; of folders it is refused, as where a server keeps the order"
    finally:
        os.close(descriptor)
    sync_folder(folder)
    return f"{which}; {statistics.median(seconds) * 1e3:.1f} ms to write a file"


def unlink_open_files(folder: Path) -> str:
    """Read a file to its end that another process has removed."""
    path = folder / "file"
    path.write_bytes(_block(7))
    with path.open("rb", buffering=0) as file:
        begun = file.read(BLOCK // 2)
        processes.together([path.unlink], folder)
        if begun + file.read(BLOCK) != _block(7):
            raise NotKept("a file that was removed while it was open could not be read to its end")
    if path.exists():
        raise NotKept("a file that was removed is still there")
    return "read to its end"


def map_files(folder: Path) -> str:
    """Mapped memory shows what another process wrote, and stays when the file is replaced."""
    path = folder / "file"
    processes.together([lambda: replace_bytes(path, _block(1))], folder)
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
        processes.together([lambda: replace_bytes(path, _block(2))], folder)
        if mapped[:] != _block(1):
            raise NotKept("mapped memory is not what the file held when it was mapped")
    if path.read_bytes() != _block(2):
        raise NotKept("a file that was replaced while it was mapped is still the old one")
    return "mapped memory is as written"


def look_at_locks(folder: Path) -> str:
    """Say how flock does, which nothing here asks for."""
    with (folder / "file").open("wb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            return f"flock is refused here ({error.strerror}), and not needed"
    return "flock works here, and is not needed"


def keep_private(folder: Path) -> str:
    """Make a folder and a file for their owner alone."""
    private = folder / "private"
    private.mkdir(mode=0o700)
    os.close(os.open(private / "file", os.O_WRONLY | os.O_CREAT, 0o600))
    modes = [path.stat().st_mode & 0o777 for path in (private, private / "file")]
    shown = "folder {:o}, file {:o}".format(*modes)
    if any(mode & 0o077 for mode in modes):
        raise NotKept(f"{shown}, in place of 700 and 600")
    return shown


def _block(number: int) -> bytes:
    return bytes([number]) * BLOCK


CHECKS = (
    Check(
        what="fsync is answered",
        means="a machine that loses its power loses what was said to be stored",
        look=sync,
    ),
    Check(
        what="a name is given to one file only",
        means="two tasks could both believe that their commit counts: images lost, or twice",
        look=give_names,
    ),
    Check(
        what="a file is replaced at once",
        means="readers could see half of a repaired chunk",
        look=replace_files,
    ),
    Check(
        what="what is published is seen by other processes",
        means="tasks would not see each other's commits, and store images twice until they do",
        look=list_names,
    ),
    Check(
        what="a folder is published at once",
        means="a snapshot could be read before it is whole",
        look=publish_folders,
    ),
    Check(
        what="an open file outlives its name",
        means="compaction and repair would break jobs that read",
        look=unlink_open_files,
    ),
    Check(what="mapped files are as written", means="training could see other pixels", look=map_files),
    Check(what="no lock is needed", means="nothing: no lock is ever asked for", look=look_at_locks),
    Check(
        what="private/ is its owner's alone",
        means="others could read which patient is which; stores are refused here",
        look=keep_private,
    ),
)
