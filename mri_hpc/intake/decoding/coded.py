"""Codecs of kinds of pictures that Pillow cuts to 8 bits or cannot read; CRCs. The only user of imagecodecs.

All raise one of imagecodecs' errors, which are RuntimeErrors, where bytes are damaged. Samples: (h, w) or
(h, w, samples a pixel).
"""

import functools
import zlib
from collections.abc import Callable, Mapping
from typing import cast

import imagecodecs
import numpy as np

# By the marker that begins a frame: those that can be shrunk while they are decoded (with others simplejpeg
# writes beyond its buffer), and those that are read at all.
SHRINKING = {b"\xff\xc0", b"\xff\xc1", b"\xff\xc2", b"\xff\xc9", b"\xff\xca"}
READ = {*SHRINKING, b"\xff\xc3"}
J2K_END, J2K_TILE = b"\xff\xd9", b"\xff\x90"


def decode_jpeg(data: bytes) -> np.ndarray:
    """Decode a JPEG of 2 to 16 bits, lossless ones too."""
    return imagecodecs.jpeg_decode(data)


def decode_png(data: bytes) -> np.ndarray:
    """Decode a PNG to all of its bits and samples."""
    return imagecodecs.png_decode(data)


def decode_jpeg2000(data: bytes) -> np.ndarray:
    """Decode JPEG 2000, in its box or without; ValueError where its end is missing."""
    if data.rfind(J2K_END) < data.rfind(J2K_TILE):
        # The library makes up what is missing.
        raise ValueError("truncated")
    return imagecodecs.jpeg2k_decode(data)


def decode_avif(data: bytes) -> np.ndarray:
    """Decode AVIF, of which there is one picture."""
    return imagecodecs.avif_decode(data)


def crc32(data: bytes | memoryview) -> int:
    """Compute what zlib.crc32 does, in an eighth of the time."""
    return _fastest_crc32()(data)


@functools.cache
def _fastest_crc32() -> Callable[[bytes | memoryview], int]:
    try:
        imagecodecs.deflate_crc32(b"")
    except ImportError:
        # Not every build has all codecs.
        return zlib.crc32
    # It takes any buffer, and says less of itself.
    return cast(Callable[[bytes | memoryview], int], imagecodecs.deflate_crc32)


def versions() -> Mapping[str, str]:
    """Return the version of the library."""
    return {"imagecodecs": imagecodecs.__version__}
