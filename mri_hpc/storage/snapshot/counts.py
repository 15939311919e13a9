"""Counts: how many images, patients and so on a snapshot has, counted of its columns or of what has changed.

An append changes few images of many. So what is said of all is what a published snapshot keeps, less what the
rows were that are touched, plus what they are now. A row is touched where its image has changed, and where
it is counted together with such a one: by their patient, or by the bytes of their sources.
"""

from collections import Counter
from collections.abc import Callable

import numpy as np

from mri_hpc.intake.labels.several_values import of_several
from mri_hpc.storage.disk.columns import ascending, rows_among
from mri_hpc.storage.snapshot.change import Both, Change, Rows
from mri_hpc.storage.snapshot.folding import positions
from mri_hpc.storage.snapshot.table import Snapshot, with_slices
from mri_hpc.storage.snapshot.totals import Added, Counts, Several, Totals


def count(snapshot: Snapshot, added: Added) -> Totals:
    """Count the totals of a snapshot. added: what its commits added."""
    # Slow to import, and not needed where totals are kept.
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as beside:
        # Summing columns up leaves the interpreter to others.
        content_digest = beside.submit(lambda: snapshot.content_digest)
        counts = count_images(snapshot)
        return _totals_of(snapshot, content_digest.result(), counts, snapshot.rejections, added)


def totals_after(totals: Totals, counts: Counts, change: Change, snapshot: Snapshot, added: Added) -> Totals:
    """Return the totals after a change. totals, counts: before it; snapshot: of now, for its digest alone."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as beside:
        content_digest = beside.submit(lambda: snapshot.content_digest)
        counts, reasons = counts_after(counts, change), reasons_after(totals.reasons, change)
        return _totals_of(change.now, content_digest.result(), counts, reasons, added)


def _totals_of(
    snapshot: Snapshot, content_digest: str, counts: Counts, reasons: dict[str, int], added: Added
) -> Totals:
    """Put totals together. snapshot: its commits and chunks; reasons, added: as in Totals."""
    return Totals(
        digest=snapshot.digest,
        content_digest=content_digest,
        images=counts.images,
        patients=counts.patients,
        images_without_patient=counts.images_without_patient,
        classes=counts.classes,
        images_without_label=counts.images_without_label,
        chunks=len(snapshot.chunks),
        bytes=int(snapshot.chunks["bytes"].sum()),
        shadowed=int(snapshot.chunks["images"].sum()) - counts.images,
        twins=counts.twins,
        several=counts.several,
        reasons=reasons,
        commits=len(snapshot.commits),
        added=added,
    )


def count_images(snapshot: Snapshot) -> Counts:
    """Count all rows of a snapshot."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as beside:
        # Sorting ten million hashes leaves the interpreter to others.
        of_bytes = beside.submit(_of_bytes, snapshot)
        without_label, *labels = snapshot.counts("label").tolist()
        patient = snapshot.column("patient")
        classes, splits = (len(of_several(patient, snapshot.column(name))) for name in ("label", "split"))
        twins, bytes_of_classes, bytes_of_patients = of_bytes.result()
    return Counts(
        images=len(snapshot),
        patients=len(snapshot.patient_names),
        images_without_patient=snapshot.num_without_patient,
        classes=dict(zip(snapshot.classes, labels, strict=True)),
        images_without_label=without_label,
        twins=twins,
        several=Several(
            patients_of_classes=classes,
            patients_of_splits=splits,
            bytes_of_classes=bytes_of_classes,
            bytes_of_patients=bytes_of_patients,
        ),
    )


def counts_after(counts: Counts, change: Change) -> Counts:
    """Return the counts after a change. counts: those before it."""
    changed = change.changed
    of_patients = change.of_patients(_values(changed, "patient"))
    of_bytes = change.of_bytes(_values(changed, "source_hash"))

    def with_change(before: int, both: Both, count: Callable[[Rows], int]) -> int:
        return before + count(both.after) - count(both.before)

    several = counts.several
    return Counts(
        images=with_change(counts.images, changed, len),
        patients=with_change(counts.patients, of_patients, _num_patients),
        images_without_patient=with_change(counts.images_without_patient, changed, _without("patient")),
        classes=_classes_after(counts.classes, change),
        images_without_label=with_change(counts.images_without_label, changed, _without("label")),
        twins=with_change(counts.twins, of_bytes, _num_twins),
        several=Several(
            patients_of_classes=with_change(several.patients_of_classes, of_patients, _patients_of("label")),
            patients_of_splits=with_change(several.patients_of_splits, of_patients, _patients_of("split")),
            bytes_of_classes=with_change(several.bytes_of_classes, of_bytes, _bytes_of("label")),
            bytes_of_patients=with_change(several.bytes_of_patients, of_bytes, _bytes_of("patient")),
        ),
    )


