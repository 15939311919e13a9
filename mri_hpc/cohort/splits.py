"""Splits for training, validation and test: a pure function of the patient, and of what data prescribe."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from mri_hpc.base.errors import UserError
from mri_hpc.intake.labels.label import SPLITS
from mri_hpc.rundir.settings import TrainingSettings
from mri_hpc.storage.store import Snapshot

TRAIN, VALIDATION, TEST = (SPLITS.index(name) for name in ("train", "validation", "test"))
CALIBRATION = len(SPLITS)
"""Of validation patients who choose nothing. Data cannot name it."""
UNUSED = -1
BLOCK = 2**20

FromTrain = Literal["none", "validation", "test", "both"]
FROM_TRAIN: dict[FromTrain, tuple[int, ...]] = {
    "none": (),
    "validation": (VALIDATION,),
    "test": (TEST,),
    "both": (VALIDATION, TEST),
}

NAME_THEM = "add images of more patients, or name the splits in the labels"
TAKE_THEM = (
    f"{NAME_THEM}, or have them taken from those named for training: --from-train validation|test|both"
)

VALIDATION_FRACTION = 0.15
TEST_FRACTION = 0.15
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
    calibration: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    """Of validation patients who choose nothing: int64, (n_calibration,)."""


def rows_of(code: np.ndarray) -> Split:
    """Return the rows of each split. code: int8, (n,), from split_of."""
    train, validation, test, calibration = (
        np.flatnonzero(code == c) for c in (TRAIN, VALIDATION, TEST, CALIBRATION)
    )
    return Split(train=train, validation=validation, test=test, calibration=calibration)


def set_apart(snapshot: Snapshot, code: np.ndarray, share: float) -> np.ndarray:
    """Return codes in which validation patients who are to choose nothing are CALIBRATION: int8, (n,).

    A hash of the patient alone decides, so that no one moves when others arrive. Of patients who turned out
    to be one, all go where one of them was by itself. Images without a patient stay. Where all or none would
    go, none does: some have to choose the epoch. code: int8, (n,), from split_of.
    """
    if not share:
        return code
    before = snapshot.with_own_patients()
    own, patient, names = np.asarray(before.patient), np.asarray(snapshot.patient), before.patient_names
    rows = np.flatnonzero((code == VALIDATION) & (own >= 0))
    is_apart = {
        number: _position(names[number], b"calibration:") < share for number in set(own[rows].tolist())
    }
    apart = rows[[is_apart[number] for number in own[rows].tolist()]] if len(rows) else rows
    is_in = (code == VALIDATION) & np.isin(patient, np.unique(patient[apart]))
    if not is_in.any() or is_in.sum() == (code == VALIDATION).sum():
        return code
    return np.where(is_in, np.int8(CALIBRATION), code)


def apart_line(snapshot: Snapshot, code: np.ndarray, share: float) -> list[str]:
    """Return a line on validation patients who choose nothing. code: from split_of."""
    patient, apart = np.asarray(snapshot.patient), set_apart(snapshot, code, share)
    num, rest = (len(np.unique(patient[(apart == c) & (patient >= 0)])) for c in (CALIBRATION, VALIDATION))
    if num:
        return [
            f"of {num + rest} validation patients {num} choose no epoch: they calibrate, and give thresholds"
        ]
    return [
        f"all {rest} validation patients choose the epoch: too few to set --calibration-share {share} apart"
    ]


def split_of(
    snapshot: Snapshot,
    val_fold: int | None = None,
    test_fold: int | None = None,
    from_train: FromTrain = "none",
    hash_folds: int = 0,
) -> np.ndarray:
    """Return the split of every image: int8, (n,), TRAIN, VALIDATION, TEST or UNUSED.

    Each patient's is decided by the patient's own rows and the arguments alone, so that no patient moves when
    rows of others arrive, whatever these name:

    - By fold where folds are asked for; images without one are unused. Without a fold for validation,
      `from_train` "validation" has the hash take it from the patients of the other folds.
      Of patients who turned out to be one, all images are of the least fold of theirs: tested once.
    - By one of `hash_folds` folds into which a hash deals the patients, where that is not 0.
    - Else by the split that the data name for some image of the patient; where they name none, by a hash of
      the patient. Images without a patient are taken each by itself, and hashed by their key.
    - Of patients who turned out to be one, all images go where one of them was by itself: to test before
      validation, and to validation before training.
    - from_train: the splits for which the hash is asked of those named for training, too. It is an argument,
      since that the data name no patient for validation, say, can change with any row that arrives.

    Images of unknown class are unused. Raises UserError where a patient would be in two splits, or a split
    would be empty.
    """
    if (val_fold is None) != (test_fold is None) and (test_fold is None or from_train != "validation"):
        raise UserError("--val-fold and --test-fold go together: give both or neither")
    given, snapshot = snapshot, snapshot.with_own_patients()
    if val_fold is not None and test_fold is not None:
        code, how = _by_fold(snapshot, val_fold, test_fold), f"folds {val_fold} and {test_fold}"
        advice = NAME_THEM
    elif test_fold is not None:
        fold = _hashed_folds(given, hash_folds) if hash_folds else _folds_of_persons(snapshot, given)
        code, how, advice = _by_test_fold(snapshot, fold, test_fold), f"fold {test_fold}", NAME_THEM
    else:
        is_any_named = bool((np.asarray(snapshot.split) >= 0).any())
        how = "the splits that the data name" if is_any_named else "a hash of the patients"
        code = _by_name_or_hash(snapshot, FROM_TRAIN[from_train])
        advice = TAKE_THEM if is_any_named and from_train == "none" else NAME_THEM
    code[np.asarray(snapshot.label) < 0] = UNUSED
    _refuse_patients_in_two(snapshot, code, how)
    if given is not snapshot:
        _keep_persons_together(np.asarray(given.patient), code)
    _refuse_empty(code, how, advice)
    return code


def split_by(snapshot: Snapshot, settings: TrainingSettings) -> np.ndarray:
    """Return the split of every image as a run's settings ask for it: as `split_of`, and `thinned`."""
    code = split_of(snapshot, settings.val_fold, settings.test_fold, settings.from_train, settings.hash_folds)
    return thinned(snapshot, code, settings.train_share)


