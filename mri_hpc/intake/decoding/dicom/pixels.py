"""Pixels of DICOM files: each frame as the grey values that were stored, whatever it was coded by.

- What lies above the bits stored, or below them, is no part of a value: overlays, or rubbish.
- The sign is the highest bit stored, where the file says that values have one.
- MONOCHROME1, of which the least is white, is inverted.
- What is decoded is what the codec gives, whichever sign that takes its bits for: the header says.
"""

import struct
from collections.abc import Callable, Iterator

import numpy as np

from mri_hpc.base.errors import BadSource
from mri_hpc.intake.decoding import coded
from mri_hpc.intake.decoding.dicom.elements import BIG_ENDIAN, DAMAGED_DICOM, Elements
from mri_hpc.intake.decoding.dicom.header import PixelFormat
from mri_hpc.intake.decoding.foreign import NOT_READ_YET
from mri_hpc.intake.decoding.pictures import DAMAGED, TRUNCATED
from mri_hpc.intake.decoding.signatures import JPEG_FRAMES

WHITE_IS_LEAST = "MONOCHROME1"
GREY = (WHITE_IS_LEAST, "MONOCHROME2")
COLOURS = ("RGB", "PALETTE COLOR", "YBR_FULL", "YBR_FULL_422", "YBR_PARTIAL_420", "YBR_ICT", "YBR_RCT")
ALLOCATED = (8, 16, 32)
MOST_PIXELS_OF_FRAME, MOST_FRAMES, MOST_PIXELS = 2**24, 2**16, 2**27
_JPEG = "1.2.840.10008.1.2.4"
RLE = "1.2.840.10008.1.2.5"
JPEG_2000_SIZE = b"\xff\x51"
J2K = (f"{_JPEG}.90", f"{_JPEG}.91", f"{_JPEG}.201", f"{_JPEG}.202", f"{_JPEG}.203")


def _decode_j2k(data: bytes, shape: tuple[int, int], itemsize: int) -> np.ndarray:
    _check_shape(_j2k_shape(data), shape)
    return coded.decode_jpeg2000(data)


def _decode_jpeg(data: bytes, shape: tuple[int, int], itemsize: int) -> np.ndarray:
    _check_shape(_jpeg_shape(data), shape)
    return coded.decode_jpeg(data)


def _decode_jpeg_ls(data: bytes, shape: tuple[int, int], itemsize: int) -> np.ndarray:
    _check_shape(_jpeg_shape(data), shape)
    return coded.decode_jpeg_ls(data)


def _decode_rle(data: bytes, shape: tuple[int, int], itemsize: int) -> np.ndarray:
    return coded.decode_rle(data, shape, itemsize)


CODECS: dict[str, Callable[[bytes, tuple[int, int], int], np.ndarray]] = {
    **dict.fromkeys((f"{_JPEG}.50", f"{_JPEG}.51", f"{_JPEG}.57", f"{_JPEG}.70"), _decode_jpeg),
    **dict.fromkeys((f"{_JPEG}.80", f"{_JPEG}.81"), _decode_jpeg_ls),
    **dict.fromkeys(J2K, _decode_j2k),
    RLE: _decode_rle,
}
"""Of one frame, by the transfer syntax: the coded bytes, (rows, columns), and bytes a value."""


