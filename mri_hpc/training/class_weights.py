"""Weights of classes in the loss: those with few images count as much as those with many."""

import numpy as np

from mri_hpc.base.errors import UserError


def class_weights(labels: np.ndarray, classes: tuple[str, ...], how: str) -> np.ndarray:
    """Return each class's weight in the loss, 1 on average over the training images: float32, (classes,).

    labels: int, (n,), of the training split. Raises UserError where a class has no training image, or there
    is one class only.
    """
    counts = np.bincount(labels, minlength=len(classes))
    for name, count in zip(classes, counts, strict=True):
        if not count:
            raise UserError(
                f"class {name!r} has no image in the training split: add images of more of its patients, "
                f"or retract what it has"
            )
    if len(classes) < 2:
        raise UserError(f"all images are of one class, {classes[0]!r}: a classifier needs two to tell apart")
    if how == "none":
        return np.ones(len(classes), np.float32)
    return (len(labels) / (len(classes) * counts)).astype(np.float32)
