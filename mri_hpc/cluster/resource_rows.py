"""Rows of a run's picture: whether it was worth what it asked for, and what it used of that."""

from collections.abc import Callable

from mri_hpc.rundir.efficiency import summed, words
from mri_hpc.rundir.probe import Probe
from mri_hpc.rundir.summary import Summary
from mri_hpc.rundir.worth import gigabytes

Duration = Callable[[float | None], str]
"""Writes seconds for people."""


def resource_rows(summary: Summary, duration: Duration) -> list[tuple[str, str]]:
    """Return rows, with no value where nothing was timed or measured."""
    return [
        ("probe", _probe(summary.probe, duration)),
        ("used", _used(summary)),
        ("ask for", "\n".join(summary.advice)),
    ]


def _probe(probe: Probe | None, duration: Duration) -> str:
    """Write what steps that were timed before the first one say, and the figures that it rests on."""
    if probe is None or probe.figures is None:
        return probe.sentence if probe else ""
    figures = probe.figures
    kind = "GPU-hours" if figures.has_gpu else "core-hours"
    expected = (
        f"all {figures.epochs} epochs about {duration(figures.expected_s)}, {figures.device_hours:.1f} {kind}"
    )
    if figures.expected_alone_s and figures.device_hours_alone:
        alone = f"{duration(figures.expected_alone_s)} and {figures.device_hours_alone:.1f}"
        expected += f"; on one rank {alone}"
    limit = f" of {gigabytes(figures.memory_limit_bytes)}" if figures.memory_limit_bytes else ""
    memory = f"{gigabytes(figures.memory_bytes)}{limit} GB of memory a node"
    waits = f"{100 * figures.waiting:.0f} % of the time is waiting for images"
    return "\n".join([probe.sentence, expected, f"{waits}; {memory}"])


def _used(summary: Summary) -> str:
    """Write the use over all attempts in which any was measured."""
    whole = summed(summary.uses)
    return ", ".join(words(whole)) if whole else ""
