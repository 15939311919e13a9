"""Words of a run for those who review it."""

from collections.abc import Iterable

from mri_hpc.results.statistics.figure_of_merit import Figure


def shown(figure: Figure) -> str:
    """Write a figure with its interval, or with the reason why it has none."""
    if figure.value is None:
        return f"none ({figure.reason})"
    unit = f" {figure.scale.unit}" if figure.scale.unit else ""
    value = f"{figure.scale.number(figure.value)}{unit}"
    if figure.low is None or figure.high is None:
        return f"{value} (no interval: {figure.reason})"
    return f"{value} (95 % interval {figure.scale.number(figure.low)} to {figure.scale.number(figure.high)})"


def sentences(parts: Iterable[str]) -> str:
    """Join those that say something, each ending in a full stop."""
    return " ".join(f"{part[:1].upper()}{part[1:].rstrip('.')}." for part in parts if part)
