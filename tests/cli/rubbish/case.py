"""One case of the corpus: what is wrong, which command meets it, and what it has to say."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

from tests.cli.rubbish.desk import ENVIRONMENT, GOOD, Desk, Outcome, call
from tests.harness.powers import without_powers


def nothing_more(desk: Desk, outcome: Outcome) -> None:
    """No check beside those that every case has."""


def holds(images: int) -> Callable[[Desk, Outcome], None]:
    """A check: the store holds so many images now."""

    def check(desk: Desk, outcome: Outcome) -> None:
        assert desk.images == images

    return check


@dataclass(frozen=True, kw_only=True)
class Case:
    """What is wrong, and what has to come of it."""

    name: str
    make: Callable[[Desk], list[str]]
    """Lays the rubbish on the desk; returns the command line that meets it."""
    says: tuple[str, ...]
    """Phrases of one line on stderr."""
    status: int = 2
    """0: listed, and the work goes on. 2: one line, and nothing is done."""
    lines: int | None = 1
    """Lines on stderr where the status is 2; None: a table, or notes before it."""
    after: Callable[[Desk, Outcome], None] = nothing_more
    """What must be so afterwards, beside that all files are as they were."""
    needs_permission: bool = False
    """Whether permissions apply to the command, also where root runs the tests."""
    most_bytes: int = 0
    """Bytes beyond which no file can be written; 0: no limit."""
    needs_mount: bool = False
    """Whether it takes a user who may mount a disk."""
    may_change: tuple[str, ...] = ()
    """Beginnings of the paths of files that the command is meant to change."""

    def play(self, desk: Desk) -> tuple[list[str], Outcome]:
        """Run the command, and check all that is true of every case; returns its line and what came of it."""
        argv = self.make(desk)
        before = desk.digests()
        outcome = self.run(desk, argv)
        told = f"status {outcome.status}\n{outcome.err}\n{outcome.out}"
        assert outcome.status == self.status, told
        assert self.message(outcome) or not self.says, f"no line says all of {self.says}: {told}"
        assert "Traceback" not in outcome.err + outcome.out, told
        if self.status == 2 and self.lines is not None:
            assert len(outcome.lines) == self.lines, told
        after = desk.digests()
        changed = [path for path, digest in before.items() if after.get(path) != digest]
        kept = tuple(str(desk.root / name) for name in self.may_change)
        assert not [path for path in changed if not path.startswith(kept or ("\0",))], changed
        self.after(desk, outcome)
        return argv, outcome

    def run(self, desk: Desk, argv: list[str]) -> Outcome:
        """Run the command line in this process."""
        with without_powers() if self.needs_permission else contextlib.nullcontext():
            return call(argv, desk.root, desk.environment, self.most_bytes)

    def message(self, outcome: Outcome) -> str:
        """The line that says it; empty where none does."""
        found = (line for line in outcome.lines if all(phrase in line for phrase in self.says))
        return next(found, "")


all_good_ones = holds(GOOD)


@dataclass(frozen=True, kw_only=True)
class Rejected(Case):
    """A source that is listed as rejected, while the good ones are in the store."""

    status: int = 0
    after: Callable[[Desk, Outcome], None] = all_good_ones


@dataclass(frozen=True, kw_only=True)
class OnSite(Case):
    """A machine as some sites have it: a process of its own, with limits and mounts that it alone sees."""

    site: str
    """Lines of shell before the command: `home` is the home folder, and a disk of its own."""
    in_job: bool = False
    """Whether it is on a compute node: n3, in job 7."""
    needs_mount: bool = True

    def run(self, desk: Desk, argv: list[str]) -> Outcome:
        """Run the command line on that machine."""
        home = desk.root / "home"
        home.mkdir()
        job = {"SLURM_JOB_ID": "7", "SLURMD_NODENAME": "n3"} if self.in_job else {}
        here = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
        script = f'mount -t tmpfs tmpfs home || exit 9\n{self.site}\nexec "$@"'
        ran = subprocess.run(
            ["unshare", "--mount", "sh", "-ec", script, "sh", sys.executable, "-m", "mri_hpc", *argv],
            cwd=desk.root, env={**here, **ENVIRONMENT, "HOME": str(home), **job, **desk.environment},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        return Outcome(status=ran.returncode, out=ran.stdout, err=ran.stderr)


@dataclass(frozen=True, kw_only=True)
class OnFullDisk(Case):
    """The folder ``disk`` of the desk is a disk of its own, with a copy of the store and little room more."""

    def run(self, desk: Desk, argv: list[str]) -> Outcome:
        """Run the command line in a process that alone sees the disk; then the store there must be sound."""
        script = (
            'mount -t tmpfs -o size="$1" tmpfs disk && cp -a store disk/ || exit 9; shift; '
            '"$@"; status=$?; "$1" -m mri_hpc store verify disk/store >verified || exit 9; exit $status'
        )
        (desk.root / "disk").mkdir()
        kib = sum(-(-file.stat().st_size // 4096) * 4 + 4 for file in desk.store.rglob("*")) + 24
        words = ["unshare", "--mount", "sh", "-c", script, "sh", f"{kib}k", sys.executable, "-m", "mri_hpc"]
        ran = subprocess.run([*words, *argv], cwd=desk.root, capture_output=True, text=True, check=False)
        return Outcome(status=ran.returncode, out=ran.stdout, err=ran.stderr)
