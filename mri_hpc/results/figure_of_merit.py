"""A figure of merit: its value, its 95 % interval, and how both are written."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from mri_hpc.results.intervals import percentiles, wilson

MOST_UNDEFINED = 0.05
"""Fraction of resamples that may lack a figure (its class was not drawn) before Wilson's takes over."""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Way in which values of a figure are written."""

    factor: float
    digits: int
    unit: str
    """Empty where there is none."""

    def number(self, value: float) -> str:
        """Write a value without its unit."""
        return f"{self.factor * value:.{self.digits}f}"


PERCENT = Scale(factor=100, digits=1, unit="%")
AREA = Scale(factor=1, digits=3, unit="")


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One figure of merit. Without a value, `reason` says why."""

    value: float | None
    low: float | None
    high: float | None
    interval: Literal["bootstrap", "wilson", ""]
    """bootstrap: patients drawn with replacement. wilson: each patient taken once, or a mean of such."""
    reason: str = ""
    scale: Scale

    def to_dict(self) -> dict[str, Any]:
        """Give plain values for JSON."""
        values = {"value": self.value, "low": self.low, "high": self.high, "interval": self.interval}
        return {**values, "reason": self.reason} if self.reason else values


def figure_of(
    value: float,
    resampled: np.ndarray,
    num_patients: int,
    *,
    reason: str,
    prefer_wilson: bool,
    scale: Scale,
) -> Figure:
    """Put an interval to a value: Wilson's where units are independent or drawing patients cannot tell.

    value: NaN where there is none, for this reason. resampled: float64, (r,). num_patients: those that the
    value rests on.
    """
    if np.isnan(value):
        return Figure(value=None, low=None, high=None, interval="", reason=reason, scale=scale)
    if prefer_wilson or not _tells(resampled):
        return _bracketing(float(value), *wilson(float(value), num_patients), "wilson", scale)
    return _bracketing(float(value), *percentiles(resampled[~np.isnan(resampled)]), "bootstrap", scale)


def mean_figure(
    parts: Sequence[Figure], resampled: np.ndarray, limits_of: Callable[[np.ndarray], tuple[float, float]]
) -> Figure:
    """Average the figures of classes. resampled: (k, r), of the parts.

    limits_of: limits of the mean by (value, low, high) of each class, where drawing patients cannot tell of
    every class: one that is judged perfectly varies in no draw, and would make the interval too narrow.
    """
    missing = [part for part in parts if part.value is None]
    if missing:
        return missing[0]
    of_parts, scale = np.array([(part.value, part.low, part.high) for part in parts]), parts[0].scale
    value = float(of_parts[:, 0].mean())
    if all(part.interval == "bootstrap" for part in parts):
        draws = resampled.mean(axis=0)
        return _bracketing(value, *percentiles(draws[~np.isnan(draws)]), "bootstrap", scale)
    return _bracketing(value, *limits_of(of_parts), "wilson", scale)


def _tells(resampled: np.ndarray) -> bool:
    """Tell whether resamples say something: few lack the figure, and they do not all agree.

    They agree where every patient is judged alike, as in a perfect result: that interval would have no width.
    """
    is_missing = np.isnan(resampled)
    if is_missing.mean() > MOST_UNDEFINED:
        return False
    return float(np.ptp(resampled[~is_missing])) > 1e-12


def _bracketing(
    value: float, low: float, high: float, interval: Literal["bootstrap", "wilson"], scale: Scale
) -> Figure:
    # Percentiles of few patients can leave the value itself outside; an interval that does so misleads.
    return Figure(value=value, low=min(low, value), high=max(high, value), interval=interval, scale=scale)