def thinned(snapshot: Snapshot, code: np.ndarray, share: float) -> np.ndarray:
    """Return codes in which training patients beyond a share are UNUSED: int8, (n,).

    A hash of the patient alone decides, so that whoever is in a share is in each larger one. Of patients who
    turned out to be one, all are in where one of them would be; an image without a patient is taken by its
    key. UserError where a class would have none left. code: int8, (n,), from split_of.
    """
    if share == 1:
        return code
    patient, label = np.asarray(snapshot.patient), np.asarray(snapshot.label)
    is_in = _of_units(snapshot.with_own_patients(), _position_in_training) < share
    is_in |= (patient >= 0) & np.isin(patient, np.unique(patient[is_in & (code == TRAIN)]))
    found = np.where((code == TRAIN) & ~is_in, UNUSED, code).astype(np.int8)
    for number, name in enumerate(snapshot.classes):
        was, left = (bool(((codes == TRAIN) & (label == number)).any()) for codes in (code, found))
        if was and not left:
            raise UserError(
                f"--train-share {share:g} leaves nothing of class {name!r} to train on: take a larger share, "
                "or add images of more of its patients"
            )
    return found


def _position_in_training(name: bytes) -> float:
    return _position(name, b"train:")


def folds_named(snapshot: Snapshot) -> tuple[int, ...]:
    """List the folds that the data name, in order."""
    fold = np.asarray(snapshot.fold)
    return tuple(np.unique(fold[fold >= 0]).tolist())


def splits_named(snapshot: Snapshot) -> bool:
    """Tell whether the data name a split for any image."""
    return bool((np.asarray(snapshot.split) >= 0).any())


