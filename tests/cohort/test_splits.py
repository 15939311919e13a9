"""Promise 10: a patient is never in two splits, and never changes split as data arrive."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mri_hpc.base.errors import UserError
from mri_hpc.cohort.splits import TEST, TRAIN, UNUSED, VALIDATION, rows_of, split_lines, split_of


def snapshot(patients, *, fold=None, split=None, label=None, key=None):
    """What split_of reads of a snapshot. patients: a name an image, empty where there is none."""
    names = sorted({name for name in patients if name})
    count = len(patients)
    return SnapshotColumns(
        key=np.arange(1, count + 1, dtype=np.uint64) << np.uint64(55) if key is None else key,
        patient=np.array([names.index(name) if name else -1 for name in patients], np.int32),
        patient_names=np.array([name.encode() for name in names]),
        fold=np.full(count, -1, np.int16) if fold is None else np.array(fold, np.int16),
        split=np.full(count, -1, np.int8) if split is None else np.array(split, np.int8),
        label=np.zeros(count, np.int16) if label is None else np.array(label, np.int16),
    )


class SnapshotColumns(SimpleNamespace):
    def __len__(self):
        return len(self.key)


def people(count, images=1):
    return [f"P{number}" for number in range(count) for _ in range(images)]


def test_shares_are_about_70_15_15_of_the_patients():
    code = split_of(snapshot(people(4000)))
    assert [round(float((code == c).mean()), 2) for c in (TRAIN, VALIDATION, TEST)] == pytest.approx(
        [0.7, 0.15, 0.15], abs=0.02
    )


@given(st.lists(st.sampled_from(people(60)), min_size=1, max_size=200))
def test_a_patient_keeps_its_split_whatever_arrives(arriving):
    before = [name for name in people(60) for _ in range(2)]
    split_before = dict(zip(before, split_of(snapshot(before)), strict=True))
    names = before + arriving + [f"new{name}" for name in arriving]
    split_after = {}
    for name, code in zip(names, split_of(snapshot(names)), strict=True):
        assert split_after.setdefault(name, code) == code
    assert {name: split_after[name] for name in before} == split_before


def test_the_split_of_a_patient_is_pinned_so_that_no_release_changes_it():
    assert split_of(snapshot(people(16))).tolist() == [0, 0, 0, 0, 2, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 2]


def test_a_split_is_told_by_its_patients_and_a_class_that_it_lacks_is_named():
    data = snapshot(people(4, images=2), label=[0, 0, 1, 1, 0, 0, 0, 0])
    data.classes = ("glioma", "pituitary")
    code = np.array([0, 0, 1, 1, 2, 2, 0, 0], np.int8)
    assert split_lines(data, code) == [
        "patients: train 2, validation 1, test 1",
        "warning: no patient of 'glioma' in validation: its sensitivity cannot be told; "
        "add patients, or name the splits (CSV column split or fold)",
        "warning: no patient of 'pituitary' in test: its sensitivity cannot be told; "
        "add patients, or name the splits (CSV column split or fold)",
        "warning: fewer than 10 test patients of some classes (glioma 1): intervals are wide, and hold "
        "the truth less often than they say",
    ]
    data.patient[:] = -1
    assert split_lines(data, code)[0] == "images: train 4, validation 2, test 2"


def test_images_without_patients_are_split_by_their_keys():
    key = np.sort(np.random.default_rng(0).integers(0, 2**64, 1000, dtype=np.uint64))
    code = split_of(snapshot([""] * 1000, key=key))
    kept = np.arange(1000) % 3 > 0
    assert split_of(snapshot([""] * kept.sum(), key=key[kept])).tolist() == code[kept].tolist()
    assert 0.1 < (code == TEST).mean() < 0.2


def test_folds_name_validation_and_test_and_the_rest_trains():
    code = split_of(snapshot(people(5), fold=[0, 1, 2, 3, -1]), val_fold=1, test_fold=3)
    assert code.tolist() == [TRAIN, VALIDATION, TRAIN, TEST, UNUSED]


def test_a_fold_that_the_data_do_not_name_is_refused_with_those_that_they_do():
    with pytest.raises(UserError, match=r"--test-fold 9 holds no image: the data name folds 0, 1, 2"):
        split_of(snapshot(people(3), fold=[0, 1, 2]), val_fold=1, test_fold=9)


def test_named_splits_are_taken_as_they_are_and_the_others_come_by_their_hash():
    code = split_of(snapshot(people(5), split=[0, 1, 2, -1, -1]))
    # By hash P4 is in test.
    assert code.tolist() == [TRAIN, VALIDATION, TEST, TRAIN, TEST]


def test_what_names_no_split_follows_the_patient_of_whom_another_image_does():
    code = split_of(snapshot(["A", "A", "B", "C"], split=[-1, 2, 1, 0]))
    assert code.tolist() == [TEST, TEST, VALIDATION, TRAIN]


SPLIT_OF_NAMED = st.dictionaries(st.sampled_from(people(30)), st.sampled_from([TRAIN, VALIDATION, TEST]))


@given(SPLIT_OF_NAMED, st.lists(st.sampled_from([TRAIN, VALIDATION, TEST]), min_size=1, max_size=30))
def test_a_patient_keeps_its_split_whatever_splits_later_data_name(named, arriving):
    """Promise 10: only where nothing was named validation can a first name of it end the one by hash."""
    names = people(60)
    before = snapshot(names, split=[named.get(name, UNUSED) for name in names])
    later = [f"new{number}" for number in range(len(arriving))]
    after = snapshot(names + later, split=[*before.split.tolist(), *arriving])
    split_before = dict(zip(names, split_of(before).tolist(), strict=True))
    split_after = dict(zip(names, split_of(after).tolist()[: len(names)], strict=True))
    if VALIDATION in arriving and VALIDATION not in named.values():
        filled = [name for name in named if (named[name], split_before[name]) == (TRAIN, VALIDATION)]
        assert all(split_after[name] == TRAIN for name in filled)
        split_before |= dict.fromkeys(filled, TRAIN)
    assert split_after == split_before


def test_a_test_split_is_never_taken_from_what_the_data_name_train():
    named = [VALIDATION if number % 4 == 0 else TRAIN for number in range(100)]
    with pytest.raises(UserError, match=r"the test split of 100 images is empty .*name the splits"):
        split_of(snapshot(people(100), split=named))


def test_where_the_data_name_no_validation_split_it_is_taken_from_the_training_patients():
    names = people(100)
    named = [TEST if number % 4 == 0 else TRAIN for number in range(100)]
    data = snapshot(names, split=named)
    data.classes = ("glioma",)
    code = split_of(data)
    assert [c == TEST for c in code] == [n == TEST for n in named]
    assert 5 < (code == VALIDATION).sum() < 25
    assert "validation is taken by hash from what the data name train" in split_lines(data, code)[1]


def test_images_that_are_in_no_split_are_told_with_the_reason():
    data = snapshot(people(6), fold=[0, 1, 2, 3, -1, 3], label=[0, 0, 0, 0, 0, -1])
    data.classes = ("glioma",)
    code = split_of(data, val_fold=1, test_fold=3)
    assert split_lines(data, code)[1] == "2 images are in no split: 1 of unknown class, 1 without a fold"


def test_images_of_unknown_class_are_unused():
    label = [-1, *[0] * 99]
    assert split_of(snapshot(people(100), label=label))[0] == UNUSED


def test_a_patient_in_two_splits_is_refused_by_name():
    with pytest.raises(
        UserError, match=r"1 patients are in more than one split, such as A in train and test"
    ):
        split_of(snapshot(["A", "A", "B"], split=[0, 2, 1]))


def test_an_empty_split_is_refused_with_the_counts():
    with pytest.raises(
        UserError, match=r"the test split of 2 images is empty \(train 1, validation 1, test 0\)"
    ):
        split_of(snapshot(["A", "B"], split=[0, 1]))


def test_rows_of_each_split_are_in_the_order_of_keys():
    split = rows_of(np.array([2, 0, 1, 0, -1, 2], np.int8))
    assert (split.train.tolist(), split.validation.tolist(), split.test.tolist()) == ([1, 3], [2], [0, 5])
