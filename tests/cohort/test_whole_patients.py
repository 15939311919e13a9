"""Samples of whole patients."""

from types import SimpleNamespace

import numpy as np

from mri_hpc.cohort.whole_patients import whole_patients


def test_a_sample_has_no_patient_in_parts_and_one_at_least():
    patient = np.repeat(np.arange(10), 8)
    snapshot = SimpleNamespace(patient=patient, patient_names=[b"" for _ in range(10)])
    rows = np.arange(80)
    for most, num in ((80, 80), (79, 72), (17, 16), (7, 8), (1, 8)):
        chosen = whole_patients(snapshot, rows, most)
        assert len(chosen) == num
        assert {*np.bincount(patient[chosen]).tolist()} <= {0, 8}
