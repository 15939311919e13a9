"""Luma: one grey value of the samples of each pixel, by ITU-R 601, of any type."""

import numpy as np

from mri_hpc.intake.decoding.bands import bands

# As Pillow weighs them, of 65536: equal samples stay what they are.
WEIGHTS = (19595, 38470, 7471)


def luma_of(samples: np.ndarray, *, has_alpha: bool = False) -> np.ndarray:
    """Make grey, (h, w), of samples, (h, w, 1 to 4), of the same type: unsigned integers, or floats.

    has_alpha: the last of them says how much of the pixel lies on black.
    """
    grey = np.empty(samples.shape[:2], samples.dtype)
    for rows in bands(*grey.shape):
        grey[rows] = _of_band(samples[rows], has_alpha)
    return grey


def _of_band(band: np.ndarray, has_alpha: bool) -> np.ndarray:
    is_coloured = band.shape[2] - has_alpha >= 3
    if band.dtype.kind == "f":
        colours = band[..., :3].astype(np.float64) @ np.array(WEIGHTS) / 2**16
        return colours if is_coloured else band[..., 0]
    values = band.astype(np.int64)
    grey = (values[..., :3] @ np.array(WEIGHTS) + 2**15) >> 16 if is_coloured else values[..., 0]
    if has_alpha:
        opaque = np.iinfo(band.dtype).max
        grey = (grey * values[..., -1] + opaque // 2) // opaque
    return np.asarray(grey)