def split_lines(snapshot: Snapshot, code: np.ndarray, train_share: float = 1.0) -> list[str]:
    """List for people the patients (or images) of each split and of none, and the classes it lacks."""
    patient, label = np.asarray(snapshot.patient), np.asarray(snapshot.label)
    is_named = bool((patient[code != UNUSED] >= 0).all())
    unit, what = (patient, "patient") if is_named else (np.arange(len(snapshot)), "image")
    counts = [f"{name} {len(np.unique(unit[code == c]))}" for c, name in enumerate(SPLITS)]
    lines = [f"{what}s: {', '.join(counts)}", *_unused(snapshot, code, train_share)]
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


def _unused(snapshot: Snapshot, code: np.ndarray, train_share: float) -> list[str]:
    """Return a line on the images that are in no split, and why; none where there are none."""
    patient, is_unused = np.asarray(snapshot.patient), code == UNUSED
    if not is_unused.any():
        return []
    # Patients of whom nothing is used.
    patients = np.setdiff1d(patient[is_unused], np.append(patient[~is_unused], -1))
    is_unknown = is_unused & (np.asarray(snapshot.label) < 0)
    others = "without a fold" if train_share == 1 else f"beyond --train-share {train_share:g}, or of no fold"
    reasons = {"of unknown class": is_unknown, others: is_unused & ~is_unknown}
    why = ", ".join(f"{rows.sum()} {reason}" for reason, rows in reasons.items() if rows.any())
    return [f"{is_unused.sum()} images, {len(patients)} patients are in no split: {why}"]


def _few_patients(snapshot: Snapshot, code: np.ndarray) -> list[str]:
    """Return a warning where classes have so few test patients that their figures will say little."""
    patient, label = np.asarray(snapshot.patient), np.asarray(snapshot.label)
    counts = [len(np.unique(patient[(code == TEST) & (label == c)])) for c in range(len(snapshot.classes))]
    warning = few_units(dict(zip(snapshot.classes, counts, strict=True)), "test patients")
    return [f"warning: {warning}"] if warning else []


def few_units(counts: Mapping[str, int], units: str) -> str:
    """Warn where a class has few, though not none; empty where none has. counts: by class."""
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


def _by_test_fold(snapshot: Snapshot, fold: np.ndarray, test_fold: int) -> np.ndarray:
    """Test on one fold, and take from the others the patients whom the hash gives to validation."""
    present = np.unique(fold[fold >= 0]).tolist()
    if test_fold not in present:
        found = f"there are folds {', '.join(map(str, present))}" if present else "the data name no fold"
        raise UserError(f"--test-fold {test_fold} holds no image: {found}")
    code = np.where(fold >= 0, TRAIN, UNUSED).astype(np.int8)
    code[(code == TRAIN) & (_spread(_of_units(snapshot, _position)) == VALIDATION)] = VALIDATION
    code[fold == test_fold] = TEST
    return code


def _folds_of_persons(snapshot: Snapshot, given: Snapshot) -> np.ndarray:
    """Return the fold of every image, one for all patients who turned out to be one: int64, (n,).

    Patients whom the labels put into several folds stay there, to be refused.
    """
    fold = np.asarray(snapshot.fold, np.int64)
    if given is snapshot or not fold.size:
        return fold
    own, person = np.asarray(snapshot.patient), np.asarray(given.patient)
    is_named = (fold >= 0) & (own >= 0)
    least, most = np.full(own.max() + 1, fold.max()), np.full(own.max() + 1, -1)
    np.minimum.at(least, own[is_named], fold[is_named])
    np.maximum.at(most, own[is_named], fold[is_named])
    of_person = np.full(person.max() + 1, fold.max())
    np.minimum.at(of_person, person[is_named], fold[is_named])
    is_whole = is_named & (least[own] == most[own])
    return np.where(is_whole, of_person[person], fold)


def _hashed_folds(snapshot: Snapshot, num: int) -> np.ndarray:
    """Deal the patients into folds, from 1, by a hash of its own: int64, (n,)."""
    return 1 + (num * _of_units(snapshot, _position_of_fold)).astype(np.int64)


