"""Documents of a run that hold what was found about its model, or about its predictions."""

import hashlib
from pathlib import Path
from typing import Protocol, TypeVar

from mri_hpc.base.documents import convert, parse, without_format
from mri_hpc.base.errors import UserError
from mri_hpc.base.sealed_json import unseal
from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.provenance import read_provenance


class OfModel(Protocol):
    """A finding about a model."""

    @property
    def model_digest(self) -> str:
        """Digest of its weights."""


class OfPredictions(Protocol):
    """A finding about the images of predictions.csv."""

    @property
    def predictions(self) -> str:
        """Digest of that file."""


M = TypeVar("M", bound=OfModel)
P = TypeVar("P", bound=OfPredictions)


def read_of_model(
    path: Path, run: RunDir, kind: type[M], *, reads: int, advice: str = "restore it from a backup"
) -> M | None:
    """Read a sealed document; None where there is none. UserError: damaged, or of another model.

    reads: the newest format that is known. advice: for people, what to do then.
    """
    try:
        found = convert(without_format(unseal(path.read_bytes()), of=path, reads=reads), kind)
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged ({error}); {advice}") from None
    digest = read_provenance(run).get("model_digest", "")
    if digest and found.model_digest != digest:
        raise UserError(f"{path} is of another model than {run.model}; {advice}")
    return found


def read_of_predictions(path: Path, run: RunDir, kind: type[P], *, reads: int) -> P | None:
    """Read a document that can be made again; None where there is none, or it is damaged, or of others.

    reads: the newest format that is known; raises NewerFormat.
    """
    try:
        found = convert(without_format(parse(path.read_bytes()), of=path, reads=reads), kind)
    except (FileNotFoundError, ValueError):
        return None
    return found if found.predictions == digest_of_predictions(run) else None


def digest_of_predictions(run: RunDir) -> str:
    """Compute the sha256 of predictions.csv."""
    with run.predictions.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
