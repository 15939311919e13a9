"""The pixels of a chunk's file, read by offset and compared with their CRCs, without HDF5."""

import os
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mri_hpc.storage.disk.columns import ChunkHeader
from mri_hpc.storage.disk.damage import is_damage

PART_BYTES = 2**20
"""Read at a time: what was read is still in the processor's cache when its CRC is computed."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Pixels:
    """Position of the images of a chunk in its file, and the CRCs that they must give."""

    offset: int
    """Of the first image; the others follow without a gap."""
    image_bytes: int
    crc: np.ndarray
    """uint32, (n,)."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Part:
    """Images that follow one another in a file."""

    rows: np.ndarray
    """int64, (n,): of the chunk."""
    data: bytes
    """One image after the other; zeros where the file, or the disk, gives nothing."""
    is_sound: list[bool]
    """True for an image that could be read, and gives its CRC."""

    def sound(self) -> Iterator[tuple[int, bytes]]:
        """Yield row and pixels of each sound image."""
        size = len(self.data) // len(self.rows)
        for index, row in enumerate(self.rows.tolist()):
            if self.is_sound[index]:
                yield row, self.data[index * size : (index + 1) * size]


def pixels_in(header: ChunkHeader) -> Pixels:
    """Return the pixels of a chunk, as its columns say."""
    return Pixels(offset=header.offset, image_bytes=header.image_bytes, crc=header.columns["crc"])


def read_parts(descriptor: int, pixels: Pixels, rows: np.ndarray | None = None) -> Iterator[Part]:
    """Read images of an open chunk in runs, and compare them with their CRCs. rows: int64; None: all."""
    rows = np.arange(len(pixels.crc)) if rows is None else rows
    most = max(1, PART_BYTES // pixels.image_bytes)
    for run in np.split(rows, np.flatnonzero(np.diff(rows) != 1) + 1):
        for start in range(0, len(run), most):
            yield _read_part(descriptor, pixels, run[start : start + most])


def damaged_rows(path: Path, header: ChunkHeader) -> list[int]:
    """Find rows whose pixels cannot be read, or do not give their CRC; read by offset, as training does."""
    with path.open("rb") as file:
        parts = read_parts(file.fileno(), pixels_in(header))
        return [int(row) for part in parts for row in part.rows[np.logical_not(part.is_sound)]]


def is_sound(image: bytes | memoryview, crc: int) -> bool:
    """Tell whether pixels give their CRC."""
    return zlib.crc32(image) == crc


def read_at(descriptor: int, size: int, offset: int) -> bytes:
    """Read these bytes of a file; fewer where it ends, or the disk cannot read on."""
    try:
        return os.pread(descriptor, size, offset)
    except OSError as error:
        if not is_damage(error):
            raise
        return b""


def _read_part(descriptor: int, pixels: Pixels, rows: np.ndarray) -> Part:
    # Who reads all gains by the faster one; who looks at an image a batch would only load its library.
    from mri_hpc.intake.decoding.coded import crc32

    size, begin = pixels.image_bytes, pixels.offset + int(rows[0]) * pixels.image_bytes
    data = read_at(descriptor, len(rows) * size, begin)
    if len(data) == len(rows) * size:
        whole = memoryview(data)
        images = [whole[start : start + size] for start in range(0, len(data), size)]
    else:
        # What follows bytes that the disk cannot read may be readable.
        found = [read_at(descriptor, size, begin + index * size) for index in range(len(rows))]
        data = b"".join(image.ljust(size, b"\0") for image in found)
        images = [memoryview(image) for image in found]
    crcs = pixels.crc[rows].tolist()
    sound = [len(image) == size and crc32(image) == crc for image, crc in zip(images, crcs, strict=True)]
    return Part(rows=rows, data=data, is_sound=sound)