def _of_units(snapshot: Snapshot, position: Callable[[bytes], float]) -> np.ndarray:
    """Return a number in [0, 1) for every image: its patient's, or its own without one. float64, (n,)."""
    patient = np.asarray(snapshot.patient)
    by_name = np.append([position(name) for name in snapshot.patient_names.tolist()], 0.0)
    found = by_name[patient]
    keys = np.asarray(snapshot.key)[patient < 0].tolist()
    found[patient < 0] = [position(f"{key:016x}".encode()) for key in keys]
    return found


def _position_of_fold(name: bytes) -> float:
    return _position(b"fold:" + name)


def _by_name_or_hash(snapshot: Snapshot, from_train: tuple[int, ...]) -> np.ndarray:
    """Return the split that the data name for each patient, else the hash's. from_train: as in `split_of`."""
    named, hashed = _named_splits(snapshot), _hashed_splits(snapshot)
    code = np.empty(len(snapshot), np.int8)
    for rows in _blocks(len(snapshot)):
        patient, own = np.asarray(snapshot.patient[rows]), np.asarray(snapshot.split[rows])
        is_unnamed = patient < 0
        by_hash = hashed[patient]
        # A key is a hash already.
        keys = np.asarray(snapshot.key[rows])[is_unnamed]
        by_hash[is_unnamed] = _spread((keys >> np.uint64(11)).astype(np.float64) * 2.0**-53)
        # What an image names itself stands, so that patients in two splits are found.
        by_name = np.where(own >= 0, own, named[patient])
        is_hashed = (by_name < 0) | ((by_name == TRAIN) & np.isin(by_hash, from_train))
        code[rows] = np.where(is_hashed, by_hash, by_name)
    return code


def _named_splits(snapshot: Snapshot) -> np.ndarray:
    """Return the split that data name for each patient: int8, (patients + 1,), the last for no patient."""
    splits = np.full(len(snapshot.patient_names) + 1, UNUSED, np.int8)
    for rows in _blocks(len(snapshot)):
        patient, own = np.asarray(snapshot.patient[rows]), np.asarray(snapshot.split[rows])
        says = (patient >= 0) & (own >= 0)
        splits[patient[says]] = own[says]
    return splits


def _hashed_splits(snapshot: Snapshot) -> np.ndarray:
    """Return the split that the hash gives each patient: int8, (patients + 1,), the last for no patient."""
    positions = np.array([_position(name) for name in snapshot.patient_names.tolist()], dtype=np.float64)
    return np.append(_spread(positions), np.int8(UNUSED))


def _spread(positions: np.ndarray) -> np.ndarray:
    """Return the splits of numbers in [0, 1): int8, (n,)."""
    codes = np.full(len(positions), TRAIN, np.int8)
    codes[positions < TEST_FRACTION + VALIDATION_FRACTION] = VALIDATION
    codes[positions < TEST_FRACTION] = TEST
    return codes


def _position(name: bytes, purpose: bytes = b"patient:") -> float:
    return int.from_bytes(hashlib.sha256(purpose + name).digest()[:6], "big") / 2**48


def _keep_persons_together(patient: np.ndarray, code: np.ndarray) -> None:
    """Put all used images of each patient where the strictest of them are. patient: code of each image's."""
    assert TRAIN < VALIDATION < TEST
    used = (patient >= 0) & (code != UNUSED)
    strictest = np.full(patient.max(initial=-1) + 1, UNUSED, np.int8)
    np.maximum.at(strictest, patient[used], code[used])
    code[used] = strictest[patient[used]]


def _blocks(rows: int) -> Iterator[slice]:
    """Yield rows in parts: columns of ten million rows would be converted as a whole otherwise."""
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


def _refuse_empty(code: np.ndarray, how: str, advice: str) -> None:
    counts = [int((code == c).sum()) for c in (TRAIN, VALIDATION, TEST)]
    for name, count in zip(SPLITS, counts, strict=True):
        if not count:
            rest = ", ".join(f"{n} {c}" for n, c in zip(SPLITS, counts, strict=True))
            raise UserError(f"by {how}, the {name} split of {len(code)} images is empty ({rest}): {advice}")
