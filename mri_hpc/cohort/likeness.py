"""Likeness of looks: how much of the one the other explains.

Frames of twins lie a little elsewhere where one is cropped or brighter. So a look explains another one
together with its slopes, in the variant in which that goes best. That tells by what the frame is off: the
look is moved so, and asked again. Twins come much nearer by that, other images hardly.
"""

from dataclasses import dataclass

import numpy as np

from mri_hpc.cohort.looks import NUM_FREQUENCIES, NUM_VARIANTS, moved, slopes, turned

NUM_EXPLAINING = 5
"""A look and its four slopes."""
MOST_MOVED = 0.5
"""In halves of the frame."""
# By transposing; by mirroring; by the parity of rows and columns of what is compared.
PARITY_SIGNS = np.array([
    [[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]],
    [[1, 1, 1, 1], [1, 1, -1, -1], [1, -1, 1, -1], [1, -1, -1, 1]],
], np.float32)  # fmt: skip


@dataclass(frozen=True, kw_only=True, eq=False)
class Likeness:
    """Likeness of the looks of pairs."""

    explained: np.ndarray
    """float32, (...): fraction of the second look that the first one explains."""
    variant: np.ndarray
    """int64, (...): turn or mirroring that makes the second most like the first."""
    move: np.ndarray
    """float32, (..., 4): how far the first frame lies off: right, down, stretched across, and down."""

    def taken(self, rows: np.ndarray) -> "Likeness":
        """Return some of them."""
        return Likeness(**{name: values[rows] for name, values in vars(self).items()})


def likeness(first: np.ndarray, second: np.ndarray) -> Likeness:
    """Explain looks by others in the best variant: of each of the first, k of the second.

    first: float32, (n, 16, 16). second: float16, (n, k, 16, 16).
    """
    count, number = second.shape[:2]
    explaining = _with_slopes(first)
    both = np.concatenate([explaining, np.swapaxes(explaining, -1, -2)], axis=1)
    # Mirroring changes no more than the signs of these parts of a product: all variants cost two products.
    parts = _by_parity(both) @ _by_parity(second).transpose(0, 1, 3, 2)
    parts = parts.reshape(count, 4, 2, NUM_EXPLAINING * number).transpose(0, 2, 1, 3)
    products = (PARITY_SIGNS @ parts).reshape(count, NUM_VARIANTS, NUM_EXPLAINING, number)
    products = products.transpose(0, 2, 1, 3)
    weights = _inverse(explaining) @ products.reshape(count, NUM_EXPLAINING, -1)
    weights = weights.reshape(products.shape)
    explained = (weights * products).sum(axis=1)
    best = explained.argmax(axis=1)
    at = (np.arange(count)[:, None], best, np.arange(number)[None])
    chosen = np.moveaxis(weights, 1, 3)[at]
    return Likeness(explained=explained[at], variant=best, move=_move(chosen))


def closer(first: np.ndarray, second: np.ndarray, by: Likeness) -> Likeness:
    """Explain looks again, once the first ones are moved. first, second: float32, (n, 16, 16). by: (n,)."""
    move = np.clip(by.move, -MOST_MOVED, MOST_MOVED)
    explaining = _with_slopes(moved(first, move))
    products = _flat(explaining) @ _flat(turned(second, by.variant)[:, None]).transpose(0, 2, 1)
    weights = _inverse(explaining) @ products
    further = _move(weights[..., 0])
    shift, stretch = (
        move[:, :2] + (1 + move[:, 2:]) * further[:, :2],
        (1 + move[:, 2:]) * (1 + further[:, 2:]),
    )
    return Likeness(
        explained=(weights * products).sum(axis=(1, 2)) / (second**2).sum(axis=(1, 2)),
        variant=by.variant,
        move=np.concatenate([shift, stretch - 1], axis=1),
    )


def _with_slopes(looks: np.ndarray) -> np.ndarray:
    """Return looks and their slopes, without the means: (n, 5, 16, 16)."""
    explaining = np.concatenate([looks[:, None], slopes(looks)], axis=1)
    explaining[:, :, 0, 0] = 0
    return explaining


def _by_parity(looks: np.ndarray) -> np.ndarray:
    """Sort frequencies by whether those of rows and columns are odd: float32, (n, 4, k, 64)."""
    count, number, side, _ = looks.shape
    split = looks.reshape(count, number, side // 2, 2, side // 2, 2).transpose(0, 3, 5, 1, 2, 4)
    return split.astype(np.float32).reshape(count, 4, number, (side // 2) ** 2)


def _inverse(explaining: np.ndarray) -> np.ndarray:
    flat = _flat(explaining)
    inner = flat @ flat.transpose(0, 2, 1)
    return np.asarray(np.linalg.inv(inner + 1e-6 * np.eye(NUM_EXPLAINING, dtype=np.float32)))


def _flat(looks: np.ndarray) -> np.ndarray:
    """Return looks, (n, k, 16, 16), as rows: (n, k, 256)."""
    return looks.reshape(*looks.shape[:2], NUM_FREQUENCIES**2)


def _move(weights: np.ndarray) -> np.ndarray:
    return np.asarray(weights[..., 1:] / weights[..., :1])
