"""choices.json: among how many models validation patients chose, where the runs that tell may be gone."""

import json
from dataclasses import asdict, dataclass

from mri_hpc.base.documents import convert, parse, with_format, without_format
from mri_hpc.base.errors import UserError
from mri_hpc.rundir.layout import RunDir

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Choices:
    """Count of a model that is kept apart from its run, and from those that the run went on from."""

    models: int


def read_choices(run: RunDir) -> int | None:
    """Read the count; None of a run itself, which tells it by its settings. UserError where it is damaged."""
    try:
        values = without_format(parse(run.choices.read_bytes()), of=run.choices, reads=FORMAT)
        return convert(values, Choices).models
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise UserError(f"{run.choices} is damaged ({error}); restore it from a backup") from None


def to_json(models: int) -> bytes:
    """Return the count as it lies on disk."""
    return json.dumps(with_format(FORMAT, asdict(Choices(models=models)))).encode() + b"\n"
