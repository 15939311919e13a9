"""The worth of the nodes that a run asks for: figures of a probe in, one sentence out."""

import math
from enum import StrEnum

from mri_hpc.rundir.probe import Figures

WAITS = 0.3
"""Fraction of the time: who waits longer than that is said to wait for images."""
WORTH = 0.7
"""Least fraction of each rank that must be gained: 2 are worth it from 1.4 × as fast as one."""
FULL = 0.9
"""Fraction of the memory of a node from which on it is too little: what varies takes the rest."""
FULL_GPU = 0.95
ROOM = 1.25
"""Memory to ask for is so many times what was needed."""
NUMBERS = ("none", "one", "two", "three", "four")


class Worth(StrEnum):
    """Verdicts on a run."""

    TOO_LITTLE_MEMORY = "too_little_memory"
    WAITS_FOR_DATA = "waits_for_data"
    TOO_MANY_RANKS = "too_many_ranks"
    FINE = "fine"
    UNKNOWN = "unknown"  # the probe did not come to its end, or timed no rank alone


def judge(figures: Figures) -> tuple[Worth, str]:
    """Judge by the figures; return the verdict and the advice that follows from it, in one sentence.

    What would end the run comes first, then what more ranks cannot help, then how many are worth it.
    """
    if lack := _lack_of_memory(figures):
        return Worth.TOO_LITTLE_MEMORY, lack
    enough = enough_ranks(figures)
    waits = f"{100 * figures.waiting:.0f} % of the time is waiting for images"
    if figures.waiting >= WAITS:
        fewer = f"; {_comparison(figures)}" if figures.speedup else ""
        return Worth.WAITS_FOR_DATA, (
            f"{waits}: put the store on a faster disk (--store){fewer}{_use(figures, enough)}."
        )
    if enough < figures.ranks:
        return Worth.TOO_MANY_RANKS, f"{_comparison(figures)}{_use(figures, enough)}."
    if figures.speedup:
        return Worth.FINE, f"{_comparison(figures)}, and {waits}: worth it."
    if figures.alone_takes_long:
        return Worth.UNKNOWN, (
            f"{waits}; whether {figures.ranks} {_units(figures)} are worth it was not timed, since steps on "
            f"one alone take long."
        )
    lack = "" if figures.ranks == 1 else "One alone has too little memory for a step; "
    return Worth.FINE, f"{lack}{waits}: worth it."


def enough_ranks(figures: Figures) -> int:
    """Return the largest number of ranks of which each still gains enough.

    Between one and all nothing was timed: a part of the step that all of them share is taken to shrink with
    their number, and the rest to stay as it is (Amdahl's law).
    """
    ranks, speedup = figures.ranks, figures.speedup
    if speedup is None or speedup >= WORTH * ranks:
        return ranks
    # Of a step of length 1 on one rank.
    shared = max(0.0, (1 - 1 / speedup) / (1 - 1 / ranks))
    gains = {number: 1 / (1 - shared + shared / number) / number for number in range(2, ranks)}
    return max((number for number, gain in gains.items() if gain >= WORTH), default=1)


def memory_to_ask_for(needed_bytes: float) -> int:
    """Return the GB, as of --mem-gb, in which so much fits with some room."""
    return max(1, math.ceil(ROOM * needed_bytes / 2**30))


def _lack_of_memory(figures: Figures) -> str:
    """Say what lacks memory; empty where nothing does."""
    needed, limit = figures.memory_bytes, figures.memory_limit_bytes
    if limit and needed > FULL * limit:
        more = f"more (--mem-gb {memory_to_ask_for(needed)}), or for " if figures.is_of_job else ""
        return (
            f"{gigabytes(needed)} of the {gigabytes(limit)} GB of memory that the run has on a node are in "
            f"use: ask for {more}fewer ranks a node (--tasks-per-node)."
        )
    if (
        figures.gpu_bytes
        and figures.gpu_limit_bytes
        and figures.gpu_bytes > FULL_GPU * figures.gpu_limit_bytes
    ):
        return (
            f"{gigabytes(figures.gpu_bytes)} of the {gigabytes(figures.gpu_limit_bytes)} GB of the GPU's "
            f"memory are in use: use more ranks, or start a new run with a smaller --batch-size or more "
            f"--accumulate."
        )
    return ""


def _comparison(figures: Figures) -> str:
    """Compare all ranks with one: ``2 nodes are 1.1 × as fast as one``."""
    return f"{figures.ranks} {_units(figures)} are {figures.speedup:.1f} × as fast as one"


def _use(figures: Figures, enough: int) -> str:
    """Advise on fewer ranks: ``: use one (--nodes 1)``; empty where all are worth it."""
    if enough >= figures.ranks:
        return ""
    of_a_node = figures.ranks // figures.nodes
    per_node = "--gpus-per-node" if figures.has_gpu else "--tasks-per-node"
    if enough >= of_a_node:
        number, unit = enough // of_a_node, "" if of_a_node == 1 else " node"
        typed = f"--nodes {number}"
    else:
        number, unit = enough, ""
        typed = f"{'--nodes 1 ' if figures.nodes > 1 else ''}{per_node} {number}"
    word = NUMBERS[number] if number < len(NUMBERS) else str(number)
    plural = "s" if unit and number > 1 else ""
    return f": use {'' if enough == 1 else 'about '}{word}{unit}{plural} ({typed})"


def _units(figures: Figures) -> str:
    """Name that of which there are as many as ranks, as it is typed."""
    if figures.nodes == figures.ranks:
        return "nodes"
    return "GPUs" if figures.has_gpu else "ranks"


def gigabytes(count: float) -> str:
    """Write bytes in the GB of --mem-gb, without the unit: ``9.1``."""
    return f"{count / 2**30:.1f}"
