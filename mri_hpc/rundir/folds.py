"""folds.json: which folds a folder holds a run of each."""

import json
from pathlib import Path
from typing import Any

from mri_hpc.base.atomic import publish_new_bytes
from mri_hpc.base.documents import parse, with_format, without_format
from mri_hpc.base.errors import UserError
from mri_hpc.rundir.layout import RunDir, open_run

FORMAT = 1
NAME = "folds.json"


def is_of_folds(folder: Path) -> bool:
    """Tell whether `launch --folds` has made this folder."""
    return (folder / NAME).is_file()


def write_folds(folder: Path, folds: tuple[int, ...]) -> None:
    """Publish the numbers of the folds; UserError where the folder was made for others."""
    folder.mkdir(parents=True, exist_ok=True)
    document = json.dumps(with_format(FORMAT, {"folds": list(folds)})).encode() + b"\n"
    if not publish_new_bytes(folder / NAME, document) and read_folds(folder) != folds:
        held = ", ".join(map(str, read_folds(folder)))
        raise UserError(f"{folder} is of folds {held}: choose another --run for other folds")


def read_folds(folder: Path) -> tuple[int, ...]:
    """Read the numbers of the folds. Raises UserError."""
    path = folder / NAME
    try:
        values: Any = without_format(parse(path.read_bytes()), of=path, reads=FORMAT)
        return tuple(int(number) for number in values["folds"])
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is not what launch --folds wrote ({error}): launch --folds again into another --run"
        ) from None


def run_of(folder: Path, fold: int) -> RunDir:
    """Return the folder of the run that is tested on a fold."""
    return RunDir(folder / f"fold-{fold}")


def runs_in(folder: Path) -> list[RunDir]:
    """List the runs of all folds, those that were never launched too."""
    return [run_of(folder, fold) for fold in read_folds(folder)]


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
