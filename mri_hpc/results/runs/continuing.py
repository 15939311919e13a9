"""A continued run beside the one that it goes on from: who was gained, and who was forgotten."""

import contextlib
from pathlib import Path

from mri_hpc.base.errors import UserError
from mri_hpc.results.runs.comparison import Comparison, compare_runs
from mri_hpc.results.runs.further_look import FurtherLook, look_at
from mri_hpc.rundir.continued import (
    MOST_NAMED,
    Changed,
    Continued,
    Difference,
    read_continued,
    write_continued,
)
from mri_hpc.rundir.kept import digest_of_predictions
from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.settings import load_training


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
            Difference(
                title=f"{metric.title}{f', {figure.scale.unit}' if figure.scale.unit else ''}",
                value=_scaled(figure.value, figure.scale.factor),
                low=_scaled(figure.low, figure.scale.factor),
                high=_scaled(figure.high, figure.scale.factor),
                reason=figure.reason,
            )
            for metric, figure in comparison.headline.differences.items()
        ),
        notes=comparison.notes,
    )


def _scaled(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor
