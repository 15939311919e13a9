"""Files and folders of a chain."""

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from mri_hpc.base.errors import UserError
from mri_hpc.rundir.layout import RunDir

NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,79}", re.ASCII)
WATCH = Path("watch")


@dataclass(frozen=True)
class ChainDir:
    """The folder of a chain, and the names in it."""

    path: Path

    @property
    def name(self) -> str:
        """Name of the chain, with which those of its runs and models begin."""
        return self.path.absolute().name

    @property
    def links(self) -> Path:
        """Folder of the links: what holds each, and what came of it."""
        return self.path / "links"

    @property
    def jobs(self) -> Path:
        """Folder of the jobs that were submitted for links, numbered."""
        return self.path / "jobs"

    @property
    def runs(self) -> Path:
        """Folder of the runs that links have launched."""
        return self.path / "runs"

    @property
    def logs(self) -> Path:
        """Folder of what commands of a link print, and its job."""
        return self.path / "logs"

    @property
    def stop(self) -> Path:
        """File that ends the chain while it is there; anybody may make it."""
        return self.path / "stop"

    def claim(self, number: int) -> Path:
        """Return the file that says who holds a link."""
        return self.links / f"{number:06d}.claim.json"

    def outcome(self, number: int) -> Path:
        """Return the file that says what came of a link."""
        return self.links / f"{number:06d}.json"

    def log(self, number: int) -> Path:
        """Return the file of what the commands of a link print."""
        return self.logs / f"{number:06d}.log"

    def job(self, number: int) -> Path:
        """Return the file of a job that was submitted."""
        return self.jobs / f"{number:06d}.json"

    def run(self, number: int) -> RunDir:
        """Return the folder of a run."""
        return RunDir(self.runs / f"{self.name}-{number}")

    def num_claimed(self) -> int:
        """Return the number of the newest link that was begun; 0 before the first."""
        return _newest(self.links, r"(\d{6})\.claim\.json")

    def num_submitted(self) -> int:
        """Return the number of the newest job; 0 before the first."""
        return _newest(self.jobs, r"(\d{6})\.json")

    def launched(self) -> list[RunDir]:
        """List the runs of the chain that were launched, oldest first."""
        newest = _newest(self.runs, re.escape(self.name) + r"-(\d+)")
        runs = [self.run(number) for number in range(1, newest + 1)]
        return [run for run in runs if run.settings.is_file()]

    def next_run(self, taken: Collection[str]) -> RunDir:
        """Return the run to be launched next; one whose launch was killed is launched again.

        taken: names that models have whose runs may be gone.
        """
        form = re.compile(re.escape(self.name) + r"-(\d+)")
        names = [*(run.path.name for run in self.launched()), *taken]
        return self.run(
            1 + max((int(found[1]) for one in names if (found := form.fullmatch(one))), default=0)
        )

    def make(self) -> None:
        """Make the folders; harmless where they are there."""
        for folder in (self.links, self.jobs, self.runs, self.logs):
            folder.mkdir(parents=True, exist_ok=True)


def is_chain(path: Path) -> bool:
    """Tell whether a folder is that of a chain."""
    chain = ChainDir(path)
    return chain.links.is_dir() and chain.jobs.is_dir()


def chain_at(path: Path) -> ChainDir:
    """Return the folder of a chain; UserError where it can be none."""
    chain = ChainDir(path.absolute())
    if not NAME.fullmatch(chain.name):
        raise UserError(
            f"{chain.name!r} is no name for a chain: letters, digits, points, dashes and underscores, at "
            "most 80, the first a letter or digit; give one by --chain watch/NAME"
        )
    if path.exists() and not is_chain(path):
        raise UserError(f"{path} holds something else than a chain: give another folder by --chain")
    return chain


def _newest(folder: Path, form: str) -> int:
    names = [entry.name for entry in folder.iterdir()] if folder.is_dir() else []
    return max((int(found[1]) for name in names if (found := re.fullmatch(form, name))), default=0)
