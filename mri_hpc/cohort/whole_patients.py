"""A sample of images that leaves no patient in parts."""

import numpy as np

from mri_hpc.storage.store import Snapshot


def whole_patients(snapshot: Snapshot, rows: np.ndarray, most: int) -> np.ndarray:
    """Return rows of whole patients, drawn by chance that is the same each time, of at most so many images.

    All where they are no more; of one patient at least, however many images that one has. An image without a
    patient counts as one of its own. rows: int64, (n,).
    """
    if len(rows) <= most:
        return rows
    patient = np.asarray(snapshot.patient)[rows].astype(np.int64)
    own = np.where(patient >= 0, patient, len(snapshot.patient_names) + np.arange(len(rows)))
    _names, number, counts = np.unique(own, return_inverse=True, return_counts=True)
    order = np.random.default_rng(0).permutation(len(counts))
    is_in = np.zeros(len(counts), bool)
    is_in[order] = np.cumsum(counts[order]) <= most
    is_in[order[0]] = True
    return rows[is_in[number]]
