"""Promise 10: a patient is never in two splits, and never changes split as data arrive."""

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mri_hpc.base.errors import UserError
from mri_hpc.cohort.splits import (
    CALIBRATION,
    TEST,
    TRAIN,
    UNUSED,
    VALIDATION,
    apart_line,
    rows_of,
    set_apart,
    split_lines,
    split_of,
    thinned,
)


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

    def with_own_patients(self):
        return self


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


# Whom the data name splits and folds for: one word a patient, whose own rows say it or say nothing.
WORDS = {"": (-1, -1), "train": (TRAIN, 0), "validation": (VALIDATION, 1), "test": (TEST, 2)}
# With these, no split is ever empty.
FIRST = {"hash": dict.fromkeys(people(60), ""), "names": dict(zip("XYZ", list(WORDS)[1:], strict=True))}
FOLDS = {"val_fold": 1, "test_fold": 2}
WAYS = [*({"from_train": which} for which in ("none", "validation", "test", "both")), FOLDS]


def splits_of_patients(arrived, words, **way):
    """The split of each patient. arrived: patients, and whether this image of theirs says their word."""
    said = [WORDS[words[name] if says else ""] for name, says in arrived]
    data = snapshot(
        [name for name, _ in arrived], split=[split for split, _ in said], fold=[fold for _, fold in said]
    )
    found = {}
    for (name, _), code in zip(arrived, split_of(data, **way).tolist(), strict=True):
        # With folds, images that name none are unused.
        if code != UNUSED:
            assert found.setdefault(name, code) == code
    return found


@given(
    words=st.fixed_dictionaries({f"new{number}": st.sampled_from(list(WORDS)) for number in range(20)}),
    arriving=st.lists(st.tuples(st.integers(0, 19), st.booleans()), max_size=60),
    first=st.sampled_from(list(FIRST)),
    way=st.sampled_from(WAYS),
    data=st.data(),
)
def test_no_patient_moves_when_others_come_that_name_splits_or_folds(words, arriving, first, way, data):
    words = {**words, **FIRST["names"], **FIRST[first]}
    base = [(name, True) for name in FIRST["names" if way is FOLDS else first]]
    come = [*base, *((f"new{number}", says) for number, says in arriving)]
    already = data.draw(st.integers(len(base), len(come)))
    before = splits_of_patients(come[:already], words, **way)
    # A patient moves by their own rows alone: here, none that speaks comes later.
    spoke = {name for name, says in come[:already] if says and words[name]}
    speaks_later = {name for name, says in come[already:] if says and words[name]} - spoke
    after = splits_of_patients(come, words, **way)
    kept = before.keys() - speaks_later
    assert {name: after[name] for name in kept} == {name: before[name] for name in kept}


def test_patients_of_whom_the_data_name_no_split_keep_theirs_when_a_source_that_names_splits_comes():
    names, new = people(200), [f"new{number}" for number in range(20)]
    before = split_of(snapshot(names)).tolist()
    split = [-1] * 200 + [TRAIN] * 14 + [VALIDATION] * 3 + [TEST] * 3
    code = split_of(snapshot(names + new, split=split))
    assert code.tolist() == before + split[200:]


def test_images_that_name_no_split_follow_those_of_their_patient_that_do():
    names = [*people(60), "A", "A", ""]
    code = split_of(snapshot(names, split=[*[-1] * 60, TEST, -1, -1]))
    assert code[60:62].tolist() == [TEST, TEST]
    assert code[62] != UNUSED


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
        "warning: fewer than 10 test patients of some classes (glioma 1): intervals are wide, and hold the "
        "truth less often than they say",
    ]
    data.label[:2], code[[0, 1, 6]] = -1, UNUSED
    unused = "3 images, 1 patients are in no split: 2 of unknown class, 1 without a fold"
    assert split_lines(data, code)[:2] == ["patients: train 1, validation 1, test 1", unused]
    data.patient[:] = -1
    assert split_lines(data, code)[0] == "images: train 1, validation 2, test 2"


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


def test_named_splits_are_taken_as_they_are():
    named = [number % 3 for number in range(100)]
    assert split_of(snapshot(people(100), split=named)).tolist() == named


def test_a_split_that_the_data_name_for_nobody_is_taken_from_the_training_patients_where_that_is_asked_for():
    names = people(100)
    named = [TEST if number % 4 == 0 else TRAIN for number in range(100)]
    with pytest.raises(
        UserError, match=r"is empty .* from those named for training: --from-train validation"
    ):
        split_of(snapshot(names, split=named))
    code = split_of(snapshot(names, split=named), from_train="validation")
    assert [c == TEST for c in code] == [n == TEST for n in named]
    assert 5 < (code == VALIDATION).sum() < 25
    both = split_of(snapshot(names, split=[TRAIN] * 100), from_train="both")
    assert both.tolist() == split_of(snapshot(names)).tolist()


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


def test_about_the_share_of_validation_patients_is_set_apart_and_nobody_else():
    stored = snapshot(people(4000, images=2))
    code = split_of(stored)
    apart = set_apart(stored, code, 0.5)
    assert np.array_equal(apart[code != VALIDATION], code[code != VALIDATION])
    assert set(apart[code == VALIDATION].tolist()) == {VALIDATION, CALIBRATION}
    assert float((apart[code == VALIDATION] == CALIBRATION).mean()) == pytest.approx(0.5, abs=0.06)
    assert np.array_equal(apart[::2], apart[1::2])


