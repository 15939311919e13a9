"""Streams: the bytes of voxels, decoded, out of the file or the files that hold them. The only user of isal.

No room is taken by the word of a header: what is plain has to be as long as it says, what is compressed at
least the part of that to which it can shrink.
"""

import bz2
import contextlib
import gzip
import io
import math
import warnings
import zlib
from collections.abc import Callable, Generator, Iterator, Sequence
from typing import TYPE_CHECKING, cast

import numpy as np

from mri_hpc.base.errors import BadSource
from mri_hpc.intake.decoding.pictures import TRUNCATED
from mri_hpc.intake.decoding.volumes.layout import DAMAGED_HEADER, TO_THE_END, VolumeHeader
from mri_hpc.intake.files.content import FileContent, LargeFile

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

MOST_SHRUNK = {"": 1.0, "ascii": 4.0, "gzip": 1040.0, "zlib": 1040.0, "bzip2": math.inf}
"""Bytes of voxels that a byte of a file stands for at most, by how it is coded; as text for one of 8."""
CHECKED = ("gzip", "zlib", "bzip2")
"""Encodings with a checksum at the end."""
MOST_TEXT = 32 * 2**20
MOST_LINE = 2**16
READ_BYTES = 2**20
MOST_BEHIND = 256 * 2**20
"""Bytes behind the voxels of a compressed file, read to see that it is whole."""

DAMAGED_GZIP = "damaged gzip"
DAMAGED_VOXELS = "damaged voxels: they cannot be decompressed"
NO_NUMBERS = "voxels as text that holds no numbers"
LARGE_TEXT = f"voxels as text of more than {MOST_TEXT // 2**20} MiB (save them as raw or gzip)"

File = FileContent | LargeFile


@contextlib.contextmanager
def opened_voxels(files: Sequence[File], header: VolumeHeader) -> Iterator[io.BufferedIOBase]:
    """Open the voxels of a volume at the first of them; what is wrong with their code is BadSource."""
    if len(files) == 1:
        with _opened(files[0], header, num_files=1) as voxels:
            yield voxels
    else:
        with contextlib.closing(_Joined(files, header)) as joined:
            yield io.BufferedReader(joined)


def check_length(files: Sequence[File], header: VolumeHeader) -> None:
    """Raise BadSource where files cannot hold as much as their header says."""
    needed = max(header.offset, 0) + header.num_volumes * header.volume_bytes
    there = sum(file.look.size for file in files) - header.layout.begins
    if there * MOST_SHRUNK[header.layout.encoding] < needed:
        raise BadSource(TRUNCATED)


def check_end(voxels: io.BufferedIOBase, header: VolumeHeader) -> None:
    """Read on behind the voxels, where a checksum stands at the end; BadSource where it is another one."""
    left = MOST_BEHIND if header.layout.encoding in CHECKED else 0
    while left > 0 and (found := len(voxels.read(min(left, READ_BYTES)))):
        left -= found


