"""Archives: zip and tar as folders of their members, which are read one by one and never written to a disk.

A member is named as a file below the archive would be: ``scans.zip/P1/IM1``. An archive is taken as a whole,
or not at all: not where a name leads out of it, or where it unpacks to far more than scans do.

- A zip says at its end where each member begins. A tar is read through once to find them; one that is
  compressed is read from its start to whatever member is asked for, unless it is read in its own order.
- Links, members that are encrypted or archives themselves have a reason each, when they are asked for.
"""

import contextlib
import errno
import functools
import gzip
import io
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, TYPE_CHECKING, Self, cast

from mri_hpc.base.errors import BadSource

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

ZIPS, TARS, GZIPPED_TARS = (".zip",), (".tar",), (".tar.gz", ".tgz")
ENDS = (*ZIPS, *TARS, *GZIPPED_TARS)
INSIDE = re.compile(r"\.(?:zip|tar|tgz|tar\.gz)/", re.IGNORECASE)
ZIP_STARTS, GZIP_START, TAR_MARK, TAR_MARK_AT, BLOCK = (b"PK\3\4", b"PK\5\6"), b"\x1f\x8b", b"ustar", 257, 512
OF_HEADERS = (
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
)
MOST_MEMBERS = 200_000
MOST_UNPACKED, MOST_RATIO = 2**30, 200
"""An archive may unpack to so many bytes, or to so many times its own."""
MOST_OF_HEADER = 2**20
"""Bytes of names and the like before a member of a tar, which are read at once."""
KEPT_LISTS, KEPT_OPEN = 64, 2
READ_BYTES = 2**20
OF_WINDOWS = 0
"""As a zip names the system on which a member was written."""

DAMAGED_ARCHIVE = "damaged archive (copy it again)"
LEADS_OUT = "archive with names that lead out of it (..)"
EMPTY_ARCHIVE = "empty archive"
BOMB = (
    f"archive that unpacks to more than {MOST_RATIO} times its size, or has more than {MOST_MEMBERS} members "
    "(unpack it)"
)
ENCRYPTED = "encrypted member of an archive (unpack it with its password)"
NOT_A_FILE = "member of an archive that is a link or no file (unpack it)"
NESTED = "archive within an archive (unpack the outer one)"
UNKNOWN_METHOD = "member of an archive, compressed in a way that is not read (unpack it)"


@dataclass(frozen=True, kw_only=True)
class Member:
    """One file in an archive."""

    name: str
    """As the archive has it."""
    size: int
    place: int
    """Of a tar, the byte at which it begins, unpacked; of a zip, its number."""
    problem: str = ""
    """The reason why it cannot be read; empty where it can."""


def as_folder(name: str) -> str:
    """Return the name of an archive without its ending, as its folder is called when it is unpacked."""
    end = next((end for end in ENDS if name.lower().endswith(end)), "")
    return name[: len(name) - len(end)]


def parted(path: str) -> tuple[str, str] | None:
    """Part the path of a member into its archive's and its name in it; None of any other file."""
    for found in INSIDE.finditer(path):
        archive = path[: found.end() - 1]
        if Path(archive).is_file():
            return archive, path[found.end() :]
    return None


def members_of(archive: str) -> Mapping[str, Member]:
    """List the members of a file by name, in the order in which they lie in it; of no archive, none.

    BadSource where it is to be rejected as a whole.
    """
    if not archive.lower().endswith(ENDS):
        return {}
    status = Path(archive).stat()
    if not stat.S_ISREG(status.st_mode):
        # Opening a pipe would wait for a writer.
        return {}
    try:
        with _telling():
            return _members(archive, status.st_size, status.st_mtime_ns)
    except (RuntimeError, ValueError, OverflowError):
        # Of numbers that cannot be.
        raise BadSource(DAMAGED_ARCHIVE) from None


def member_in(archive: str, name: str) -> Member:
    """Look up one member; FileNotFoundError where there is none, BadSource where it cannot be read."""
    found = members_of(archive).get(name)
    if found is None:
        raise FileNotFoundError(archive)
    return found


def check_archive(path: str) -> None:
    """Raise BadSource where a file is an archive that has to be rejected as a whole."""
    if path.lower().endswith(ENDS) and Path(path).is_file() and not members_of(path) and _kind(path):
        raise BadSource(EMPTY_ARCHIVE)


@contextlib.contextmanager
def opened_member(archive: str, name: str) -> Iterator[io.BufferedIOBase]:
    """Open a member for reading; BadSource where it cannot be read."""
    with _telling():
        found = member_in(archive, name)
        if found.problem:
            raise BadSource(found.problem)
        status = Path(archive).stat()
        with _open(archive, status.st_size, status.st_mtime_ns).reading(found) as file:
            yield file


def in_reading_order(paths: Sequence[str]) -> list[int]:
    """Return the numbers of files as they are read fastest: members of one archive as they lie in it."""
    keys = []
    for number, path in enumerate(paths):
        inside = parted(path)
        member = members_of(inside[0]).get(inside[1]) if inside else None
        keys.append((inside[0], member.place, number) if inside and member else ("", 0, number))
    return [number for *_key, number in sorted(keys)]


def is_read_from_its_start(archive: str) -> bool:
    """Tell whether an archive has to be read from its start to whatever member is asked for."""
    return archive.lower().endswith(GZIPPED_TARS)


@contextlib.contextmanager
def _telling() -> Iterator[None]:
    """Turn what is wrong with an archive into BadSource."""
    from isal import igzip_lib

    isal_error = cast("type[Exception]", igzip_lib.error)
    try:
        yield
    except NotImplementedError:
        raise BadSource(UNKNOWN_METHOD) from None
    except (
        *(zipfile.BadZipFile, zipfile.LargeZipFile, tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError),
        *(isal_error, struct.error, UnicodeDecodeError),
    ):
        raise BadSource(DAMAGED_ARCHIVE) from None
    except OSError as error:
        # A place before the beginning of the file, as the archive has it.
        if error.errno == errno.EINVAL:
            raise BadSource(DAMAGED_ARCHIVE) from None
        raise


@functools.lru_cache(maxsize=KEPT_LISTS)
def _members(archive: str, size: int, mtime_ns: int) -> Mapping[str, Member]:
    kind = _kind(archive)
    if not kind:
        return {}
    found: dict[str, Member] = {}
    unpacked = 0
    for member in _in_zip(archive) if kind == "zip" else _in_tar(archive, kind, size):
        name = _plain(member.name)
        unpacked += member.size
        if len(found) > MOST_MEMBERS or unpacked > max(MOST_UNPACKED, MOST_RATIO * size):
            raise BadSource(BOMB)
        found[name] = member
    return found


def _kind(archive: str) -> str:
    """Tell zip, tar and gzip apart by first bytes; empty: neither, whatever its name promises."""
    with Path(archive).open("rb") as file:
        start = file.read(BLOCK)
        if start.startswith(ZIP_STARTS):
            return "zip"
        if start[TAR_MARK_AT : TAR_MARK_AT + len(TAR_MARK)] == TAR_MARK:
            return "tar"
        if not start.startswith(GZIP_START):
            return ""
    with _unpacked(archive, "gzip") as stream:
        start = stream.read(BLOCK)
    return "gzip" if start[TAR_MARK_AT : TAR_MARK_AT + len(TAR_MARK)] == TAR_MARK else ""


def _plain(name: str) -> str:
    """Return a name without what leads nowhere; BadSource where it leads out."""
    parts = PurePosixPath(name).parts
    if name.startswith("/") or ".." in parts or "\0" in name:
        raise BadSource(LEADS_OUT)
    if not parts:
        raise BadSource(DAMAGED_ARCHIVE)
    return "/".join(parts)


def _in_zip(archive: str) -> Iterator[Member]:
    with zipfile.ZipFile(archive) as file:
        for number, info in enumerate(file.infolist()):
            name = _with_slashes(info)
            if name.endswith("/"):
                continue
            problem = ENCRYPTED if info.flag_bits & 1 else _nested(name)
            yield Member(name=name, size=info.file_size, place=number, problem=problem)


def _with_slashes(info: zipfile.ZipInfo) -> str:
    """Return the name of a member of a zip with slashes, where a program of Windows wrote backslashes."""
    is_of_windows = info.create_system == OF_WINDOWS and "/" not in info.filename
    return info.filename.replace("\\", "/") if is_of_windows else info.filename


