"""The images of many files side by side in one range of addresses, so that one call copies a whole batch.

numpy copies rows of an array at the speed of memory; a loop in Python over mapped files costs a fifth on top.
"""

import math
import mmap

import numpy as np

from mri_hpc.storage.disk import file_mapping

# Where addresses and offsets in the files agree to this, the system maps in one piece what it holds in large
# pages, and finding a page costs next to nothing.
LARGE_PAGE = 2 * 2**20
# Addresses that a file may take beyond its size: there are 128 TiB of them.
MOST_APART = 2 * 2**30
# mmap(2); Python has no name for it before 3.13.
_MAP_NORESERVE = 0x4000


class MappedImages:
    """Runs of images in files, each mapped when it is first needed, and all of them rows of one array."""

    def __init__(self, *, offsets: np.ndarray, counts: np.ndarray, image_shape: tuple[int, int]) -> None:
        """Reserve addresses. offsets: int64, (f,), of the first image in each file; counts: int64, (f,).

        The offsets must fit (see `fit`). image_shape: of an image as bytes, here and below.
        """
        assert fit(offsets, image_shape)
        self._image_bytes = image_shape[0] * image_shape[1]
        self._offsets, self._counts = offsets.tolist(), counts.tolist()
        self._first = np.array(self._first_rows(_alignment(offsets, self._image_bytes)), np.int64)
        size = (int(self._first[-1]) + self._counts[-1]) * self._image_bytes
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE
        self._range = mmap.mmap(-1, size + LARGE_PAGE, flags=flags, prot=0)
        whole = np.frombuffer(self._range, np.uint8)
        # The system promises no more than a page's edge.
        self._skipped = -whole.ctypes.data % LARGE_PAGE
        self._images = whole[self._skipped : self._skipped + size].reshape(-1, *image_shape)

    def map(self, file: int, descriptor: int) -> None:
        """Map an open file, which must be long enough to hold its images, so that these become their rows."""
        into_page = self._offsets[file] % mmap.PAGESIZE
        start = int(self._first[file]) * self._image_bytes - into_page
        size = into_page + self._counts[file] * self._image_bytes
        offset = self._offsets[file] - into_page
        file_mapping.map_to(self._images.ctypes.data + start, size, descriptor, offset)
        # Else the system reads on for megabytes around each image.
        self._range.madvise(mmap.MADV_RANDOM, self._skipped + start, size)

    def copy(self, files: np.ndarray, rows: np.ndarray, out: np.ndarray) -> None:
        """Copy these rows of these files, all of which must be mapped, to `out`: uint8, (b, H, W)."""
        # Of its modes, the default one copies everything twice.
        np.take(self._images, self._first.take(files) + rows, axis=0, out=out, mode="clip")

    def _first_rows(self, alignment: int) -> list[int]:
        """Choose the row of the array that the first image of each file becomes.

        Its address and its offset in the file leave the same remainder by `alignment`.
        """
        step = math.gcd(self._image_bytes, alignment)
        period = alignment // step
        inverse = pow(self._image_bytes // step, -1, period)
        rows, end = [], 0
        for offset, count in zip(self._offsets, self._counts, strict=True):
            begin = -(-end // alignment) * alignment + offset % alignment
            lowest = -(-begin // self._image_bytes)
            rows.append(lowest + (offset // step * inverse - lowest) % period)
            end = (rows[-1] + count) * self._image_bytes
        return rows


def fit(offsets: np.ndarray, image_shape: tuple[int, int]) -> bool:
    """Tell whether images at these offsets in their files can be mapped so as to be rows of one array."""
    return len(offsets) > 0 and _agree(offsets, image_shape[0] * image_shape[1], mmap.PAGESIZE)


def _agree(offsets: np.ndarray, image_bytes: int, alignment: int) -> bool:
    return not (offsets % math.gcd(image_bytes, alignment)).any()


def _alignment(offsets: np.ndarray, image_bytes: int) -> int:
    is_large = math.lcm(image_bytes, LARGE_PAGE) <= MOST_APART and _agree(offsets, image_bytes, LARGE_PAGE)
    return LARGE_PAGE if is_large else mmap.PAGESIZE
