"""Which images train, validate and test: a pure function of the patient, or of what the data prescribe."""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from mri_hpc.base.errors import UserError
from mri_hpc.chunks.columns import SPLITS
from mri_hpc.chunks.snapshots import Snapshot

TRAIN, VALIDATION, TEST = (SPLITS.index(name) for name in ("train", "validation", "test"))
UNUSED = -1
BLOCK = 2**20

VALIDATION_SHARE = 0.15
TEST_SHARE = 0.15
FEW_PATIENTS = 10
"""Of a class, below which intervals say little. Simulated 2026-11-28: 3 classes of 4 to 9 patients, 6 slices
each, 72 % or 94 % of patients right in truth. Of 100 intervals at 95 % so many held it: by patient (600 data
sets each) 83 to 96 for balanced accuracy, 92 to 98 for accuracy, 90 to 100 for figures of a class; by slice
(300 each) 77 to 100. With 20 patients: 90 to 93 for balanced accuracy by patient."""


@dataclass(frozen=True, kw_only=True)
class Split:
    """The rows of a snapshot, by what they are for, each in the order of their keys."""

    train: np.ndarray
    """int64, (n_train,)."""
    validation: np.ndarray
    """int64, (n_validation,)."""
    test: np.ndarray
    """int64, (n_test,)."""


def rows_of(code: np.ndarray) -> Split:
    """Rows of each split. code: int8, (n,), from split_of."""
    train, validation, test = (np.flatnonzero(code == c) for c in (TRAIN, VALIDATION, TEST))
    return Split(train=train, validation=validation, test=test)


def split_of(snapshot: Snapshot, val_fold: int | None = None, test_fold: int | None = None) -> np.ndarray:
    """The split of every image: int8, (n,), TRAIN, VALIDATION, TEST or UNUSED.

    By fold where folds are asked for. Else each patient by itself, so that none changes split as data of
    others arrive: by the split that the data name for it, or by its hash where they name none. Where nothing
    at all is named validation, as in data sets of a training and a test folder, a hash takes that split from
    the patients named train. Images of unknown class, and those without a fold where one is asked for, are
    unused.

    Raises UserError where a patient would be in two splits, or a split would be empty.
    """
    if val_fold is not None and test_fold is not None:
        code, how = _by_fold(snapshot, val_fold, test_fold), f"folds {val_fold} and {test_fold}"
    else:
        is_named = bool((np.asarray(snapshot.split) >= 0).any())
        how = "the splits that the data name" if is_named else "a hash of the patients"
        code = _by_name_or_hash(snapshot)
    code[np.asarray(snapshot.label) < 0] = UNUSED
    _refuse_patients_in_two(snapshot, code, how)
    _refuse_empty(snapshot, code, how)
    return code


def split_lines(snapshot: Snapshot, code: np.ndarray) -> list[str]:
    """For people: the patients (images, where some name none) of each split, and classes that lack any."""
    patient, label = np.asarray(snapshot.patient), np.asarray(snapshot.label)
    is_named = bool((patient[code != UNUSED] >= 0).all())
    unit, what = (patient, "patient") if is_named else (np.arange(len(snapshot)), "image")
    counts = [f"{name} {len(np.unique(unit[code == c]))}" for c, name in enumerate(SPLITS)]
    lines = [f"{what}s: {', '.join(counts)}", *_unused(snapshot, code)]
    if ((np.asarray(snapshot.split) == TRAIN) & (code == VALIDATION)).any():
        lines.append("validation is taken by hash from what the data name train, as they name no validation")
    for c in (VALIDATION, TEST):
        for number, name in enumerate(snapshot.classes):
            if not ((code == c) & (label == number)).any():
                lines.append(
                    f"warning: no {what} of {name!r} in {SPLITS[c]}: its sensitivity cannot be told; "
                    f"add {what}s, or name the splits (CSV column split or fold)"
                )
    if is_named:
        lines += _few_patients(snapshot, code)
    return lines


def _unused(snapshot: Snapshot, code: np.ndarray) -> list[str]:
    """A line about images that are in no split, where there are any."""
    num_unlabelled = int((np.asarray(snapshot.label) < 0).sum())
    num_without_fold = int((code == UNUSED).sum()) - num_unlabelled
    reasons = [(num_unlabelled, "of unknown class"), (num_without_fold, "without a fold")]
    told = ", ".join(f"{count} {why}" for count, why in reasons if count)
    return [f"{num_unlabelled + num_without_fold} images are in no split: {told}"] if told else []


def _few_patients(snapshot: Snapshot, code: np.ndarray) -> list[str]:
    """A warning where classes have so few test patients that their figures will say little."""
    patient, label = np.asarray(snapshot.patient), np.asarray(snapshot.label)
    counts = [len(np.unique(patient[(code == TEST) & (label == c)])) for c in range(len(snapshot.classes))]
    said = few_units(dict(zip(snapshot.classes, counts, strict=True)), "test patients")
    return [f"warning: {said}"] if said else []


