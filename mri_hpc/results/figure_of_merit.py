"""A figure of merit: its value, its 95 % interval, and how both are written."""

from dataclasses import dataclass
from typing import Any

from mri_hpc.results.intervals import Limits


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Way in which values of a figure are written."""

    factor: float
    digits: int
    unit: str
    """Empty where there is none."""
    most: float = 1.0
    """Largest value."""

    def number(self, value: float) -> str:
        """Write a value without its unit."""
        return f"{self.factor * value:.{self.digits}f}"


PERCENT = Scale(factor=100, digits=1, unit="%")
AREA = Scale(factor=1, digits=3, unit="")
SCORE = Scale(factor=1, digits=3, unit="", most=float("inf"))


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One figure of merit. Without a value, or without limits, `reason` says why."""

    value: float | None
    low: float | None
    high: float | None
    reason: str = ""
    scale: Scale

    def to_dict(self) -> dict[str, Any]:
        """Give plain values for JSON."""
        values = {"value": self.value, "low": self.low, "high": self.high}
        return {**values, "reason": self.reason} if self.reason else values


def figure_of(found: Limits | float | None, *, reason: str, scale: Scale) -> Figure:
    """Make a figure of an estimate; None has none, and a number alone has no limits, for this reason."""
    if found is None:
        return Figure(value=None, low=None, high=None, reason=reason, scale=scale)
    if not isinstance(found, Limits):
        return Figure(value=found, low=None, high=None, reason=reason, scale=scale)
    low, high = max(0.0, found.low), min(scale.most, found.high)
    return Figure(value=found.value, low=low, high=high, scale=scale)
