"""folds.json and shares.json: the runs that a folder holds, one of each fold, or share of the patients."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mri_hpc.base.atomic import publish_new_bytes
from mri_hpc.base.documents import parse, with_format, without_format
from mri_hpc.base.errors import UserError
from mri_hpc.rundir.layout import RunDir, open_run

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Kind:
    """Difference between the runs of one folder, a number each."""

    option: str
    """Of launch, by which the folder is made."""
    one: str
    """Word for a number, and the beginning of the names of runs."""
    several: str
    """Word for the numbers, and the name of the file but for its end."""

    @property
    def file(self) -> str:
        """Name of the file that lists them."""
        return f"{self.several}.json"


FOLDS = Kind(option="--folds", one="fold", several="folds")
SHARES = Kind(option="--learning-curve", one="share", several="shares")
"""Of the training patients, in percent."""
KINDS = (FOLDS, SHARES)


def kind_of(folder: Path) -> Kind | None:
    """Return the difference between the runs of a folder that holds several; None where it does not."""
    return next((kind for kind in KINDS if (folder / kind.file).is_file()), None)


def is_of_folds(folder: Path) -> bool:
    """Tell whether `launch --folds`, or `--learning-curve`, has made this folder."""
    return kind_of(folder) is not None


def write_folds(folder: Path, numbers: tuple[int, ...], kind: Kind = FOLDS) -> None:
    """Publish the numbers of the runs; UserError where the folder was made for others."""
    folder.mkdir(parents=True, exist_ok=True)
    document = json.dumps(with_format(FORMAT, {kind.several: list(numbers)})).encode() + b"\n"
    if not publish_new_bytes(folder / kind.file, document) and read_folds(folder) != numbers:
        held = ", ".join(map(str, read_folds(folder)))
        raise UserError(
            f"{folder} is of {kind.several} {held}: choose another --run for other {kind.several}"
        )


def read_folds(folder: Path) -> tuple[int, ...]:
    """Read the numbers of the runs. Raises UserError."""
    kind = kind_of(folder) or FOLDS
    path = folder / kind.file
    try:
        values: Any = without_format(parse(path.read_bytes()), of=path, reads=FORMAT)
        return tuple(int(number) for number in values[kind.several])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is not what launch {kind.option} wrote ({error}): launch {kind.option} again into "
            "another --run"
        ) from None


def run_of(folder: Path, number: int, kind: Kind = FOLDS) -> RunDir:
    """Return the folder of the run of a number."""
    return RunDir(folder / f"{kind.one}-{number}")


def runs_in(folder: Path) -> list[RunDir]:
    """List the runs of all numbers, those that were never launched too."""
    return [run_of(folder, number, kind_of(folder) or FOLDS) for number in read_folds(folder)]


def runs_at(folder: Path) -> list[RunDir]:
    """List the run at a folder, or the runs of its folds. UserError where one was never launched."""
    if not is_of_folds(folder):
        return [open_run(folder)]
    runs = runs_in(folder)
    for run in runs:
        if not run.settings.is_file():
            raise UserError(
                f"{folder} lacks {run.path.name}, which was never launched: mri-hpc launch --run {folder}"
            )
    return runs
