"""The square: a grey picture of any shape becomes the image that the recipe asks for.

Shrinking averages over areas, after a JPEG has been shrunk as far as possible while being decoded. Enlarging
is linear.
"""

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
    if grey.shape != (height, width):
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
