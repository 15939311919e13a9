"""One array of a published snapshot: a file as numpy writes it, mapped, and compared with its checksum."""

import functools
import io
import math
import mmap
import tokenize
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np

from mri_hpc.storage.disk.file_mapping import mapped_whole

BLOCK_BYTES = 2**22


def save_column(path: Path, values: np.ndarray) -> int:
    """Write what np.save writes; return the CRC of the file."""
    values = np.ascontiguousarray(values)
    header = io.BytesIO()
    np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(values))
    crc = zlib.crc32(header.getbuffer())
    rows = max(1, BLOCK_BYTES // max(1, values.nbytes // max(1, len(values))))
    # Not np.save to the file: on a full disk that raises an error without its number.
    with path.open("xb") as file:
        file.write(header.getbuffer())
        for start in range(0, len(values), rows):
            data = values[start : start + rows].reshape(-1).view(np.uint8).data
            crc = zlib.crc32(data, crc)
            file.write(data)
    return crc


def read_column_header(file: BinaryIO) -> tuple[tuple[int, ...], np.dtype]:
    """Read shape and dtype, and leave the file at its first number. Raises ValueError where it is damaged."""
    np.lib.format.read_magic(file)
    length = file.read(2)
    return _parsed(length + file.read(int.from_bytes(length, "little")))


@functools.lru_cache(maxsize=1024)
def _parsed(header: bytes) -> tuple[tuple[int, ...], np.dtype]:
    # By Python's own parser: most of the time that it takes to open a small snapshot of many columns.
    try:
        shape, _order, dtype = np.lib.format.read_array_header_1_0(io.BytesIO(header))
    except (SyntaxError, EOFError, tokenize.TokenError) as error:
        # numpy reads the header as Python, and since 3.12 a damaged one may end its tokenizer.
        raise ValueError(f"no header of an array: {error}") from None
    return shape, dtype


class ColumnFile:
    """A file that is mapped at once, so that it may be removed, and whose checksum is compared on first use.

    ValueError or OSError where it is damaged. Pages that are only passed through are given back: mapped ones
    count as memory of the process.
    """

    def __init__(self, path: Path, crc: int) -> None:
        self._name, self._crc = path.name, crc
        self._array: np.ndarray | None = None
        with path.open("rb") as file:
            self._mapped = mapped_whole(file.fileno())
            self._shape, self._dtype = read_column_header(file)
            self._offset = file.tell()

    def __len__(self) -> int:
        return int(self._shape[0])

    def array(self) -> np.ndarray:
        """Return the array, which stays mapped."""
        return self._sound

    def copy(self) -> np.ndarray:
        """Return the array in memory of its own."""
        data = bytearray()
        if self._sound.nbytes:
            data = bytearray(len(self._mapped))
            for start, block in self._blocks():
                data[start : start + len(block)] = block
        return np.frombuffer(data, self._dtype, offset=self._offset if data else 0).reshape(self._shape)

    def parts(self) -> Iterator[np.ndarray]:
        """Yield the array in parts of some megabytes, whose pages are given back behind them."""
        width = math.prod(self._shape[1:]) * self._dtype.itemsize
        if not self._sound.nbytes or BLOCK_BYTES % width or self._offset % width:
            yield self.copy()
            return
        for start, block in self._blocks():
            values = np.frombuffer(block[max(0, self._offset - start) :], self._dtype)
            yield values.reshape(-1, *self._shape[1:])

    @property
    def _sound(self) -> np.ndarray:
        # Not a cached_property: before Python 3.12 all of these wait for one lock, in whichever object.
        if self._array is None:
            self._array = self._checked()
        return self._array

    def _checked(self) -> np.ndarray:
        crc = 0
        for _start, block in self._blocks():
            crc = zlib.crc32(block, crc)
        if crc != self._crc:
            raise ValueError(f"{self._name} differs from its checksum")
        if 0 in self._shape:
            return np.empty(self._shape, self._dtype)
        return np.frombuffer(self._mapped, self._dtype, offset=self._offset).reshape(self._shape)

    def _blocks(self) -> Iterator[tuple[int, memoryview]]:
        whole = memoryview(self._mapped)
        for start in range(0, len(whole), BLOCK_BYTES):
            block = whole[start : start + BLOCK_BYTES]
            yield start, block
            self._mapped.madvise(mmap.MADV_DONTNEED, start, len(block))
