"""The folder of a drill, beside the runs, where every node has to see it."""

from dataclasses import dataclass
from pathlib import Path

from mri_hpc.rundir.layout import RunDir

NAME = ".mri-drill"


@dataclass(frozen=True)
class DrillFolder:
    """A throw-away store, the run that is interrupted, its twin that is not, and notes of the job."""

    path: Path

    @classmethod
    def beside(cls, runs: Path) -> "DrillFolder":
        """Return the one drill of a folder of runs."""
        return cls(runs.absolute() / NAME)

    @property
    def store(self) -> Path:
        """Store of a few small pictures."""
        return self.path / "store"

    @property
    def run(self) -> RunDir:
        """The run that is interrupted."""
        return RunDir(self.path / "run")

    @property
    def twin(self) -> RunDir:
        """The same run once more, which nothing interrupts."""
        return RunDir(self.path / "twin")

    @property
    def token(self) -> Path:
        """Words that every node has to read here: by them it is known for the same folder."""
        return self.path / "token"

    @property
    def began(self) -> Path:
        """Unix time at which the job's script began, by the clock of its first node."""
        return self.path / "began"

    @property
    def seen(self) -> Path:
        """Answers of the nodes; complete once it is there."""
        return self.path / "seen"

    @property
    def seen_so_far(self) -> Path:
        """The same while nodes are still asked."""
        return self.path / "seen.part"

    @property
    def seen_errors(self) -> Path:
        """Complaints of srun while the nodes were asked."""
        return self.path / "seen.err"

    @property
    def ways(self) -> Path:
        """Folder by which the nodes tell each other where they listen."""
        return self.path / "ways"

    @property
    def signal_note(self) -> Path:
        """Note on the signal that was sent to the ranks."""
        return self.path / "signal.json"
