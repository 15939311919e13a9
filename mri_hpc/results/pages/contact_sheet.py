"""A contact sheet: images side by side, each with letters at the sides that its volume tells."""

import math

import cv2
import numpy as np

from mri_hpc.storage.store import Snapshot

GAP = 2
"""Pixels between images."""
GAP_GREY = 96
SIDES = ("RLAP", "RL", "AP")
"""Letters of each plane, as its slices hang: at the left, the right, the top and the bottom."""


def evenly(rows: np.ndarray, count: int) -> np.ndarray:
    """Return at most `count` of some rows, evenly spread."""
    return rows[np.linspace(0, len(rows) - 1, min(count, len(rows))).astype(np.int64)]


def sides_of(snapshot: Snapshot, row: int) -> str:
    """Return the letters of a slice whose sides its volume tells; none of another image."""
    plane = int(snapshot.plane[row])
    is_known = plane >= 0 and not snapshot.plane_inferred[row]
    return SIDES[plane] if is_known and np.isfinite(snapshot.position[row]) else ""


def draw_sides(image: np.ndarray, letters: str) -> None:
    """Write letters at the left, the right, the top and the bottom of an image, uint8, (H, W)."""
    height, width = image.shape
    scale = height / 400
    side = max(8, round(height / 16))
    middle, centre = (height + side) // 2, (width - side) // 2
    places = ((2, middle), (width - side - 1, middle), (centre, side + 2), (centre, height - 4))
    for letter, place in zip(letters, places, strict=False):
        for grey, thickness in ((0, 3), (255, 1)):
            cv2.putText(image, letter, place, cv2.FONT_HERSHEY_SIMPLEX, scale, grey, thickness, cv2.LINE_AA)


def tiled(images: np.ndarray) -> np.ndarray:
    """Lay images side by side, in about as many lines as columns: uint8, (h, w). images: uint8, (n, H, W)."""
    count, height, width = images.shape
    columns = math.isqrt(count - 1) + 1
    lines = -(-count // columns)
    sheet = np.full((lines * (height + GAP) + GAP, columns * (width + GAP) + GAP), GAP_GREY, np.uint8)
    for index, image in enumerate(images):
        line, column = divmod(index, columns)
        top, left = GAP + line * (height + GAP), GAP + column * (width + GAP)
        sheet[top : top + height, left : left + width] = image
    return sheet
