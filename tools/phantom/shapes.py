"""Solids as distances to their surface in mm, negative inside. Places: x, y, z in mm, float32, (3, H, W)."""

from collections.abc import Sequence
from functools import cache, reduce
from itertools import pairwise

import numpy as np

Vector = Sequence[float] | np.ndarray

FIELD_SIDE = 64
# In voxels of the field.
FIELD_WAVE = 8
# For textures with shorter waves the nearest voxel is as good as what lies between several.
FINE_MM = 13
SAMPLES_A_WAVE = 4


def ellipsoid(places: np.ndarray, centre: Vector, radii: Vector) -> np.ndarray:
    """Measure an ellipsoid along the axes; the distance is a first-order estimate."""
    radii = _column(radii)
    scaled = (places - _column(centre)) / radii
    near = np.sqrt((scaled * scaled).sum(axis=0)) + 1e-6
    scaled /= radii
    slope = np.sqrt((scaled * scaled).sum(axis=0)) + 1e-6
    return near * (near - 1) / slope


def capsule(places: np.ndarray, start: Vector, end: Vector, radii: tuple[float, float]) -> np.ndarray:
    """Measure a rod with round ends, from one radius to the other."""
    axis = np.subtract(end, start, dtype=np.float32)
    x, y, z = places - _column(start)
    along = axis[0] * x + axis[1] * y + axis[2] * z
    square = float(axis @ axis)
    fraction = np.clip(along / square, 0, 1)
    across = np.sqrt(np.maximum(x * x + y * y + z * z + fraction * (square * fraction - 2 * along), 0))
    return across - (radii[0] + (radii[1] - radii[0]) * fraction)


def tube(places: np.ndarray, path: Sequence[Vector], radii: Sequence[float]) -> np.ndarray:
    """Measure rods one after the other, with a radius at each point of the path."""
    ends = zip(pairwise(path), pairwise(radii), strict=True)
    return reduce(np.minimum, [capsule(places, start, end, pair) for (start, end), pair in ends])


def blend(first: np.ndarray, second: np.ndarray, width_mm: float) -> np.ndarray:
    """Join both, with a rounded seam."""
    fraction = np.clip(0.5 + 0.5 * (second - first) / width_mm, 0, 1)
    return second + (first - second) * fraction - width_mm * fraction * (1 - fraction)


def mirrored(places: np.ndarray) -> np.ndarray:
    """Fold positions onto the right half: what is drawn there appears on both sides."""
    return np.concatenate([np.abs(places[:1]), places[1:]])


def paint(image: np.ndarray, value: float | np.ndarray, distance: np.ndarray, edge_mm: float) -> None:
    """Give the inside of a solid a value, in place, with an edge as soft as a voxel makes it."""
    image += np.clip(0.5 - distance / edge_mm, 0, 1) * (value - image)


class Field:
    """Smooth noise over all space, periodic, of mean 0 and deviation 1, with waves of any length."""

    def __init__(self, random: np.random.Generator) -> None:
        white = random.standard_normal((FIELD_SIDE,) * 3, dtype=np.float32)
        across, half = np.fft.fftfreq(FIELD_SIDE), np.fft.rfftfreq(FIELD_SIDE)
        frequency = np.sqrt(across[:, None, None] ** 2 + across[None, :, None] ** 2 + half**2)
        band = np.exp(-(((frequency * FIELD_WAVE - 1) / 0.25) ** 2))
        noise = np.fft.irfftn(np.fft.rfftn(white) * band, s=white.shape, axes=(0, 1, 2))
        self._noise = (noise / noise.std()).astype(np.float32).ravel()

    def at(self, places: np.ndarray, offset: Vector, wave_mm: float) -> np.ndarray:
        """Return the noise in these positions. offset: at which they begin in the field, in its voxels."""
        voxels = places * np.float32(FIELD_WAVE / wave_mm) + _column(offset)
        return self._nearest(voxels) if wave_mm < FINE_MM else self._between(voxels)

    def smooth_at(self, places: np.ndarray, offset: Vector, wave_mm: float) -> np.ndarray:
        """Return the same on a regular grid, (3, H, H), looked up only as densely as needed."""
        side = places.shape[1]
        step_mm = float(np.abs(places[:, 0, 1] - places[:, 0, 0]).sum()) + 1e-6
        num = min(side, 2 + int(np.ceil(side * step_mm / wave_mm * SAMPLES_A_WAVE)))
        if num == side:
            return self.at(places, offset, wave_mm)
        picked, spread = _spread(side, num)
        return spread @ self.at(places[:, picked[:, None], picked], offset, wave_mm) @ spread.T

    def _nearest(self, voxels: np.ndarray) -> np.ndarray:
        x, y, z = voxels.astype(np.int32) & (FIELD_SIDE - 1)
        return self._noise[(x * FIELD_SIDE + y) * FIELD_SIDE + z]

    def _between(self, voxels: np.ndarray) -> np.ndarray:
        """Interpolate linearly between the eight voxels around each position."""
        low = np.floor(voxels)
        fraction = voxels - low
        low = low.astype(np.int32)
        near, far = low & (FIELD_SIDE - 1), (low + 1) & (FIELD_SIDE - 1)
        total = np.zeros_like(fraction[0])
        for x, in_x in ((near[0], 1 - fraction[0]), (far[0], fraction[0])):
            for y, in_y in ((near[1], 1 - fraction[1]), (far[1], fraction[1])):
                row, in_row = (x * FIELD_SIDE + y) * FIELD_SIDE, in_x * in_y
                first, second = self._noise[row + near[2]], self._noise[row + far[2]]
                total = total + in_row * (first + fraction[2] * (second - first))
        return total


@cache
def _spread(side: int, num: int) -> tuple[np.ndarray, np.ndarray]:
    """Pick positions, int, (num,), and the matrix that draws out what is there linearly: (side, num)."""
    picked = np.round(np.linspace(0, side - 1, num)).astype(int)
    columns = [np.interp(np.arange(side), picked, row) for row in np.eye(num)]
    return picked, np.stack(columns, axis=1).astype(np.float32)


def _column(vector: Vector) -> np.ndarray:
    return np.asarray(vector, dtype=np.float32)[:, None, None]