def test_a_patient_set_apart_stays_so_whatever_arrives():
    few, many = snapshot(people(300)), snapshot(people(900))
    before, after = (set_apart(s, split_of(s), 0.5) for s in (few, many))
    place = {name: code for name, code in zip(people(900), after.tolist(), strict=True)}
    assert [place[name] for name in people(300)] == before.tolist()


def test_where_nobody_would_be_left_to_choose_the_epoch_nobody_is_set_apart():
    stored = snapshot(["A", "B", "C"], split=[0, 1, 2])
    code = split_of(stored)
    assert np.array_equal(set_apart(stored, code, 0.999), code)
    assert "too few" in apart_line(stored, code, 0.999)[0]


def test_images_without_a_patient_choose_the_epoch():
    stored = snapshot(["", "", "", *people(60)], split=[0, 2, 1, *[1] * 60])
    apart = set_apart(stored, split_of(stored), 0.5)
    assert apart[2] == VALIDATION
    assert (apart == CALIBRATION).any()


def test_each_patient_is_tested_by_one_of_the_folds_that_a_hash_deals():
    way = {"from_train": "validation", "hash_folds": 5}
    codes = [split_of(snapshot(people(300, images=2)), test_fold=fold, **way) for fold in range(1, 6)]
    is_tested = np.array([code == TEST for code in codes])
    assert (is_tested.sum(axis=0) == 1).all()
    assert is_tested.sum(axis=1).min() > 80
    # Who validates is so in every fold but that which tests them.
    is_held = np.array([code == VALIDATION for code in codes])
    assert set(is_held.sum(axis=0).tolist()) == {0, 4}


def test_patients_who_turned_out_to_be_one_are_tested_in_the_least_of_their_folds():
    names = people(90)
    data = snapshot(names, fold=[number % 3 for number in range(90)])
    # P0 of fold 0 and P1 of fold 1 are one.
    one = snapshot(["P0" if name == "P1" else name for name in names], fold=data.fold)
    one.with_own_patients = lambda: data
    codes = [split_of(one, test_fold=fold, from_train="validation") for fold in range(3)]
    assert [code[:2].tolist() == [TEST, TEST] for code in codes] == [True, False, False]
    assert (np.array([code == TEST for code in codes]).sum(axis=0) == 1).all()
    assert all(code[0] == code[1] for code in codes)


def test_a_patient_whom_the_labels_put_into_two_folds_is_refused():
    data = snapshot([*people(90), "P0"], fold=[*(number % 3 for number in range(90)), 1])
    data.with_own_patients = lambda: snapshot([*people(90), "P0"], fold=data.fold)
    with pytest.raises(UserError, match="such as P0"):
        split_of(data, test_fold=0, from_train="validation")


def test_shares_of_the_training_patients_are_nested_and_no_other_split_changes():
    held = snapshot(people(2000, images=2))
    held.classes = ("a",)
    code = split_of(held)
    shares = {share: thinned(held, code, share) for share in (0.25, 0.5, 0.75, 1.0)}
    assert (shares[1.0] == code).all()
    for smaller, larger in ((0.25, 0.5), (0.5, 0.75), (0.75, 1.0)):
        assert ((shares[smaller] == TRAIN) <= (shares[larger] == TRAIN)).all()
        part = (shares[smaller] == TRAIN).sum() / (code == TRAIN).sum()
        assert part == pytest.approx(smaller, abs=0.03)
        others = code != TRAIN
        assert (shares[smaller][others] == code[others]).all()
        assert set(shares[smaller][code == TRAIN].tolist()) == {TRAIN, UNUSED}
        of_patient = (shares[smaller] == TRAIN).reshape(-1, 2)
        assert (of_patient[:, 0] == of_patient[:, 1]).all(), "a patient's images stay together"


def test_a_patient_stays_in_a_share_whatever_arrives_and_with_whom_it_turns_out_to_be_one():
    held = snapshot(people(400))
    held.classes = ("a",)
    part = thinned(held, split_of(held), 0.5) == TRAIN
    more = snapshot([*people(400), *[f"Q{number}" for number in range(100)]])
    more.classes = ("a",)
    assert ((thinned(more, split_of(more), 0.5) == TRAIN)[:400] == part).all()
    code = split_of(held)
    inside, outside = np.flatnonzero(part)[0], np.flatnonzero((code == TRAIN) & ~part)[0]
    joined = snapshot(people(400))
    joined.patient[outside] = joined.patient[inside]
    joined.classes, joined.with_own_patients = ("a",), lambda: held
    found = thinned(joined, code, 0.5) == TRAIN
    assert found[inside] and found[outside]
    assert found.sum() == part.sum() + 1


def test_a_share_that_leaves_nothing_of_a_class_is_refused():
    held = snapshot(people(100), label=[0] * 99 + [1])
    held.classes = ("common", "rare")
    code = np.full(100, TRAIN, np.int8)
    with pytest.raises(UserError, match=r"--train-share 0\.001 leaves nothing of class 'rare' to train on"):
        thinned(held, code, 0.001)
