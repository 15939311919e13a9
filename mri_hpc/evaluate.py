"""``mri-hpc evaluate``: metrics of a run, by slice and by patient, with intervals."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from mri_hpc.base.command import print_json, run_command
from mri_hpc.base.errors import UserError
from mri_hpc.base.marks import POSITIONAL, Flag
from mri_hpc.rundir.layout import RunDir, open_run
from mri_hpc.rundir.provenance import read_provenance
from mri_hpc.rundir.question import Question, read_question, write_question

if TYPE_CHECKING:
    from mri_hpc.results.runs.evaluation import Evaluation


@dataclass(frozen=True, kw_only=True)
class Options:
    """Metrics of a finished run, by slice and by patient, each with its 95 % interval. Research use only."""

    run: Annotated[Path, POSITIONAL]
    """Folder of the run."""
    split: Literal["test", "validation", "calibration"] = "test"
    """Images to judge by; validation chose the epoch, or when the rate fell."""
    investigate: tuple[str, ...] = ()
    """Classes to be found in patients; kept for report and predict. By default all, if one is named like
    normal or notumor, but for that."""
    sensitivity: float | None = None
    """Least part of the patients with such a class who are to be found, kept as well; at first 0.95."""
    look_again: Flag = False
    """Show test figures although other models were judged by the same patients before; it is counted."""
    json: Flag = False
    """Print JSON."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return run_command(
        "mri-hpc evaluate", Options, evaluate, argv, example="mri-hpc evaluate runs/resnet18-1a2b3c4d"
    )


def evaluate(options: Options) -> None:
    """Print the figures that the run's predictions give; keep what is to be found in patients."""
    run = open_run(options.run)
    before = read_question(run)
    question = _question(options, before)
    if question != before and run.record.exists():
        raise UserError(
            f"{run.path} is a model that is kept, whose decision never changes: ask its run, and add that by "
            "another name (mri-hpc models add RUN --name NAME)"
        )
    # Whoever asks for help need not wait for what counts.
    from mri_hpc.results.answers.resemblance_run import keep_resemblance
    from mri_hpc.results.runs.control_run import keep_controls
    from mri_hpc.results.runs.evaluation import evaluate_split
    from mri_hpc.results.runs.further_look import look_at

    if options.split == "test":
        for note in look_at([run], is_meant=options.look_again):
            print(note, file=sys.stderr)
    keep_controls(run)
    keep_resemblance(run)
    evaluation = evaluate_split(run, options.split, question)
    if question != before:
        write_question(run, question)
    if options.json:
        print_json(as_json(run, evaluation))
    else:
        from mri_hpc.results.runs.evaluation_tables import print_tables

        print_tables(run, evaluation)


def _question(options: Options, before: Question) -> Question:
    """Return the question before with what is typed now."""
    return Question(
        investigate=options.investigate or before.investigate,
        sensitivity=before.sensitivity if options.sensitivity is None else options.sensitivity,
    )


def as_json(run: RunDir, evaluation: "Evaluation") -> dict[str, Any]:
    """Make one JSON document of the whole evaluation."""
    provenance = read_provenance(run)
    digests = {name: provenance.get(name) for name in ("weights_digest", "model_digest")}
    return {"run": str(run.path), "finished": run.is_finished, **digests, **evaluation.to_dict()}


if __name__ == "__main__":
    sys.exit(main())
