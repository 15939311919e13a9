"""A continued run beside the one that it goes on from: who was gained, and who was forgotten."""

import contextlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from mri_hpc.base.errors import UserError
from mri_hpc.results.runs.comparison import Comparison, compare_runs
from mri_hpc.results.runs.further_look import FurtherLook, look_at
from mri_hpc.results.statistics.differences import POINTS, of_paired_hits
from mri_hpc.results.statistics.figure_of_merit import Figure, figure_of_difference
from mri_hpc.results.statistics.subgroups import FEWEST, MOST_VALUES
from mri_hpc.rundir.continued import (
    MOST_NAMED,
    Changed,
    ChangedGroup,
    Continued,
    Difference,
    read_continued,
    write_continued,
)
from mri_hpc.rundir.kept import digest_of_predictions
from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.provenance import read_provenance
from mri_hpc.rundir.settings import load_training
from mri_hpc.storage.store import Store

SEVERAL = "several"
"""Value of a patient whose images differ in it."""


def keep_continued(run: RunDir, *, is_meant: bool) -> Continued | None:
    """Hold a run against the one that it goes on from, and keep that; None where it goes on from none.

    The other's answers about test patients are a look at them, too. is_meant: as of `look_at`.
    """
    path = load_training(run).continue_from
    if not path:
        return None
    kept = read_continued(run)
    if kept:
        return kept
    before = RunDir(Path(path))
    if not before.predictions.is_file():
        return Continued(before=before.path.name, reason="it is not where it was")
    try:
        comparison = compare_runs(run, before)
        look_at([before], is_meant=is_meant)
    except FurtherLook:
        return Continued(
            before=before.path.name,
            reason="its answers about these patients were not looked at yet: that is one look more, which "
            "--look-again allows",
        )
    except UserError as error:
        # With the names of folders below which runs lie, which a page must not tell.
        words = str(error).replace(f"{before.path.parent}/", "").replace(f"{run.path.parent}/", "")
        return Continued(before=before.path.name, reason=words)
    found = _held_against(run, before, comparison)
    # A run that may not be written to is reported all the same.
    with contextlib.suppress(OSError):
        write_continued(run, found)
    return found


def _held_against(run: RunDir, before: RunDir, comparison: Comparison) -> Continued:
    gained = [
        Changed(name=one.name, label=one.label, before=one.second, now=one.first)
        for one in comparison.changed
        if one.first == one.label
    ]
    forgotten = [
        Changed(name=one.name, label=one.label, before=one.second, now=one.first)
        for one in comparison.changed
        if one.second == one.label
    ]
    return Continued(
        before=before.path.name,
        predictions=digest_of_predictions(run),
        unit=comparison.headline.unit,
        num=comparison.headline.first.num,
        num_gained=len(gained),
        num_forgotten=len(forgotten),
        gained=tuple(gained[:MOST_NAMED]),
        forgotten=tuple(forgotten[:MOST_NAMED]),
        differences=tuple(
            _difference(metric.title, figure) for metric, figure in comparison.headline.differences.items()
        ),
        groups=tuple(_groups(comparison, _columns_of(run, comparison))),
        notes=comparison.notes,
    )


def _groups(comparison: Comparison, columns: Mapping[str, Mapping[str, str]]) -> Iterator[ChangedGroup]:
    """Judge each class, and each value of a column that has several. columns: by name, the value by key."""
    units = comparison.units
    labels = [units.first.classes[label] for label in units.first.label.tolist()]
    of_units = {"class": labels} | {
        name: [_value(value_of, keys) for keys in units.keys] for name, value_of in columns.items()
    }
    for column, values in of_units.items():
        counts = Counter(values)
        if len(counts) > 1:
            for value in sorted(value for value, _count in counts.most_common(MOST_VALUES)):
                yield _group(comparison, column, value, np.array([one == value for one in values]))


def _value(value_of: Mapping[str, str], keys: Sequence[str]) -> str:
    """Return the value of all images of a unit."""
    values = {value_of.get(key, "") for key in keys}
    return values.pop() if len(values) == 1 else SEVERAL


def _group(comparison: Comparison, column: str, value: str, is_in: np.ndarray) -> ChangedGroup:
    units = comparison.units
    now, before = (found[is_in] for found in units.is_right)
    cluster = units.first.cluster[is_in]
    limits = of_paired_hits(now, before, cluster)
    figure = figure_of_difference(limits, scale=POINTS)
    if len(np.unique(cluster)) < FEWEST:
        what = "patients" if comparison.headline.unit == "patient" else "images"
        figure = figure.without_interval(f"fewer than {FEWEST} {what}: no interval")
    return ChangedGroup(
        column=column,
        value=value,
        num=int(is_in.sum()),
        num_gained=int((now & ~before).sum()),
        num_forgotten=int((before & ~now).sum()),
        difference=_difference("answered rightly", figure),
    )


def _columns_of(run: RunDir, comparison: Comparison) -> dict[str, dict[str, str]]:
    """Return site and time of arrival by key of the image, as far as the store tells them."""
    keys = [key for unit in comparison.units.keys for key in unit]
    settings = load_training(run)
    try:
        store = Store.open(Path(settings.store))
        numbers = np.array([int(key, 16) for key in keys], np.uint64)
        snapshot = store.recall(str(read_provenance(run).get("snapshot") or settings.snapshot))
        at = np.minimum(np.searchsorted(snapshot.key, numbers), len(snapshot) - 1)
        sites = np.where(snapshot.key[at] == numbers, np.char.decode(snapshot.text("site", at), "utf-8"), "")
        return {
            "site": dict(zip(keys, sites.tolist(), strict=True)),
            "arrived": dict(zip(keys, store.arrivals(numbers), strict=True)),
        }
    except (UserError, OSError):
        return {}


def _difference(title: str, figure: Figure) -> Difference:
    return Difference(
        title=f"{title}{f', {figure.scale.unit}' if figure.scale.unit else ''}",
        value=_scaled(figure.value, figure.scale.factor),
        low=_scaled(figure.low, figure.scale.factor),
        high=_scaled(figure.high, figure.scale.factor),
        reason=figure.reason,
    )


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor
