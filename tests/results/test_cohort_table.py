"""Images and patients by class and split."""

from mri_hpc.results.pages.cohort_table import Cell, tabulate, totals
from mri_hpc.rundir.predictions import Prediction


def row(split, label, patient):
    return Prediction(key="00", patient=patient, split=split, label=label, probabilities=(1.0, 0.0))


ROWS = [row("test", "a", "P1"), row("test", "a", "P1"), row("test", "b", "P2"), row("validation", "a", "")]


def test_training_counts_come_from_the_run_and_the_rest_from_its_predictions():
    stated = {"train": {"images": 9, "classes": {"a": {"images": 5, "patients": 2}}}}
    table = tabulate(("a", "b"), stated, ROWS)
    assert table["a"]["train"] == Cell(images=5, patients=2)
    assert table["a"]["test"] == Cell(images=2, patients=1)
    assert table["a"]["validation"] == Cell(images=1, patients=None)
    assert table["b"]["train"] == Cell(images=None, patients=None)


def test_a_total_is_left_open_where_a_part_is_unknown():
    found = totals(tabulate(("a", "b"), {}, ROWS), {}, ROWS)
    assert found["test"] == Cell(images=3, patients=2)
    assert found["train"] == Cell()


def test_a_class_that_is_absent_from_a_split_leaves_the_totals_known():
    of_classes = {"a": {"images": 23, "patients": 8}, "b": {"images": 0, "patients": 0}}
    stated = {"test": {"images": 23, "patients": 8, "classes": of_classes}}
    assert totals(tabulate(("a", "b"), stated, []), stated, [])["test"] == Cell(images=23, patients=8)


def test_a_patient_of_two_classes_counts_once_in_the_total():
    rows = [*ROWS, row("test", "b", "P1")]
    assert totals(tabulate(("a", "b"), {}, rows), {}, rows)["test"] == Cell(images=4, patients=2)
    both = {"images": 4, "patients": 3}
    stated = {"train": {"images": 8, "patients": 5, "classes": {"a": both, "b": both}}}
    assert totals(tabulate(("a", "b"), stated, []), stated, [])["train"] == Cell(images=8, patients=5)


def test_images_without_patients_have_an_unknown_number_of_them():
    stated = {"test": {"classes": {"a": {"images": 23, "patients": 0}}}}
    assert tabulate(("a",), stated, [])["a"]["test"] == Cell(images=23, patients=None)