def reasons_after(reasons: dict[str, int], change: Change) -> dict[str, int]:
    """Return the reasons of rejections that stand after a change. reasons: those before it, and how many."""
    base, now = change.base, change.now
    rejected = base.rejected[positions(change.keys, base.rejected["key"])[0]]
    gone = np.bincount(rejected["reason"][base.stands(rejected)], minlength=len(base.reasons)).tolist()
    counted = Counter(reasons)
    counted.subtract(dict(zip(base.reasons, gone, strict=True)))
    counted.update(now.rejections)
    return {reason: counted[reason] for reason in sorted(counted) if counted[reason]}


def _values(both: Both, column: str) -> np.ndarray:
    """Return the values of a column in some rows, before and after: ascending, without that of none."""
    values = ascending(np.concatenate([getattr(rows, column) for rows in both]))
    return values[values >= 0]


def _without(column: str) -> Callable[[Rows], int]:
    return lambda rows: int(np.count_nonzero(getattr(rows, column) < 0))


def _num_patients(rows: Rows) -> int:
    patient = ascending(rows.patient)
    return int(np.count_nonzero(patient >= 0))


def _patients_of(column: str) -> Callable[[Rows], int]:
    return lambda rows: len(of_several(rows.patient, getattr(rows, column)))


def _bytes_of(column: str) -> Callable[[Rows], int]:
    return lambda rows: _num_of_several(rows.source_hash, _slices(rows), getattr(rows, column))


def _num_of_several(hashes: np.ndarray, slices: np.ndarray, values: np.ndarray) -> int:
    """Count the sources, by hash, of which one and the same slice has several values."""
    known = ascending(slices)
    groups = np.searchsorted(known, slices)
    return len(ascending(hashes[np.isin(groups, of_several(groups, values))]))


def _slices(rows: Rows) -> np.ndarray:
    return with_slices(rows.source_hash, rows.slice_index, rows.plane)


def _num_twins(rows: Rows) -> int:
    slices = _slices(rows)
    return len(slices) - len(ascending(slices))


def _classes_after(classes: dict[str, int], change: Change) -> dict[str, int]:
    """Count the images of each class that has any, sorted as a snapshot's."""
    names = change.names("label")
    before, after = (np.bincount(rows.label + 1, minlength=len(names) + 1)[1:] for rows in change.changed)
    counted = {
        name: classes.get(name.decode(), 0) + count
        for name, count in zip(names, (after - before).tolist(), strict=True)
    }
    return {name.decode(): counted[name] for name in sorted(counted) if counted[name]}


def _of_bytes(snapshot: Snapshot) -> tuple[int, int, int]:
    """Count twins, and sources of the same bytes that are stored under several classes, and patients."""
    ordered, done = np.empty(len(snapshot), "<u8"), 0
    for part in snapshot.parts("source_hash"):
        ordered[done : done + len(part)] = part
        done += len(part)
    # Not all are grouped, which takes many times as long where nearly all differ.
    ordered.sort()
    is_again = ordered[1:] == ordered[:-1]
    stored_again = ascending(ordered[1:][is_again])
    del ordered
    is_sliced = any((part >= 0).any() for part in snapshot.parts("slice_index"))
    twins = snapshot.num_twins if is_sliced else int(np.count_nonzero(is_again))
    rows = rows_among(snapshot.parts("source_hash"), stored_again)
    if not len(rows):
        return twins, 0, 0
    hashes, *where = (snapshot.column(name)[rows] for name in ("source_hash", "slice_index", "plane"))
    slices = with_slices(hashes, *where)
    several = [_num_of_several(hashes, slices, snapshot.column(name)[rows]) for name in ("label", "patient")]
    return twins, several[0], several[1]
