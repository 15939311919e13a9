"""The square: a grey picture of any shape becomes the image that the recipe asks for.

Shrinking averages over areas, after a JPEG has been shrunk as far as possible while being decoded. Enlarging
is linear.

From 256 to 224, as most slices of MR and JPEG of 512 go, seven pixels are the averages of eight: of each two
that follow each other, 7 and 1 eighths, 6 and 2, and so on to 1 and 7. In whole numbers this takes less than
half of OpenCV's time, and gives the same, since it rounds no sum but the last.
"""

import functools

import cv2
import numpy as np

from mri_hpc.intake.decoding.recipe import Recipe
from mri_hpc.intake.decoding.samples import Placed

# One process a core is the unit of parallelism; OpenCV's own threads would fight over it.
cv2.setNumThreads(1)


def fit_to_square(grey: np.ndarray, recipe: Recipe) -> tuple[np.ndarray, Placed]:
    """Resize a grey image, uint8 or uint16, (h, w), into the recipe's square."""
    size = recipe.size
    height, width = fitted_shape(grey.shape[0], grey.shape[1], recipe)
    is_shrinking = height <= grey.shape[0] and width <= grey.shape[1]
    if grey.dtype == np.uint8 and (height * 8, width * 8) == (grey.shape[0] * 7, grey.shape[1] * 7):
        grey = _seven_of_eight(grey)
    elif grey.shape != (height, width):
        how = cv2.INTER_AREA if is_shrinking else cv2.INTER_LINEAR
        grey = cv2.resize(grey, (width, height), interpolation=how)
    if (height, width) == (size, size):
        return np.ascontiguousarray(grey), (0.0, 0.0, 1.0, 1.0)
    top, left = (size - height) // 2, (size - width) // 2
    square = np.zeros((size, size), grey.dtype)
    square[top : top + height, left : left + width] = grey
    return square, (left / size, top / size, width / size, height / size)


def fitted_shape(height: int, width: int, recipe: Recipe) -> tuple[int, int]:
    """Compute height and width that a picture takes in the recipe's square."""
    if recipe.fit == "stretch" or height == width:
        return recipe.size, recipe.size
    longest = max(height, width)
    return max(1, round(height * recipe.size / longest)), max(1, round(width * recipe.size / longest))


def _seven_of_eight(grey: np.ndarray) -> np.ndarray:
    """Shrink both sides to 7/8, as INTER_AREA does. grey: uint8, (h, w), multiples of 8."""
    columns = cv2.transpose(_rows_in_eighths(grey.astype(np.uint16)))
    sums = _rows_in_eighths(columns)
    # In 64ths. A half goes to the even level.
    sums += (sums >> 6) & 1
    sums += 31
    sums >>= 6
    return np.asarray(cv2.transpose(sums.astype(np.uint8)))


def _rows_in_eighths(grey: np.ndarray) -> np.ndarray:
    """Average rows, seven of eight: uint16, in eighths. grey: uint16, (h, w), up to 8 x 255."""
    of_this, of_next = _eighths(grey.shape[1])
    rows = grey.reshape(-1, 8, grey.shape[1])
    sums = rows[:, :7] * of_this
    sums += rows[:, 1:] * of_next
    return sums.reshape(-1, grey.shape[1])


@functools.lru_cache(maxsize=16)
def _eighths(width: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the weights of a row and of the next one: uint16, (7, width), since numpy repeats slowly."""
    of_this = np.repeat(np.arange(7, 0, -1, dtype=np.uint16), width).reshape(7, width)
    return of_this, 8 - of_this