def few_units(counts: Mapping[str, int], units: str) -> str:
    """What is said where a class has few, though not none; empty where none has. counts: by class."""
    few = [f"{name} {count}" for name, count in counts.items() if 0 < count < FEW_PATIENTS]
    if not few:
        return ""
    return (
        f"fewer than {FEW_PATIENTS} {units} of some classes ({', '.join(few)}): intervals are wide, and hold "
        "the truth less often than they say"
    )


def _by_fold(snapshot: Snapshot, val_fold: int, test_fold: int) -> np.ndarray:
    fold = np.asarray(snapshot.fold)
    present = sorted(set(fold[fold >= 0].tolist()))
    for option, wanted in (("--val-fold", val_fold), ("--test-fold", test_fold)):
        if wanted not in present:
            found = (
                f"the data name folds {', '.join(map(str, present))}" if present else "the data name no fold"
            )
            raise UserError(f"{option} {wanted} holds no image: {found}")
    code = np.where(fold >= 0, TRAIN, UNUSED).astype(np.int8)
    code[fold == val_fold] = VALIDATION
    code[fold == test_fold] = TEST
    return code


def _by_name_or_hash(snapshot: Snapshot) -> np.ndarray:
    """Each patient, and each image that names none, by itself."""
    code = np.array(snapshot.split, dtype=np.int8)
    names_validation = bool((code == VALIDATION).any())
    of_patient = _named_of_patients(snapshot, code)
    places = np.array([_place(name) for name in snapshot.patient_names.tolist()], dtype=np.float64)
    # A code of -1 means the last, which is put right below.
    hash_of_patient = np.append(_spread(places), np.int8(TRAIN))
    for rows in _blocks(len(snapshot)):
        patient = np.asarray(snapshot.patient[rows])
        by_hash = hash_of_patient[patient]
        # A key is a hash already.
        keys = np.asarray(snapshot.key[rows])[patient < 0]
        by_hash[patient < 0] = _spread((keys >> np.uint64(11)).astype(np.float64) * 2.0**-53)
        named = np.where(code[rows] == UNUSED, of_patient[patient], code[rows])
        if not names_validation:
            named[(named == TRAIN) & (by_hash == VALIDATION)] = VALIDATION
        code[rows] = np.where(named == UNUSED, by_hash, named)
    return code


def _named_of_patients(snapshot: Snapshot, code: np.ndarray) -> np.ndarray:
    """The split that some image of each patient names, UNUSED where none does; one more, of nobody: int8."""
    of_patient = np.full(len(snapshot.patient_names) + 1, UNUSED, np.int8)
    for rows in _blocks(len(snapshot)):
        patient = np.asarray(snapshot.patient[rows])
        is_named = (code[rows] != UNUSED) & (patient >= 0)
        of_patient[patient[is_named]] = code[rows][is_named]
    return of_patient


def _spread(places: np.ndarray) -> np.ndarray:
    """Splits of numbers in [0, 1): int8, (n,)."""
    codes = np.full(len(places), TRAIN, np.int8)
    codes[places < TEST_SHARE + VALIDATION_SHARE] = VALIDATION
    codes[places < TEST_SHARE] = TEST
    return codes


def _place(name: bytes) -> float:
    return int.from_bytes(hashlib.sha256(b"patient:" + name).digest()[:6], "big") / 2**48


def _blocks(rows: int) -> Iterator[slice]:
    """Rows in parts: columns of ten million rows would be converted as a whole otherwise."""
    for start in range(0, rows, BLOCK):
        yield slice(start, min(start + BLOCK, rows))


def _refuse_patients_in_two(snapshot: Snapshot, code: np.ndarray, how: str) -> None:
    is_in = np.zeros((len(SPLITS), len(snapshot.patient_names)), bool)
    for rows in _blocks(len(snapshot)):
        patient, codes = np.asarray(snapshot.patient[rows]), code[rows]
        used = (patient >= 0) & (codes >= 0)
        is_in[codes[used], patient[used]] = True
    torn = np.flatnonzero(is_in.sum(axis=0) > 1)
    if torn.size:
        first = torn[0]
        where = " and ".join(SPLITS[c] for c in np.flatnonzero(is_in[:, first]))
        raise UserError(
            f"by {how}, {torn.size} patients are in more than one split, such as "
            f"{snapshot.patient_names[first].decode()} in {where}: correct the labels and add them again"
        )


def _refuse_empty(snapshot: Snapshot, code: np.ndarray, how: str) -> None:
    counts = [int((code == c).sum()) for c in (TRAIN, VALIDATION, TEST)]
    for name, count in zip(SPLITS, counts, strict=True):
        if not count:
            rest = ", ".join(f"{n} {c}" for n, c in zip(SPLITS, counts, strict=True))
            raise UserError(
                f"by {how}, the {name} split of {len(snapshot)} images is empty ({rest}): "
                f"add images of more patients, or name the splits in the labels"
            )
