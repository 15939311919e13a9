"""What goes with a class beside the disease is told before a run is submitted."""

from types import SimpleNamespace

import numpy as np
import pytest

from mri_hpc.cohort.commoner import commoner_lines


class Columns(SimpleNamespace):
    def column(self, name):
        return getattr(self, name)

    def names(self, name):
        return np.array([text.encode() for text in self.texts[name]], np.bytes_)


def snapshot(rows, column="scanner", images=2):
    """Patients, one a row: class, value (empty: not told). images: of each."""
    classes = sorted({name for name, _value in rows})
    values = sorted({value for _name, value in rows} - {""})
    codes = {"": -1} | {value: code for code, value in enumerate(values)}
    texts = dict.fromkeys(("kind", "scanner", "site"), ()) | {column: values}
    return Columns(
        classes=tuple(classes),
        texts=texts,
        label=np.repeat([classes.index(name) for name, _value in rows], images).astype("<i2"),
        patient=np.repeat(np.arange(len(rows)), images).astype("<i4"),
        **{column: np.repeat([codes[value] for _name, value in rows], images).astype("<i2")},
    )


def lines(rows, **others):
    found = snapshot(rows, **others)
    return commoner_lines(found, np.ones(len(found.label), bool))


def test_a_scanner_of_one_class_is_told_with_its_patients():
    rows = [("glioma", "X")] * 24 + [("meningioma", "X")] + [("meningioma", "Y")] * 29
    assert lines(rows) == [
        "all 24 patients of glioma are from scanner X, 1 of 30 of meningioma: "
        "a network can tell the scanner instead"
    ]


@pytest.mark.parametrize(
    ("column", "says"),
    [
        (
            "kind",
            "all 12 patients of a are of sequence t1ce, none of 12 of b: "
            "a network can tell the sequence instead",
        ),
        (
            "site",
            "all 12 patients of a are of site t1ce, none of 12 of b: a network can tell the site instead",
        ),
    ],
)
def test_so_are_sequences_and_sites(column, says):
    assert lines([("a", "t1ce")] * 12 + [("b", "t2")] * 12, column=column) == [says]


def test_a_class_of_which_the_scanner_is_not_told_is_one_too():
    rows = [("a", "X")] * 20 + [("b", "")] * 12
    assert lines(rows) == [
        "all 20 patients of a are from scanner X, none of 12 of b: a network can tell the scanner instead"
    ]
    assert lines([("a", "")] * 20 + [("b", "X")] * 4 + [("b", "Y")] * 4 + [("b", "Z")] * 4)[0].startswith(
        "all 20 patients of a are without a known scanner, none of 12 of b"
    )


def test_of_several_classes_the_others_stand_together():
    rows = [("a", "X")] * 12 + [("b", "Y")] * 12 + [("c", "Y")] * 10 + [("c", "X")] * 2
    assert lines(rows) == [
        "all 12 patients of a are from scanner X, 2 of 24 of the others: "
        "a network can tell the scanner instead"
    ]


@pytest.mark.parametrize(
    "rows",
    [
        [("a", "X")] * 12 + [("b", "X")] * 12,
        [("a", "X")] * 9 + [("b", "Y")] * 40,
        [("a", "X")] * 10 + [("a", "Y")] * 10 + [("b", "X")] * 2 + [("b", "Y")] * 18,
        [("a", "")] * 12 + [("b", "")] * 12,
    ],
    ids=["the same everywhere", "few patients", "not by much", "nothing told"],
)
def test_nothing_is_told_where_it_says_little(rows):
    assert lines(rows) == []


def test_images_that_a_run_does_not_use_do_not_count():
    found = snapshot([("a", "X")] * 12 + [("b", "Y")] * 12)
    assert commoner_lines(found, np.arange(20)) == []
