"""Burnt-in text: letters that were drawn into a picture, of which nothing in its header need tell.

Text is drawn at the top of the grey range, its edges are sharper than a scanner's, and its letters stand in a
row. So some three neighbouring rows have many places that are nearly as bright as the brightest, and dark two
pixels beside that: to count these takes some 20 µs, and clears nearly all pictures without text. In the rest
connected parts are looked at: at least three of about one height, on one line, of one brightness, with dark
around them.

Recall and false alarms on real slices stand in docs/privacy.md (`python -m tests.harness.burnt_in_text`), and
tests hold bounds of both. Not seen are fewer than three letters, some letters of fewer than 10 rows of 256,
dark letters, upright lines, and text that is darker than 0.85 of the brightest.
"""

import math
from collections.abc import Iterator

import cv2
import numpy as np

BURNT_IN = "text burnt into the pixels, as it seems"
"""Remark to be made on a volume in which text is seen."""
KEPT_BACK = f"{BURNT_IN}: look at it, and if it names nobody, --accept burnt-in"
"""Reason of keeping it back."""

FEWEST_ROWS, FEWEST_OF_TILE = 96, 48
"""Of fewer no letter could be read; in a mosaic of smaller slices letters look as these do."""
SAMPLED_ROWS = 85
"""Of 256, one in three: letters of 10 rows are met by three."""
BRIGHT, DARK = 0.85, 0.40
"""Of the brightest: letters are brighter than one, and what lies beside them is darker than the other."""
FEWEST_EDGES = 8
"""Pixels that are bright beside dark ones, in three neighbouring ones of the sampled rows."""
CUTS = (0.5, 0.7, 0.85)
"""Of the brightest: where pictures are cut to find letters, since tissue may be bright, too."""
LEAST_HEIGHT, MOST_HEIGHT, MOST_OF_TILE = 6, 1 / 6, 1 / 4
"""Of a letter: in rows, and as a fraction of the picture, and of one slice in a mosaic."""
MOST_LETTERS, MOST_PARTS = 12, 600
"""Letters that touch each other, by their width; parts of a picture that are more than a text has."""
LEAST_FILLED, MOST_FILLED = 0.12, 0.9
"""Fraction of the box around a letter that it fills; of thin ones, such as 1, it may be all."""
FEWEST_LETTERS = 3
LEAST_FLAT = 0.25
"""Fraction of the letters' pixels that are as bright as their brightest."""
MOST_AROUND = 0.5
"""Brightness around letters, as a fraction of theirs."""
NEAR, FURTHER = np.ones((3, 3), np.uint8), np.ones((5, 5), np.uint8)


def shows_text(picture: np.ndarray, *, tile_rows: int = 0) -> bool:
    """Tell whether letters seem to be drawn into a picture.

    picture: (h, w), of any type of numbers; tile_rows: of each slice, where it is a mosaic of them.
    """
    if min(picture.shape) < FEWEST_ROWS or 0 < tile_rows < FEWEST_OF_TILE:
        return False
    rows = picture[:: max(2, len(picture) // SAMPLED_ROWS)]
    low = 0.0 if picture.dtype.kind == "u" else float(rows.min())
    span = float(rows.max()) - low
    # Heads stand in rows, too, but further apart than letters of this height do.
    most = min(MOST_HEIGHT * len(picture), MOST_OF_TILE * tile_rows or len(picture))
    return _num_edges(rows, low, span) >= FEWEST_EDGES and any(
        _are_drawn(letters, picture, low) for letters in _lines(picture, low, span, most)
    )


def _num_edges(rows: np.ndarray, low: float, span: float) -> int:
    """Count, in the three neighbouring rows that have most of them, what is bright beside dark."""
    is_bright = _reaches(rows, low + span * BRIGHT)
    if not span or np.count_nonzero(is_bright) < FEWEST_EDGES:
        return 0
    is_dark = ~_reaches(rows, low + span * DARK)
    edges = is_dark[:, :-4] | is_dark[:, 4:]
    edges &= is_bright[:, 2:-2]
    if np.count_nonzero(edges) < FEWEST_EDGES:
        return 0
    of_rows = cv2.reduce(edges.view(np.uint8), 1, cv2.REDUCE_SUM, dtype=cv2.CV_32S)[:, 0]
    return int((of_rows[:-2] + of_rows[1:-1] + of_rows[2:]).max())


def _reaches(picture: np.ndarray, level: float) -> np.ndarray:
    # By whole numbers these are compared as they are.
    return np.asarray(picture >= (level if picture.dtype.kind == "f" else math.ceil(level)))


def _lines(picture: np.ndarray, low: float, span: float, most: float) -> Iterator[np.ndarray]:
    """Yield the masks of what stands in a row as letters do: bool, (h, w). most: rows of a letter."""
    for cut in CUTS:
        bright = _reaches(picture, low + span * cut).view(np.uint8)
        _count, parts, boxes, _centres = cv2.connectedComponentsWithStats(bright, connectivity=8)
        _left, _top, width, height, area = boxes.T
        may_be = (height >= LEAST_HEIGHT) & (height <= most) & (width <= MOST_LETTERS * height)
        is_thin = width * 3 <= height
        may_be &= (area >= LEAST_FILLED * width * height) & (is_thin | (area <= MOST_FILLED * width * height))
        # The first part is all that is dark.
        letters = np.flatnonzero(may_be[1:]) + 1
        if FEWEST_LETTERS <= len(letters) <= MOST_PARTS:
            for line in _in_rows(boxes[letters]):
                yield np.isin(parts, letters[line])


def _in_rows(boxes: np.ndarray) -> Iterator[np.ndarray]:
    """Yield which boxes stand in a row. boxes: (n, 5), as OpenCV gives them."""
    left, top, width, height, _area = (column[np.newaxis] for column in boxes.T)
    higher, lower = np.maximum(height, height.T), np.minimum(height, height.T)
    slack = np.maximum(1, 0.1 * higher)
    # Letters stand on one line, and some go below it: then the upper ends agree.
    on_line = (abs(top + height - (top + height).T) <= slack) | (abs(top - top.T) <= slack)
    gap = left - (left + width).T
    follows = on_line & (lower >= 0.6 * higher) & (gap >= -0.2 * higher) & (gap <= 2 * higher)
    follows &= left > left.T
    linked = follows | follows.T | np.eye(len(boxes), dtype=bool)
    waiting = set(range(len(boxes)))
    while waiting:
        row: set[int] = set()
        new = {waiting.pop()}
        while new:
            row |= new
            new = {int(other) for one in new for other in np.flatnonzero(linked[one])} - row
        waiting -= row
        if len(row) >= FEWEST_LETTERS:
            yield np.array(sorted(row))


def _are_drawn(letters: np.ndarray, picture: np.ndarray, low: float) -> bool:
    """Tell whether what may be letters is of one brightness, with sharp edges. letters: bool, (h, w)."""
    rows, columns = (np.flatnonzero(letters.any(axis=axis)) for axis in (1, 0))
    box = tuple(slice(max(0, int(one[0]) - 3), int(one[-1]) + 4) for one in (rows, columns))
    inside = letters[box].astype(np.uint8)
    grey = picture[box].astype(np.float32) - low
    within = grey[inside > 0]
    around = grey[(cv2.dilate(inside, FURTHER) > 0) & (cv2.dilate(inside, NEAR) == 0)]
    if not len(around):
        return False
    is_flat = np.mean(within >= 0.93 * np.quantile(within, 0.9)) >= LEAST_FLAT
    return bool(is_flat and around.mean() <= MOST_AROUND * within.mean())
