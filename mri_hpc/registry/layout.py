"""The folder of models: a folder a record, the history of what was promoted, and the current one."""

import re
from dataclasses import dataclass
from pathlib import Path

from mri_hpc.base.access import let_group_use
from mri_hpc.base.errors import UserError
from mri_hpc.rundir.layout import RECORD, RunDir

NAME = re.compile(r"[A-Za-z0-9][\w.-]{0,99}", re.ASCII)
CURRENT = "current"
RESERVED = frozenset({CURRENT, "history"})
LEARNT_FROM = "learnt_from.npy"
MODELS = Path("models")
"""Folder of models where none is named."""


@dataclass(frozen=True)
class ModelsDir:
    """The folder of models, and the names in it."""

    path: Path

    @property
    def current(self) -> Path:
        """File that names the model that is asked, replaced at each promotion."""
        return self.path / CURRENT

    @property
    def history(self) -> Path:
        """Folder of what was decided, numbered: the newest one says which model is current."""
        return self.path / "history"

    def run(self, name: str) -> RunDir:
        """Return the folder of a record, which holds what a run is asked by."""
        return RunDir(self.path / name)

    def record(self, name: str) -> Path:
        """Return the file that describes a record."""
        return self.run(name).record

    def learnt_from(self, name: str) -> Path:
        """Return the file of the keys of all images that a record's model depends on."""
        return self.path / name / LEARNT_FROM

    def names(self) -> list[str]:
        """List the records by name."""
        return sorted(file.parent.name for file in self.path.glob(f"[!.]*/{RECORD}"))

    def make(self) -> None:
        """Make the folders; harmless when they are there."""
        self.path.mkdir(parents=True, exist_ok=True)
        self.history.mkdir(exist_ok=True)
        # Of a group's folder all that is made in it is the group's.
        let_group_use(self.history)


def check_name(name: str) -> str:
    """Return a name that a record can have; UserError else."""
    if NAME.fullmatch(name) and name not in RESERVED:
        return name
    raise UserError(
        f"{name!r} is no name for a model: letters, digits, points, dashes and underscores, at most 100, the "
        f"first a letter or digit, and neither {' nor '.join(sorted(RESERVED))}; give one by --name"
    )
