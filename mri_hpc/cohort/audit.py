"""Audit: what in a snapshot would make results better than they are, and what is doubtful.

A leak is an image, or a patient, on both sides of a split; training would learn what it is tested on.
"""

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from mri_hpc.cohort.splits import FEW_PATIENTS
from mri_hpc.intake.labels import SPLITS
from mri_hpc.storage.store import Reader, Snapshot

EXAMPLES = 3
PART_BYTES = 16 * 2**20
"""Pixels in memory at a time."""
HASH_SIDE = 16


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One kind of leak or doubt."""

    kind: str
    """A word or two, for scripts."""
    is_leak: bool
    count: int
    """Of patients, of groups of images, or of images, as the text says."""
    text: str
    """One line for people."""


def audit(
    snapshot: Snapshot,
    reader: Reader,
    *,
    near: bool = False,
    progress: Callable[[range], Iterable[int]] = lambda rows: rows,
) -> list[Finding]:
    """Find leaks first, then doubts. near: also compare what images look like, which reads all of them."""
    same_pixels = _same_pixels(snapshot, reader)
    found = [
        _patients_in_two(snapshot, "split"),
        _patients_in_two(snapshot, "fold"),
        _shared(snapshot, _groups(np.asarray(snapshot.source_hash)), "same file"),
        _shared(snapshot, same_pixels, "same pixels"),
        _in_two_classes(snapshot, same_pixels),
        _repeated(snapshot, same_pixels),
        _patients_of_two_classes(snapshot),
        *_small_classes(snapshot),
        _without(
            snapshot, "patient", "results will be by slice, and slices of one person may be on both sides"
        ),
        _without(snapshot, "label", "they are used for nothing"),
    ]
    if near:
        found.append(_look_alike(snapshot, _groups(_looks(snapshot, reader, progress)), same_pixels))
    return sorted((one for one in found if one.count), key=lambda one: not one.is_leak)


def _patients_in_two(snapshot: Snapshot, what: str) -> Finding:
    """Find patients to whom the data give two splits, or two folds; images that have none are in neither."""
    # Of patients who turned out to be one, split_of takes all images to one side.
    snapshot = snapshot.with_own_patients()
    patient, value = np.asarray(snapshot.patient), np.asarray(getattr(snapshot, what)).astype(np.int64)
    known = (patient >= 0) & (value >= 0)
    pairs = np.unique(np.stack([patient[known], value[known]]), axis=1)
    torn = np.unique(pairs[0][1:][pairs[0][1:] == pairs[0][:-1]])
    examples = (
        f"{_patient(snapshot, one)} in {' and '.join(_shown(v, what) for v in pairs[1][pairs[0] == one])}"
        for one in torn[:EXAMPLES].tolist()
    )
    return Finding(
        kind=f"patient in two {what}s",
        is_leak=True,
        count=len(torn),
        text=f"{len(torn)} patients are in more than one {what}: {', '.join(examples)}",
    )


def _shown(value: int, what: str) -> str:
    return SPLITS[value] if what == "split" else f"fold {value}"


def _groups(values: np.ndarray) -> list[np.ndarray]:
    """Group rows of equal values, where there are several."""
    order = np.argsort(values, kind="stable")
    edges = np.flatnonzero(np.diff(values[order].view(np.int64)) != 0) + 1
    starts, ends = np.append(0, edges), np.append(edges, len(order))
    several = np.flatnonzero(ends - starts > 1)
    return [order[starts[i] : ends[i]] for i in several.tolist()]


def _same_pixels(snapshot: Snapshot, reader: Reader) -> list[np.ndarray]:
    """Group rows of the same pixels, but for those that show nothing; a CRC alone can agree by chance."""
    found = []
    for rows in _groups(np.asarray(snapshot.crc).astype(np.uint64)):
        images = _read(snapshot, reader, rows)
        by_pixels: dict[bytes, list[int]] = {}
        for row, image in zip(rows.tolist(), images, strict=True):
            if image.min() != image.max():
                by_pixels.setdefault(image.tobytes(), []).append(row)
        found += [np.array(equal) for equal in by_pixels.values() if len(equal) > 1]
    return found


def _read(snapshot: Snapshot, reader: Reader, rows: np.ndarray) -> Iterator[np.ndarray]:
    at_once = _at_once(snapshot)
    for start in range(0, len(rows), at_once):
        yield from reader.read(rows[start : start + at_once])


def _at_once(snapshot: Snapshot) -> int:
    """Return the number of images that are in memory at a time."""
    return max(1, PART_BYTES // math.prod(snapshot.image_shape))


def _shared(snapshot: Snapshot, groups: list[np.ndarray], what: str) -> Finding:
    """Find groups of images that are the same but of several patients, or in several splits or folds."""
    torn = [rows for rows in groups if _is_torn(snapshot, rows)]
    return Finding(
        kind=f"{what}, other patient or split",
        is_leak=True,
        count=len(torn),
        text=f"{len(torn)} times the {what} is there under several patients, splits or folds: "
        f"{_examples(snapshot, torn)}",
    )


def _is_torn(snapshot: Snapshot, rows: np.ndarray) -> bool:
    """Tell whether rows may come on two sides of a split."""
    values = (getattr(snapshot, name)[rows] for name in ("patient", "split", "fold"))
    is_unnamed = bool((snapshot.patient[rows] < 0).any())
    return is_unnamed or any(len(np.unique(value[value >= 0])) > 1 for value in values)


def _in_two_classes(snapshot: Snapshot, groups: list[np.ndarray]) -> Finding:
    torn = [rows for rows in groups if len(np.unique(snapshot.label[rows])) > 1]
    return Finding(
        kind="same pixels, other class",
        is_leak=False,
        count=len(torn),
        text=f"{len(torn)} times the same pixels are there under several classes: "
        f"{_examples(snapshot, torn)}",
    )


def _repeated(snapshot: Snapshot, groups: list[np.ndarray]) -> Finding:
    again = [rows for rows in groups if not _is_torn(snapshot, rows)]
    extra = sum(len(rows) - 1 for rows in again)
    return Finding(
        kind="repeated image",
        is_leak=False,
        count=extra,
        text=f"{extra} images repeat others of the same patient: {_examples(snapshot, again)}",
    )


def _patients_of_two_classes(snapshot: Snapshot) -> Finding:
    patient, label = np.asarray(snapshot.patient), np.asarray(snapshot.label)
    known = (patient >= 0) & (label >= 0)
    pairs = np.unique(np.stack([patient[known], label[known].astype(patient.dtype)]), axis=1)
    several = np.unique(pairs[0][1:][pairs[0][1:] == pairs[0][:-1]])
    names = ", ".join(_patient(snapshot, one) for one in several[:EXAMPLES].tolist())
    return Finding(
        kind="patient of two classes",
        is_leak=False,
        count=len(several),
        text=f"{len(several)} patients have images of several classes: {names}",
    )


def _small_classes(snapshot: Snapshot) -> Iterator[Finding]:
    patient, label = np.asarray(snapshot.patient), np.asarray(snapshot.label)
    for code, name in enumerate(snapshot.classes):
        count = len(np.unique(patient[(label == code) & (patient >= 0)]))
        if 0 < count < FEW_PATIENTS:
            yield Finding(
                kind="class of few patients",
                is_leak=False,
                count=count,
                text=f"class {name!r} has {count} patients: too few to tell how well it is recognised",
            )


def _without(snapshot: Snapshot, what: str, so: str) -> Finding:
    count = int((np.asarray(getattr(snapshot, what)) < 0).sum())
    return Finding(kind=f"no {what}", is_leak=False, count=count, text=f"{count} images name no {what}: {so}")


def _looks(snapshot: Snapshot, reader: Reader, progress: Callable[[range], Iterable[int]]) -> np.ndarray:
    """Hash the look of each image: uint64, (n,); a value of its own where it shows nothing."""
    looks = np.empty(len(snapshot), np.uint64)
    at_once = _at_once(snapshot)
    for start in progress(range(0, len(snapshot), at_once)):
        rows = np.arange(start, min(start + at_once, len(snapshot)))
        for row, image in zip(rows.tolist(), reader.read(rows), strict=True):
            bits = is_brighter_than_left(image)
            looks[row] = _number(bits) if bits.any() else snapshot.key[row]
    return looks


def _number(bits: np.ndarray) -> int:
    return int.from_bytes(hashlib.sha256(np.packbits(bits).tobytes()).digest()[:8], "big")


def is_brighter_than_left(image: np.ndarray) -> np.ndarray:
    """Compute the difference hash: bool, (16, 16), of an image, uint8, (H, W), made 16 high and 17 wide."""
    rows = np.linspace(0, image.shape[0], HASH_SIDE, endpoint=False).astype(int)
    columns = np.linspace(0, image.shape[1], HASH_SIDE + 1, endpoint=False).astype(int)
    small = np.add.reduceat(np.add.reduceat(image.astype(np.int64), rows, axis=0), columns, axis=1)
    widths = np.diff(np.append(columns, image.shape[1]))
    # Sums, over columns that are not all of the same width.
    return np.asarray(small[:, 1:] * widths[:-1] > small[:, :-1] * widths[1:])


def _look_alike(snapshot: Snapshot, groups: list[np.ndarray], same: list[np.ndarray]) -> Finding:
    known = {row for rows in same for row in rows.tolist()}
    torn = [rows for rows in groups if _is_torn(snapshot, rows) and not known.issuperset(rows.tolist())]
    return Finding(
        kind="look alike, other patient or split",
        is_leak=False,
        count=len(torn),
        text=f"{len(torn)} times images of several patients, splits or folds look the same: "
        f"{_examples(snapshot, torn)}",
    )


def _examples(snapshot: Snapshot, groups: list[np.ndarray]) -> str:
    return ", ".join(
        " = ".join(_image(snapshot, row) for row in rows[:2].tolist()) for rows in groups[:EXAMPLES]
    )


def _image(snapshot: Snapshot, row: int) -> str:
    return f"{int(snapshot.key[row]):016x} of {snapshot.text('patient', row) or 'nobody'}"


def _patient(snapshot: Snapshot, code: int) -> str:
    return str(snapshot.patient_names[code].decode())
