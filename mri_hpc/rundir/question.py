"""decision.json: the classes that are to be found in patients, and how surely, as a user has said last.

No threshold is kept: it follows from the predictions, so that evaluate, report and predict cannot differ.
"""

import json
from dataclasses import asdict, dataclass

from mri_hpc.base.atomic import replace_bytes
from mri_hpc.base.documents import convert, parse, with_format, without_format
from mri_hpc.base.errors import UserError
from mri_hpc.rundir.layout import RunDir

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class Question:
    """Question that a run is asked about each patient: one of these classes, or none of them?"""

    investigate: tuple[str, ...] = ()
    """Classes to be found; empty: all but those named like normal or notumor, if there are such."""
    sensitivity: float = 0.95
    """Least part of the patients with such a class who are to be found."""

    def __post_init__(self) -> None:
        if not 0 < self.sensitivity < 1:
            raise UserError(f"--sensitivity must be above 0 and below 1, got {self.sensitivity}")


def read_question(run: RunDir) -> Question:
    """Read the question that was asked last; before the first, that of the defaults. Raises UserError."""
    try:
        values = without_format(parse(run.decision.read_bytes()), of=run.decision, reads=FORMAT)
        return convert(values, Question)
    except FileNotFoundError:
        return Question()
    except ValueError as error:
        raise UserError(
            f"{run.decision} is not what evaluate --investigate wrote ({error}): remove it, and ask again"
        ) from None


def write_question(run: RunDir, question: Question) -> None:
    """Publish the question, in place of that before."""
    document = json.dumps(with_format(FORMAT, asdict(question)), indent=1)
    replace_bytes(run.decision, document.encode() + b"\n")
