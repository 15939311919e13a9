"""Content: the bytes of all files of a source, as they were at one moment."""

import contextlib
import functools
import hashlib
import io
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mri_hpc.base.errors import BadSource
from mri_hpc.intake.files import archives
from mri_hpc.intake.files.fingerprint import Fingerprint, Look, fingerprint, mtime_ns, size_and_time

MAX_BYTES = 96 * 2**20
"""Of what is read as a whole: a file, or all of a series. Volumes may be larger: they are read by and by."""
MOST_AT_ONCE = 256 * 2**20
"""Of a series in a compressed tar, which is read as a whole."""
GZIP, DICM = b"\x1f\x8b", b"DICM"
# MGH, Analyze in either byte order, NRRD and MetaImage.
VOLUMES = (
    GZIP, b"\0\0\0\1", b"\x5c\1\0\0", b"\0\0\1\x5c", b"NRRD000", b"ObjectType", b"NDims",
)  # fmt: skip
START_BYTES = 1024
"""So many first bytes tell what a source is."""

CANNOT_OPEN = "file cannot be opened"
CANNOT_READ = "file cannot be read"
NOT_REGULAR = "not a regular file"
LINK_TO_NOTHING = "link to a file that is not there (git-annex: get it first)"
BEING_WRITTEN = "file is being written"
LARGE_IN_TAR = (
    f"series of more than {MOST_AT_ONCE // 2**20} MiB in a compressed tar, which would be read from its "
    "start for each slice (unpack it, or make a zip of it)"
)
TOO_LARGE = f"file larger than {MAX_BYTES // 2**20} MiB"


@dataclass(frozen=True, kw_only=True)
class FileContent:
    """One file as it was at one moment."""

    data: bytes
    look: Look

    @property
    def start(self) -> bytes:
        """The first START_BYTES."""
        return self.data[:START_BYTES]

    @contextlib.contextmanager
    def opened(self) -> Iterator[io.BufferedIOBase]:
        """Open it for reading."""
        yield io.BytesIO(self.data)

    def sha256(self) -> bytes:
        """Compute the digest of its bytes."""
        return hashlib.sha256(self.data).digest()


@dataclass(frozen=True, kw_only=True)
class LargeFile:
    """One file that stays on the disk, or in an archive, and is read by and by as it was at one moment."""

    path: Path
    status: os.stat_result
    """As it was when it was looked at first."""
    look: Look
    start: bytes
    """The first START_BYTES."""

    @property
    def data(self) -> bytes:
        """Raise BadSource: it is not read as a whole."""
        raise BadSource(TOO_LARGE)

    @contextlib.contextmanager
    def opened(self) -> Iterator[io.BufferedIOBase]:
        """Open it for reading; BadSource where it cannot be read, or was written since it was looked at."""
        with _reading(), opened_file(self.path) as file:
            _check_unchanged(self.status, _status_of(str(self.path), file))
            yield file
            _check_unchanged(self.status, _status_of(str(self.path), file))

    def sha256(self) -> bytes:
        """Compute the digest of its bytes."""
        with self.opened() as file:
            return hashlib.file_digest(file, "sha256").digest()


@dataclass(frozen=True, kw_only=True)
class Content:
    """A source as it was at one moment."""

    files: tuple[FileContent | LargeFile, ...]
    """In the order of `Source.files`."""
    name: str = ""
    """Path of the first one, as it was asked for; empty where it lies on no disk."""

    @property
    def start(self) -> bytes:
        """The first START_BYTES of its first file."""
        return self.files[0].start

    @functools.cached_property
    def fingerprint(self) -> Fingerprint:
        """By what it is known that these are the bytes."""
        looks = [file.look for file in self.files]
        return fingerprint(looks, [file.sha256() for file in self.files])


def open_plainly(path: Path) -> io.FileIO:
    """Open a file that is no member of an archive for reading."""
    return io.FileIO(path, opener=_open_without_waiting)


def _open_without_waiting(path: str, flags: int) -> int:
    # A pipe would keep whoever opens it waiting for a writer.
    return os.open(path, flags | os.O_NONBLOCK)


@contextlib.contextmanager
def opened_file(path: Path) -> Iterator[io.BufferedIOBase]:
    """Open a file, or a member of an archive, for reading; BadSource where that is damaged, or no file."""
    inside = archives.parted(str(path))
    if not inside and not stat.S_ISREG(path.stat().st_mode):
        raise BadSource(NOT_REGULAR)
    with archives.opened_member(*inside) if inside else io.BufferedReader(open_plainly(path)) as file:
        yield file


def names_in(folder: Path) -> list[str]:
    """List what lies in a folder, or in one of an archive, sorted; nothing where it cannot be listed."""
    inside = archives.parted(f"{folder}/")
    try:
        if not inside:
            return sorted(entry.name for entry in folder.iterdir())
        archive, above = inside
        return sorted(
            {
                name[len(above) :].partition("/")[0]
                for name in archives.members_of(archive)
                if name.startswith(above)
            }
        )
    except (OSError, BadSource):
        return []


def is_there(path: Path) -> bool:
    """Tell whether there is a file, or a member of an archive, of this path."""
    inside = archives.parted(str(path))
    try:
        return bool(archives.member_in(*inside)) if inside else path.exists()
    except (FileNotFoundError, BadSource):
        return False


def _status_of(path: str, file: io.BufferedIOBase | None = None) -> os.stat_result:
    """Return the status of a file; of a member that of its archive. file: it, where it is open."""
    inside = archives.parted(path)
    if inside:
        return Path(inside[0]).stat()
    return os.fstat(file.fileno()) if file else Path(path).stat()