def _in_tar(archive: str, kind: str, size: int) -> Iterator[Member]:
    with _unpacked(archive, kind) as stream, _tar_of(stream, kind, size) as file:
        before = -1
        for info in file:
            if info.size < 0 or info.offset <= before:
                raise BadSource(DAMAGED_ARCHIVE)
            before = info.offset
            if info.isdir():
                continue
            is_plain = info.isreg() and not info.issparse()
            problem = _nested(info.name) if is_plain else NOT_A_FILE
            yield Member(
                name=info.name, size=info.size if is_plain else 0, place=info.offset_data, problem=problem
            )


def _tar_of(stream: IO[bytes], kind: str, size: int) -> tarfile.TarFile:
    if kind == "tar":
        return tarfile.open(fileobj=stream, mode="r:", tarinfo=_Header)
    bounded = cast("IO[bytes]", _Bounded(stream, max(MOST_UNPACKED, MOST_RATIO * size)))
    return tarfile.open(fileobj=bounded, mode="r|", tarinfo=_Header)


def _nested(name: str) -> str:
    return NESTED if name.lower().endswith(ENDS) else ""


class _Header(tarfile.TarInfo):
    """A header in a tar; BadSource where one of names and the like is longer than any name."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> Self:
        """As in tarfile.TarInfo."""
        header = super().frombuf(buf, encoding, errors)
        if header.type in OF_HEADERS and header.size > MOST_OF_HEADER:
            raise BadSource(DAMAGED_ARCHIVE)
        return header


class _Bounded:
    """A stream that ends in BadSource where it holds more than it may."""

    def __init__(self, stream: IO[bytes], most: int) -> None:
        self._stream = stream
        self._left = most

    def read(self, size: int) -> bytes:
        """Read so many bytes."""
        data = self._stream.read(size)
        self._left -= len(data)
        if self._left < 0:
            raise BadSource(BOMB)
        return data


@contextlib.contextmanager
def _unpacked(archive: str, kind: str) -> Iterator[IO[bytes]]:
    """Open the stream of a tar, without its compression."""
    if kind == "tar":
        with Path(archive).open("rb") as stream:
            yield stream
        return
    from isal import igzip

    with igzip.IGzipFile(archive, "rb") as unzipped:
        yield cast("IO[bytes]", unzipped)


class _Open:
    """An archive that stays open: members of a series are read one after another."""

    def __init__(self, archive: str) -> None:
        self._stack = contextlib.ExitStack()
        kind = _kind(archive)
        self._zip = self._stack.enter_context(zipfile.ZipFile(archive)) if kind == "zip" else None
        self._stream: IO[bytes] | None = None
        if kind != "zip":
            self._stream = self._stack.enter_context(_unpacked(archive, kind))

    def __del__(self) -> None:
        self._stack.close()

    @contextlib.contextmanager
    def reading(self, member: Member) -> Iterator[io.BufferedIOBase]:
        """Open a member."""
        if self._zip is not None:
            with self._zip.open(self._zip.infolist()[member.place]) as file:
                yield cast("io.BufferedIOBase", file)
        else:
            assert self._stream is not None
            yield io.BufferedReader(_Part(self._stream, member), READ_BYTES)


class _Part(io.RawIOBase):
    """A part of a stream, as a file."""

    def __init__(self, stream: IO[bytes], member: Member) -> None:
        self._stream = stream
        self._member = member
        self._place = 0

    def readable(self) -> bool:
        """As in io.RawIOBase."""
        return True

    def seekable(self) -> bool:
        """As in io.RawIOBase."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """As in io.RawIOBase."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._member.size}[whence]
        self._place = max(0, start + offset)
        return self._place

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        """As in io.RawIOBase."""
        into = memoryview(buffer)[: max(0, self._member.size - self._place)]
        # Another member may have been read meanwhile.
        self._stream.seek(self._member.place + self._place)
        data = self._stream.read(len(into))
        if into and not data:
            raise BadSource(DAMAGED_ARCHIVE)
        into[: len(data)] = data
        self._place += len(data)
        return len(data)


@functools.lru_cache(maxsize=KEPT_OPEN)
def _open(archive: str, size: int, mtime_ns: int) -> _Open:
    return _Open(archive)
