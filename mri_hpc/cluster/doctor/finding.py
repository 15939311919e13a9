"""A doctor's finding, and what its checks look at."""

import enum
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mri_hpc.cluster.doctor.fixes import Fix


class Level(enum.StrEnum):
    """The weight of a finding."""

    FINE = enum.auto()
    """It is as it has to be."""
    NOTE = enum.auto()
    """The work goes on, slower or with something missing."""
    PROBLEM = enum.auto()
    """Something that the commands do would fail."""


MARKS = {Level.FINE: "ok", Level.NOTE: "note", Level.PROBLEM: "NOT OK"}


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One thing that was looked at."""

    level: Level
    says: str
    """One plain line."""
    cure: str = ""
    """The line to type, or to write into site.env; empty where nothing is to be done."""
    fix: Fix | None = None
    """The same as a change that doctor could make; None where it cannot, or where it is yours to choose."""


@dataclass(frozen=True, kw_only=True)
class Site:
    """The place that the checks look at."""

    folder: Path
    """Existing folder under which stores and runs will lie."""
    environment: Mapping[str, str]
    """Variables of the shell."""
    clone: Path | None = None
    """The clone in which site.env lies; None: there is none."""
    run: Path | None = None
    """The folder where it is a run."""


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing to look at."""

    name: str
    """One word, for scripts."""
    title: str
    """For people."""
    look: Callable[[Site], Iterator[Finding]]
    """Yields what it finds; changes nothing. OSError and UserError become a problem."""


def in_words(finding: Finding) -> list[str]:
    """Write a finding for people, in a line or two."""
    lines = [f"  {MARKS[finding.level]:7} {finding.says}"]
    return [*lines, f"  {'':7}   do: {finding.cure}"] if finding.cure else lines


def fine(says: str) -> Finding:
    """Make a finding that needs nothing."""
    return Finding(level=Level.FINE, says=says)


def note(says: str, cure: str = "", *, fix: Fix | None = None) -> Finding:
    """Make a finding that costs something."""
    return Finding(level=Level.NOTE, says=says, cure=cure, fix=fix)


def problem(says: str, cure: str, *, fix: Fix | None = None) -> Finding:
    """Make a finding with which something fails."""
    return Finding(level=Level.PROBLEM, says=says, cure=cure, fix=fix)