def in_memory(data: bytes) -> Content:
    """Make content of one file that lies on no disk."""
    return Content(files=(FileContent(data=data, look=Look(size=len(data), mtime_ns=0)),))


def read_content(root: Path, files: Sequence[str]) -> Content:
    """Read a source. files: as in `Source.files`.

    BadSource: no regular file, no permission, being written. FileNotFoundError: one is gone.
    """
    folder = os.fspath(root)
    # As pathlib joins them: those given to predict have paths of their own.
    paths = [file if file.startswith("/") else f"{folder}/{file}" for file in files]
    if len(paths) == 1:
        archives.check_archive(paths[0])
        content, _status = _read_file(paths[0])
        return Content(files=(content,), name=files[0])
    stays = _stay(paths)
    read = {
        number: _read_file(paths[number], stays_on_disk=stays, is_part=True)
        for number in archives.in_reading_order(paths)
    }
    # Each was whole when it was read; of several, the first may be another one by now.
    for number, (_content, status) in read.items():
        _check_unchanged(status, _status_of(paths[number]))
    return Content(files=tuple(read[number][0] for number in range(len(paths))), name=files[0])


def _stay(paths: Sequence[str]) -> bool:
    """Tell whether the files of a source stay where they are, since they are too large together."""
    looks = [size_and_time(*os.path.split(path)) for path in paths]
    # Where one is not to be looked at, that will be said when it is read.
    num_bytes = sum(look[0] for look in looks if look) if all(looks) else 0
    if num_bytes <= MAX_BYTES:
        return False
    inside = archives.parted(paths[0])
    if not (inside and archives.is_read_from_its_start(inside[0])):
        return True
    if num_bytes > MOST_AT_ONCE:
        raise BadSource(LARGE_IN_TAR)
    return False


def _read_file(
    path: str, *, stays_on_disk: bool = False, is_part: bool = False
) -> tuple[FileContent | LargeFile, os.stat_result]:
    """Read one file, or look at one that stays on the disk. is_part: of a source of several."""
    try:
        descriptor = _open_without_waiting(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        if Path(path).is_symlink():
            raise BadSource(LINK_TO_NOTHING) from None
        raise
    except OSError as error:
        inside = archives.parted(path)
        if inside:
            with _reading():
                return _read_member(Path(path), *inside, stays=stays_on_disk, is_part=is_part)
        raise BadSource(f"{CANNOT_OPEN}: {error.strerror}") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise BadSource(NOT_REGULAR)
        if stays_on_disk or status.st_size > MAX_BYTES:
            start = os.pread(descriptor, START_BYTES, 0)
            look = Look(size=status.st_size, mtime_ns=mtime_ns(status))
            return _large_file(Path(path), start, look, status, is_part=is_part), status
        # One more shows that a file has grown; making room for the largest file would cost time.
        data = _read_up_to(descriptor, status.st_size + 1)
        after = os.fstat(descriptor)
    except OSError:
        raise BadSource(CANNOT_READ) from None
    finally:
        os.close(descriptor)
    if len(data) != status.st_size:
        raise BadSource(BEING_WRITTEN)
    _check_unchanged(status, after)
    return FileContent(data=data, look=Look(size=status.st_size, mtime_ns=mtime_ns(status))), status


@contextlib.contextmanager
def _reading() -> Iterator[None]:
    """Turn what the system says of a file that is there into BadSource."""
    try:
        yield
    except FileNotFoundError:
        raise
    except OSError:
        raise BadSource(CANNOT_READ) from None


def _read_up_to(descriptor: int, size: int) -> bytes:
    """Read so many bytes of a file; fewer where it ends."""
    data = os.read(descriptor, size)
    # Of a regular file the system gives all at once, but need not.
    while len(data) < size and (more := os.read(descriptor, size - len(data))):
        data += more
    return data


def _read_member(
    path: Path, archive: str, name: str, *, stays: bool, is_part: bool
) -> tuple[FileContent | LargeFile, os.stat_result]:
    """Read one member of an archive, or look at one that stays in it."""
    status = Path(archive).stat()
    with archives.opened_member(archive, name) as file:
        look = Look(size=archives.member_in(archive, name).size, mtime_ns=mtime_ns(status))
        if stays or look.size > MAX_BYTES:
            return _large_file(path, file.read(START_BYTES), look, status, is_part=is_part), status
        data = file.read(look.size)
        # Its checksum is looked at behind its last byte.
        if len(data) != look.size or file.read(1):
            raise BadSource(archives.DAMAGED_ARCHIVE)
    _check_unchanged(status, Path(archive).stat())
    return FileContent(data=data, look=look), status


def _large_file(path: Path, start: bytes, look: Look, status: os.stat_result, *, is_part: bool) -> LargeFile:
    """Return a file that is too large to be read as a whole; BadSource where it would have to be."""
    if not (is_part or may_be_read_by_and_by(start)):
        raise BadSource(TOO_LARGE)
    return LargeFile(path=path, status=status, look=look, start=start)


def may_be_read_by_and_by(start: bytes) -> bool:
    """Tell whether a file is (part of) a volume, or compressed as volumes are. start: its first bytes."""
    return (
        start[128:132] == DICM
        or start.startswith(VOLUMES)
        or start[344:348] in (b"n+1\0", b"ni1\0")
        or start[4:8] in (b"n+2\0", b"ni2\0")
    )


def _check_unchanged(before: os.stat_result, after: os.stat_result) -> None:
    """Raise BadSource where a file was written meanwhile."""
    # The time of the last change, too: some copiers give a file that they overwrite its old mtime back.
    if (before.st_mtime_ns, before.st_ctime_ns) != (after.st_mtime_ns, after.st_ctime_ns):
        raise BadSource(BEING_WRITTEN)