@contextlib.contextmanager
def _opened(file: File, header: VolumeHeader, *, num_files: int) -> Iterator[io.BufferedIOBase]:
    layout = header.layout
    with file.opened() as raw:
        if header.offset == TO_THE_END:
            if layout.encoding:
                raise BadSource(DAMAGED_HEADER)
            raw.seek(file.look.size - header.num_volumes * header.volume_bytes // num_files)
            yield raw
            return
        raw.seek(layout.begins)
        for _line in range(layout.lines_before):
            raw.readline(MOST_LINE)
        if not layout.encoding:
            raw.seek(raw.tell() + header.offset)
            yield raw
            return
        with DECODING[layout.encoding](raw, header) as decoded:
            _skip(decoded, header.offset)
            yield decoded


def _skip(decoded: io.BufferedIOBase, num_bytes: int) -> None:
    while num_bytes > 0 and (found := len(decoded.read(min(num_bytes, READ_BYTES)))):
        num_bytes -= found


class _Joined(io.RawIOBase):
    """Voxels of one file after those of another: each holds as many."""

    def __init__(self, files: Sequence[File], header: VolumeHeader) -> None:
        self._files = files
        self._header = header
        total = header.num_volumes * header.volume_bytes
        if total % len(files):
            raise BadSource(DAMAGED_HEADER)
        self._each = total // len(files)
        self._parts = self._in_turn()
        self._left = b""

    def readable(self) -> bool:
        """As in io.RawIOBase."""
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        """As in io.RawIOBase."""
        into = memoryview(buffer)
        if not self._left:
            self._left = next(self._parts, b"")
        part, self._left = self._left[: len(into)], self._left[len(into) :]
        into[: len(part)] = part
        return len(part)

    def close(self) -> None:
        """As in io.RawIOBase."""
        self._parts.close()
        super().close()

    def _in_turn(self) -> Generator[bytes, None, None]:
        for file in self._files:
            with _opened(file, self._header, num_files=len(self._files)) as voxels:
                data = voxels.read(self._each)
                if len(data) != self._each:
                    raise BadSource(TRUNCATED)
                yield data
                check_end(voxels, self._header)


@contextlib.contextmanager
def _gunzipping(raw: io.BufferedIOBase, header: VolumeHeader) -> Iterator[io.BufferedIOBase]:
    from isal import igzip, isal_zlib

    # Declared as an object.
    isal_error = cast("type[Exception]", isal_zlib.error)
    try:
        with igzip.IGzipFile(fileobj=raw) as file:
            yield file
    except EOFError:
        raise BadSource(TRUNCATED) from None
    except (gzip.BadGzipFile, isal_error):
        raise BadSource(DAMAGED_GZIP) from None


@contextlib.contextmanager
def _unpacking_bzip2(raw: io.BufferedIOBase, header: VolumeHeader) -> Iterator[io.BufferedIOBase]:
    try:
        with bz2.BZ2File(raw) as file:
            yield file
    except EOFError:
        raise BadSource(TRUNCATED) from None
    except (OSError, ValueError):
        raise BadSource(DAMAGED_VOXELS) from None


@contextlib.contextmanager
def _inflating(raw: io.BufferedIOBase, header: VolumeHeader) -> Iterator[io.BufferedIOBase]:
    try:
        yield io.BufferedReader(_Inflated(raw), READ_BYTES)
    except zlib.error:
        raise BadSource(DAMAGED_VOXELS) from None


class _Inflated(io.RawIOBase):
    """A stream of zlib, inflated."""

    def __init__(self, raw: io.BufferedIOBase) -> None:
        self._raw = raw
        self._inflating = zlib.decompressobj()

    def readable(self) -> bool:
        """As in io.RawIOBase."""
        return True

    def readinto(self, buffer: "WriteableBuffer", /) -> int:
        """As in io.RawIOBase."""
        into = memoryview(buffer)
        while not self._inflating.eof:
            data = self._inflating.unconsumed_tail or self._raw.read(READ_BYTES)
            if not data:
                raise BadSource(TRUNCATED)
            if found := self._inflating.decompress(data, len(into)):
                into[: len(found)] = found
                return len(found)
        return 0


@contextlib.contextmanager
def _reading_text(raw: io.BufferedIOBase, header: VolumeHeader) -> Iterator[io.BufferedIOBase]:
    text = raw.read(MOST_TEXT + 1)
    if len(text) > MOST_TEXT:
        raise BadSource(LARGE_TEXT)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            numbers = np.fromstring(text.decode("ascii"), np.float64, sep=" ").astype(header.dtype)
    except (ValueError, DeprecationWarning, RuntimeWarning):
        raise BadSource(NO_NUMBERS) from None
    yield io.BytesIO(numbers.tobytes())


DECODING: dict[
    str, Callable[[io.BufferedIOBase, VolumeHeader], contextlib.AbstractContextManager[io.BufferedIOBase]]
] = {"gzip": _gunzipping, "bzip2": _unpacking_bzip2, "zlib": _inflating, "ascii": _reading_text}
