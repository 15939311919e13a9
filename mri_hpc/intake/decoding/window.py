"""The window of a group: the grey values that become black and white, for all pictures of one head alike.

The numbers of MR have no unit, so that only those of one head can be compared, and each picture's own range
would make neighbours differ. A group is a patient and study, else a folder. Its window follows from how often
its pictures, or 256 of them spread over the listing, hold which value, in 64 to 127 rows each:

1. Bottom and top leave out 1 of 1,000 pixels at either end, and at least one a picture.
2. The head is what is brighter than bottom by an eighth of the way to top; the rest is air.
3. Black is bottom. White leaves out 1 of 200 pixels of the head, the brightest, and at least one a picture.
4. Both are moved outwards to whole steps of 1/32 of the power of two above their distance, so that a few
   pixels more or less rarely move them.

For example, of four slices: bottom is 3 and top 4,120, so that the head begins at 518.
All but 1 of 200 of its pixels are at most 3,871: a distance of 3,868, below 4,096, so that a step is 128.
Black is 0, white 3,968, and a pixel of 1,000 becomes 1,000 / 3,968 * 255 = 64.

Counts are integers, and the ends are sums of powers of two, so that every machine and version finds the same.

A volume has a window of its own by the first three, of exact values: a constant factor on its numbers, such
as a scanner's slope, changes no level of 8 bits, which whole steps would.
"""

import functools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

TRIMMED, TRIMMED_HEAD = 1000, 200
"""Of so many pixels one is left out: at either end of all, and of the brightest of the head."""
AIR = 8
"""Air is the darkest of so many equal parts of the range."""
STEPS = 32
"""Steps within the power of two above the distance of black and white."""
ROWS = 64
"""Of taller pictures one row in so many is counted as leave this many or more."""
WORDS = 2**16
MOST_AT_ONCE = 2**24
"""Pixels that OpenCV counts at a time: it gives float32, which hold no more."""
# Of a float32 sign, exponent and 11 bits of the mantissa are told apart: 1 part in 2,048.
FLOAT_BITS = 20
FLOATS = 2**FLOAT_BITS
SIGN = np.uint32(1 << 31)
LARGEST = float(np.finfo(np.float32).max)
ASIDE = 2.0**-22
"""Part of a window by which a volume is brightened, so that no whole number lies half way between two levels.

There the rounding of a float would decide: ASIDE of 255 levels is more than that, and less than what parts
different numbers of 12 bits.
"""


@dataclass(frozen=True, kw_only=True, order=True)
class Window:
    """The grey values that become black and white."""

    low: float
    """Becomes 0, as all below it does."""
    high: float
    """Becomes white, 255 or 65,535, as all above it does."""

    def levels(self, grey: np.ndarray, white: int = 255) -> np.ndarray:
        """Compute the levels, 0 to `white`, of grey values of any type: float64, of their shape."""
        inside = np.clip(grey, self.low, self.high, dtype=np.float64) - self.low
        return np.rint(inside * float(white) / (self.high - self.low))

    def moved_aside(self) -> "Window":
        """Return it a little lower, as ASIDE says."""
        aside = (self.high - self.low) * ASIDE
        return Window(low=self.low - aside, high=self.high - aside)

    @functools.cached_property
    def levels_of_words(self) -> np.ndarray:
        """uint8, (65536,): the level of each unsigned 16-bit value."""
        return self._of_words(np.dtype(np.uint8))

    @functools.cached_property
    def deep_levels_of_words(self) -> np.ndarray:
        """uint16, (65536,): the level, 0 to 65,535, of each unsigned 16-bit value."""
        return self._of_words(np.dtype(np.uint16))

    def _of_words(self, pixel_type: np.dtype[Any]) -> np.ndarray:
        # Of 12 bits few words lie inside: only these are computed.
        first, behind = (int(min(max(end, 0.0), WORDS)) for end in (self.low, self.high + 1))
        white = np.iinfo(pixel_type).max
        levels = np.zeros(WORDS, pixel_type)
        levels[first:behind] = self.levels(np.arange(first, behind), white)
        levels[behind:] = white
        return levels

    def fraction_outside(self, grey: np.ndarray) -> float:
        """Compute the fraction of pixels that lie below or above it."""
        outside = np.count_nonzero(grey < self.low) + np.count_nonzero(grey > self.high)
        return float(outside / grey.size)