class FramePixels:
    """Reads the frames of one file, one by one."""

    def __init__(self, elements: Elements, layout: PixelFormat) -> None:
        """Raises BadSource where these are no grey values, or not there."""
        _check(layout)
        self._layout = layout
        self._pixels = elements.pixels if elements.pixels is not None else memoryview(b"")
        self._is_encapsulated = elements.is_encapsulated
        self._shape = layout.rows, layout.columns
        order = ">" if layout.syntax == BIG_ENDIAN else "<"
        self._type = np.dtype(f"{order}u{layout.bits_allocated // 8}")
        if elements.is_encapsulated:
            if layout.syntax not in CODECS:
                raise BadSource(f"{NOT_READ_YET}: DICOM of this transfer syntax (export it uncompressed)")
        elif len(self._pixels) < layout.num_frames * self._frame_bytes:
            raise BadSource(TRUNCATED)
        self._coded: list[bytes] = []
        self._last: tuple[int, np.ndarray] | None = None

    def read(self, number: int) -> np.ndarray:
        """Return the values of a frame: integers of this machine's byte order, (rows, columns)."""
        if self._last is None or self._last[0] != number:
            self._last = number, self._values(self._words(number))
        return self._last[1]

    @property
    def _frame_bytes(self) -> int:
        return self._shape[0] * self._shape[1] * self._type.itemsize

    def _words(self, number: int) -> np.ndarray:
        """Return a frame as unsigned words, as they are stored."""
        if self._is_encapsulated:
            return self._decoded(number)
        offset = number * self._frame_bytes
        words = np.frombuffer(self._pixels, self._type, self._shape[0] * self._shape[1], offset)
        return words.reshape(self._shape).astype(self._type.newbyteorder("="), copy=False)

    def _decoded(self, number: int) -> np.ndarray:
        try:
            if not self._coded:
                self._coded = list(self._frames())
            if number >= len(self._coded):
                raise BadSource(TRUNCATED)
            found = CODECS[self._layout.syntax](self._coded[number], self._shape, self._type.itemsize)
        except DAMAGED:
            raise BadSource(DAMAGED_DICOM) from None
        _check_shape(found.shape, self._shape)
        if found.dtype.kind not in "iu" or found.dtype.itemsize > self._type.itemsize:
            raise BadSource(DAMAGED_DICOM)
        if found.dtype.itemsize < self._type.itemsize:
            return found.astype(self._type.newbyteorder("="))
        return found.view(f"u{found.dtype.itemsize}")

    def _frames(self) -> Iterator[bytes]:
        from pydicom.encaps import generate_frames

        return generate_frames(bytes(self._pixels), number_of_frames=self._layout.num_frames)

    def _values(self, words: np.ndarray) -> np.ndarray:
        """Make values of words: the bits stored, with their sign, the brightest greatest."""
        layout = self._layout
        below = layout.high_bit + 1 - layout.bits_stored
        if below:
            words = words >> words.dtype.type(below)
        signed = words.dtype.str.replace("u", "i")
        if layout.bits_stored < layout.bits_allocated:
            words = words & words.dtype.type(2**layout.bits_stored - 1)
            if layout.is_signed:
                sign = np.array(2 ** (layout.bits_stored - 1), signed)
                values = (words.view(signed) ^ sign) - sign
                return ~values if layout.photometric == WHITE_IS_LEAST else values
        if layout.is_signed:
            values = words.view(signed)
            return ~values if layout.photometric == WHITE_IS_LEAST else values
        if layout.photometric == WHITE_IS_LEAST:
            return words.dtype.type(2**layout.bits_stored - 1) - words
        return words


def _check(layout: PixelFormat) -> None:
    """Raise BadSource where pixels are no grey values, or their numbers make no sense."""
    if layout.samples != 1 or layout.photometric not in GREY:
        named = f" ({layout.photometric})" if layout.photometric in COLOURS else ""
        raise BadSource(f"colours{named}, not grey values of MR")
    if layout.bits_allocated == 1:
        raise BadSource("one bit a pixel: a mask, not grey values of MR")
    if layout.bits_allocated not in ALLOCATED or not (
        0 < layout.bits_stored <= layout.high_bit + 1 <= layout.bits_allocated
    ):
        raise BadSource(f"{NOT_READ_YET}: DICOM of such bits (allocated, stored, highest)")
    if not (layout.rows > 0 and layout.columns > 0 and 0 < layout.num_frames <= MOST_FRAMES):
        raise BadSource(DAMAGED_DICOM)
    of_frame = layout.rows * layout.columns
    if of_frame > MOST_PIXELS_OF_FRAME or of_frame * layout.num_frames > MOST_PIXELS:
        raise BadSource(
            f"DICOM of more than {MOST_PIXELS_OF_FRAME >> 20} million pixels a frame, or too many"
        )


def _check_shape(found: tuple[int, ...], expected: tuple[int, int]) -> None:
    """Raise BadSource where coded pixels are not as many as the header says."""
    if tuple(found) != expected:
        raise BadSource(DAMAGED_DICOM)


def _jpeg_shape(data: bytes) -> tuple[int, int]:
    """Read (rows, columns) out of the frame of a JPEG, or JPEG-LS."""
    place = 2
    while place + 9 <= len(data) and data[place] == 0xFF:
        if data[place : place + 2] in JPEG_FRAMES:
            rows, columns = struct.unpack_from(">HH", data, place + 5)
            return rows, columns
        place += 1 if data[place + 1] == 0xFF else 2 + int.from_bytes(data[place + 2 : place + 4])
    raise BadSource(DAMAGED_DICOM)


def _j2k_shape(data: bytes) -> tuple[int, int]:
    """Read (rows, columns) out of the size of JPEG 2000."""
    place = data.find(JPEG_2000_SIZE)
    if place < 0 or place + 22 > len(data):
        raise BadSource(DAMAGED_DICOM)
    right, bottom, left, top = struct.unpack_from(">IIII", data, place + 6)
    return bottom - top, right - left
