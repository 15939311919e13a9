"""A figure of merit: its value, its 95 % interval, and how both are written."""

import math
from dataclasses import dataclass
from typing import Any

from mri_hpc.results.statistics.intervals import Limits


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
SCORE = Scale(factor=1, digits=3, unit="")


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One figure of merit. Without a value, or without an interval, `reason` says why."""

    value: float | None
    low: float | None
    high: float | None
    reason: str = ""
    scale: Scale

    def without_interval(self, reason: str) -> "Figure":
        """Return the value alone, for this reason; as it is where it has no interval."""
        if self.value is None or self.low is None:
            return self
        return Figure(value=self.value, low=None, high=None, reason=reason, scale=self.scale)

    def to_dict(self) -> dict[str, Any]:
        """Give plain values for JSON."""
        values = {"value": self.value, "low": self.low, "high": self.high}
        return {**values, "reason": self.reason} if self.reason else values


def figure_of(found: Limits | None, *, reason: str, scale: Scale, no_interval: str = "") -> Figure:
    """Make a figure of an estimate; None has none, for this reason.

    no_interval: reason where the limits are no numbers.
    """
    if found is None:
        return Figure(value=None, low=None, high=None, reason=reason, scale=scale)
    if math.isnan(found.low) or math.isnan(found.high):
        return Figure(value=found.value, low=None, high=None, reason=no_interval, scale=scale)
    low, high = max(0.0, found.low), min(1.0, found.high)
    return Figure(value=found.value, low=low, high=high, scale=scale)


def figure_of_difference(found: Limits | None, *, reason: str = "", scale: Scale) -> Figure:
    """Make a figure of a difference, from -1 to 1; None has none, for this reason."""
    if found is None:
        return Figure(value=None, low=None, high=None, reason=reason, scale=scale)
    return Figure(value=found.value, low=max(-1.0, found.low), high=min(1.0, found.high), scale=scale)


def brief(figure: Figure) -> str:
    """Write a figure with its interval in brackets, where several stand together."""
    if figure.value is None:
        return "none"
    unit = f" {figure.scale.unit}" if figure.scale.unit else ""
    value = f"{figure.scale.number(figure.value)}{unit}"
    if figure.low is None or figure.high is None:
        return f"{value} (no interval)"
    return f"{value} ({figure.scale.number(figure.low)} to {figure.scale.number(figure.high)})"
