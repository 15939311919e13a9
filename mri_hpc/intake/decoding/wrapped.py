"""Wrapped pictures: more than 8 bits, of which an earlier program kept the lower 8, so that 256 became 0.

Nothing brings the lost bits back, so such a picture is rejected. It is judged as it was decoded, before
anything is resized: the same file is judged alike at any size of the store.

A step from one pixel to its neighbour is taken in two ways: as a difference of numbers, from -255 to 255, and
on the circle of 256 values, where 255 lies beside 0. Where brightness climbs over white and on from black,
the step is a jump of nearly 256 as a number, and a small one on the circle:

    rising by 40:   180 220   4  44    numbers +40 -216 +40    circle +40 +40 +40
    an edge:         10  10 250 250    numbers   0 +240   0    circle   0  -16   0

A wrapped head has many jumps, its steps are shorter on the circle, and brightness goes on climbing beside
them, as it does beside no edge of writing or of a mask. Noise has all of this; but its steps point everywhere
on the circle, where those of a head keep to one side.

Measured by tools/benchmarks/wrapped_pictures.py, which has the figures.
"""

import math

import cv2
import numpy as np

JUMP = 192
LEAST_JUMPS = 0.01
"""Fraction of steps: sound slices have less than a tenth of it, wrapped ones 0.016 to 0.07."""
MOST_LENGTH = 0.80
"""Length of all steps on the circle, as a fraction of it as numbers: sound 0.9 to 1, wrapped 0.5 to 0.77."""
LEAST_CLIMBING = 0.16
"""Fraction of jumps amid a steady climb: of wrapped slices 0.2 to 0.7, of writing at most 0.12."""
NEARLY_FLAT = 16
LEAST_AGREEMENT = -0.05
"""Mean cosine of the steps that are no flat ground: of wrapped heads 0.02 to 0.6, of noise -0.13."""

MOST_PIXELS = 2**18
STEEP = 64
ROWS_APART = 7
# A JPEG that is shrunk while it is decoded hides its jumps, the more the smaller it gets. By how much it is
# shrunk at most: the fraction of steps that is steep in wrapped slices. Of sound ones at half the size: 0.01.
LEAST_STEEP = {2: 0.04, 4: 0.02, 8: 0.008}
LEAST_BYTES_A_PIXEL = 0.1
"""Of a wrapped JPEG at quality 75; more at others. Sound ones of this size and quality: 0.05 to 0.11."""


def is_wrapped(grey: np.ndarray) -> bool:
    """Tell whether a picture lost its upper bits. grey: as decoded, uint8, (h, w)."""
    # Nearly all pictures are sound, and a few of their rows tell so.
    rows, below = grey[:-1:ROWS_APART], grey[1::ROWS_APART]
    if max(_jumps(rows[:, 1:], rows[:, :-1]), _jumps(rows, below)) < LEAST_JUMPS / 2:
        return False
    # Of a large picture some tell as much as all, in the room of a small one.
    apart = -(-grey.size // MOST_PIXELS)
    both_ways = (grey[::apart], cv2.transpose(np.ascontiguousarray(grey[:, ::apart])))
    if max(_jumps(rows[:, 1:], rows[:, :-1]) for rows in both_ways) < LEAST_JUMPS:
        return False
    steps = [_Steps(rows) for rows in both_ways]
    length, on_circle = (sum(values) for values in zip(*(one.lengths() for one in steps), strict=True))
    climbing = np.concatenate([one.are_climbing() for one in steps])
    cosines = np.concatenate([one.cosines() for one in steps])
    return bool(
        on_circle < MOST_LENGTH * length
        and climbing.any()
        and climbing.mean() >= LEAST_CLIMBING
        and cosines.mean() >= LEAST_AGREEMENT
    )


def may_be_wrapped(shrunk: np.ndarray, *, num_pixels: int, num_bytes: int) -> bool:
    """Tell whether a JPEG has to be decoded whole to know whether it is wrapped.

    shrunk: as it was decoded, uint8, (h, w); num_pixels, num_bytes: of the whole. Every wrapped picture is to
    be among those, and few others: the whole takes several times as long.
    """
    rows = shrunk[::ROWS_APART]
    num_steep = np.count_nonzero(cv2.absdiff(rows[:, 1:], rows[:, :-1]) >= STEEP)
    shrinking = math.sqrt(num_pixels / shrunk.size)
    least = LEAST_STEEP[2 if shrinking < 2.1 else 4 if shrinking < 4.1 else 8]
    if num_steep < least * rows.size:
        return False
    return shrinking < 2.1 or num_bytes >= LEAST_BYTES_A_PIXEL * num_pixels


def _jumps(pixels: np.ndarray, beside: np.ndarray) -> float:
    """Return the fraction of jumps among the steps between pixels and those beside them."""
    return float(np.count_nonzero(cv2.absdiff(pixels, beside) >= JUMP)) / pixels.size


class _Steps:
    """Steps along the rows of a picture."""

    def __init__(self, rows: np.ndarray) -> None:
        self._numbers = np.diff(rows.astype(np.int16), axis=1)
        self._circle = self._numbers.astype(np.int8).astype(np.int16)

    def lengths(self) -> tuple[int, int]:
        """Add up the steps, as numbers and on the circle."""
        return int(np.abs(self._numbers).sum()), int(np.abs(self._circle).sum())

    def are_climbing(self) -> np.ndarray:
        """Tell of each jump whether the steps before and after it go the same way on the circle: bool."""
        jumps = np.abs(self._numbers[:, 1:-1]) >= JUMP
        before, over, after = (np.sign(self._circle[:, i : i + jumps.shape[1]][jumps]) for i in range(3))
        return (before == over) & (after == over)

    def cosines(self) -> np.ndarray:
        """Return cosines of the angles that steps are on the circle, but for those on nearly flat ground."""
        return np.cos(self._circle[np.abs(self._numbers) >= NEARLY_FLAT] * (2 * np.pi / 256))
