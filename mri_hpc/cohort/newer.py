"""Newer snapshots that a run may go on with, and others."""

import numpy as np

from mri_hpc.base.errors import UserError
from mri_hpc.cohort.splits import CALIBRATION, TEST, TRAIN, VALIDATION
from mri_hpc.storage.store import Snapshot


def refuse_other(now: Snapshot, now_code: np.ndarray, newer: Snapshot, newer_code: np.ndarray) -> None:
    """Raise UserError where a newer snapshot is of other classes, or moves images that have been learnt from.

    A patient's images are all in one split: where some of them have moved, so has the patient. now_code,
    newer_code: int8, (n,), from split_by.
    """
    if newer.classes != now.classes:
        raise UserError(_other_classes(now.classes, newer.classes))
    for name, seen, judged in (
        ("training", (TRAIN,), (VALIDATION, TEST, CALIBRATION)),
        ("validation", (VALIDATION, CALIBRATION), (TEST,)),
    ):
        were = np.asarray(now.key)[np.isin(now_code, seen)]
        are = np.asarray(newer.key)[np.isin(newer_code, judged)]
        if moved := int(np.isin(are, were).sum()):
            raise UserError(
                f"{moved} images of {name} would be judged on now, by their labels or by patients who turned "
                "out to be one"
            )


def _other_classes(now: tuple[str, ...], newer: tuple[str, ...]) -> str:
    come, gone = sorted({*newer} - {*now}), sorted({*now} - {*newer})
    changes = [f"new: {', '.join(come)}"] * bool(come) + [f"gone: {', '.join(gone)}"] * bool(gone)
    return f"the store's classes are others now ({'; '.join(changes)}): a new run learns them"
