"""Depth: how many bits a picture's values have, as its first bytes tell, before it is decoded.

It only saves work: what a picture is decoded to says for good whether it has more than 8 bits.
"""

import io
import struct
from pathlib import Path

from mri_hpc.intake.decoding.signatures import BIG_ENDIAN_TIFF, BMP, JPEG, JPEG_FRAMES, LITTLE_TIFF, PNG
from mri_hpc.intake.files.content import may_be_read_by_and_by, open_plainly

ORDERS = {LITTLE_TIFF: "<", BIG_ENDIAN_TIFF: ">"}
BITS_PER_SAMPLE, SHORT = 258, 3
START_BYTES = 4096
MOST_TAGS = 1000
OF_8_BITS = (".jpg", ".jpeg", ".jpe", ".jfif", ".bmp")
"""Ends of names that promise 8 bits. A file that does not keep it is decoded for what it is all the same."""


def promises_8_bits(path: str) -> bool:
    """Tell whether a file's name says that there is no need to look into it."""
    return path.lower().endswith(OF_8_BITS)


def is_deep(path: Path) -> bool:
    """Tell whether a file's first bytes say that it is a picture of more than 8 bits."""
    return (depth_of(path) or 0) > 8


def depth_of(path: Path) -> int | None:
    """Read the bits of a value out of the head of a PNG, TIFF, JPEG or BMP; None where it does not tell."""
    try:
        # No member of an archive: of one that is compressed as a whole, all before it would be read anew.
        with open_plainly(path) as file:
            return _depth(file, file.read(START_BYTES) or b"")
    except (OSError, struct.error):
        return None


def _depth(file: io.FileIO, start: bytes) -> int | None:
    if may_be_read_by_and_by(start):
        # A volume has a window of its own, and is no part of a group.
        return 8
    if start.startswith(PNG):
        return start[24] if len(start) > 24 else None
    if start.startswith(BMP):
        return 8
    if start.startswith(JPEG):
        return _depth_of_jpeg(start)
    order = ORDERS.get(start[:4])
    return _depth_of_tiff(file, start, order) if order else None


def _depth_of_jpeg(start: bytes) -> int | None:
    position = 2
    while position + 5 <= len(start) and start[position] == 0xFF:
        if start[position : position + 2] in JPEG_FRAMES:
            return start[position + 4]
        position += 2 + int.from_bytes(start[position + 2 : position + 4])
    return None


def _depth_of_tiff(file: io.FileIO, start: bytes, order: str) -> int | None:
    """Read the bits of the first value in the first directory, which may lie anywhere in the file."""
    (offset,) = struct.unpack(f"{order}I", start[4:8])
    file.seek(offset)
    (num_tags,) = struct.unpack(f"{order}H", file.read(2))
    if num_tags > MOST_TAGS:
        return None
    for tag, kind, count, value in struct.iter_unpack(f"{order}HHI4s", file.read(12 * num_tags)):
        if tag == BITS_PER_SAMPLE and kind == SHORT:
            # More than two do not fit into the directory, which says where they stand.
            if count > 2:
                file.seek(*struct.unpack(f"{order}I", value))
                value = file.read(2)
            return int(*struct.unpack(f"{order}H", value[:2]))
    # Where nothing is said it is black and white.
    return 1