class Histogram:
    """Counts of the values in pictures of one group: of a bounded size, however many these are."""

    def __init__(self) -> None:
        self._num_pictures = 0
        self._words = np.zeros(WORDS, np.int64)
        # By the order of floats, negative ones first; made where there are any.
        self._floats: np.ndarray | None = None

    def add(self, grey: np.ndarray) -> None:
        """Count the pixels of a picture of more than 8 bits: finite, (h, w)."""
        self.add_rows(grey[:: max(1, len(grey) // ROWS)])

    def add_rows(self, grey: np.ndarray, *, num_pictures: int = 1) -> None:
        """Count pixels, (rows, w), that stand for so many pictures."""
        self._num_pictures += num_pictures
        are_words = grey.dtype == np.uint16 or (
            grey.dtype.kind in "iu" and grey.min() >= 0 and grey.max() < WORDS
        )
        if are_words:
            # In the order in which they lie: of a volume turned around any other takes several times as long.
            counts = _counts_of(grey.ravel(order="K"))
            self._words[: len(counts)] += counts
            return
        if self._floats is None:
            self._floats = np.zeros(FLOATS, np.int64)
        self._floats += np.bincount(_ordered(grey).ravel(), minlength=FLOATS)

    def window(self, *, in_steps: bool = True) -> Window | None:
        """Find the window, by the rule above; None where all pixels have one value, or there are none.

        in_steps: its ends are moved to whole steps.
        """
        values, counts = self._counted()
        if len(values) < 2:
            return None
        bottom, top = self._trimmed(values, counts, TRIMMED)
        if bottom == top:
            bottom, top = float(values[0]), float(values[-1])
        head = _is_head(values, bottom, top) if not in_steps else values > bottom + (top - bottom) / AIR
        _darkest, brightest = self._trimmed(values[head], counts[head], TRIMMED_HEAD)
        return _in_steps(bottom, brightest) if in_steps else Window(low=bottom, high=brightest)

    def _counted(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the values that there are, ascending, and how often: float64, int64."""
        words = np.flatnonzero(self._words)
        counts = self._words[words]
        if self._floats is None:
            return words.astype(np.float64), counts
        numbers = np.flatnonzero(self._floats)
        values = np.concatenate([words, _values(numbers)])
        counts = np.concatenate([counts, self._floats[numbers]])
        order = np.argsort(values, kind="stable")
        return values[order].astype(np.float64), counts[order]

    def _trimmed(self, values: np.ndarray, counts: np.ndarray, of_how_many: int) -> tuple[float, float]:
        """Find the least and the greatest value but for 1 of so many pixels at either end."""
        below = np.cumsum(counts)
        total = int(below[-1])
        left_out = _left_out(total, self._num_pictures, of_how_many)
        first = np.searchsorted(below, left_out, side="right")
        last = np.searchsorted(below, total - left_out)
        return float(values[first]), float(values[last])


def _counts_of(words: np.ndarray) -> np.ndarray:
    """Count how often each word is there, up to the greatest: int64. words: integers, (n,), at least one."""
    if words.dtype != np.uint16:
        return np.bincount(words)
    # Most that know of windows count nothing.
    import cv2

    top = int(words.max()) + 1
    counts = np.zeros(top, np.int64)
    for start in range(0, len(words), MOST_AT_ONCE):
        # In a quarter of numpy's time, which makes int64 of them first.
        part = words[start : start + MOST_AT_ONCE].reshape(1, -1)
        counts += cv2.calcHist([part], [0], None, [top], [0, top]).ravel().astype(np.int64)
    return counts


def window_of(pictures: Iterable[np.ndarray]) -> Window | None:
    """Find the window of a group of pictures of more than 8 bits, (h, w) each; as Histogram.window."""
    histogram = Histogram()
    for grey in pictures:
        histogram.add(grey)
    return histogram.window()


def exact_window(grey: np.ndarray) -> Window | None:
    """Find the window of a volume's grey values, of any shape; as Histogram.window."""
    if grey.dtype == np.uint16:
        histogram = Histogram()
        histogram.add_rows(grey)
        return histogram.window(in_steps=False)
    values = (np.clip(grey, -LARGEST, LARGEST) if grey.dtype.kind == "f" else grey).ravel(order="K")
    bottom, top = _trimmed_exactly(values, TRIMMED)
    if bottom == top:
        bottom, top = float(values.min()), float(values.max())
    if bottom == top:
        return None
    _darkest, brightest = _trimmed_exactly(values[_is_head(values, bottom, top)], TRIMMED_HEAD)
    return Window(low=bottom, high=brightest)


def _is_head(values: np.ndarray, bottom: float, top: float) -> np.ndarray:
    """Tell which values are brighter than air; one on the border is air, whatever float it is."""
    return np.asarray(values > np.float64(bottom + (top - bottom) / AIR * (1 + ASIDE)))


def _trimmed_exactly(values: np.ndarray, of_how_many: int) -> tuple[float, float]:
    """Find the ends of values, (n,), each by itself; as Histogram._trimmed."""
    left_out = _left_out(len(values), 1, of_how_many)
    last = len(values) - 1 - left_out
    ordered = np.partition(values, (left_out, last))
    return float(ordered[left_out]), float(ordered[last])


def _left_out(total: int, num_pictures: int, of_how_many: int) -> int:
    """Return how many of so many pixels are left out at an end."""
    return min(max(num_pictures, total // of_how_many), (total - 1) // 2)


def _in_steps(bottom: float, brightest: float) -> Window:
    """Move both ends outwards to whole steps."""
    _fraction, exponent = math.frexp(brightest - bottom)
    step = math.ldexp(1 / STEPS, exponent)
    return Window(low=math.floor(bottom / step) * step, high=math.ceil(brightest / step) * step)


def _ordered(grey: np.ndarray) -> np.ndarray:
    """Number values so that greater ones have greater numbers, close ones the same: int64, < FLOATS."""
    bits = np.clip(grey, -LARGEST, LARGEST).astype(np.float32).view(np.uint32)
    return (np.where(bits & SIGN, ~bits, bits | SIGN) >> np.uint32(32 - FLOAT_BITS)).astype(np.int64)


def _values(numbers: np.ndarray) -> np.ndarray:
    """Return the value of least magnitude that has each number, as _ordered gives them: float64."""
    bits = numbers.astype(np.uint32) << np.uint32(32 - FLOAT_BITS)
    bits = np.where(bits & SIGN, bits & ~SIGN, ~bits & ~np.uint32(2 ** (32 - FLOAT_BITS) - 1))
    return bits.view(np.float32).astype(np.float64)
