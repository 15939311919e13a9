"""``mri-hpc report``: one HTML page about a run, or about several that are folds and seeds of one study."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from mri_hpc.base.access import make_private, replace_private
from mri_hpc.base.atomic import replace_bytes
from mri_hpc.base.command import print_json, run_command
from mri_hpc.base.errors import UsageError, UserError
from mri_hpc.base.marks import POSITIONAL, Flag
from mri_hpc.rundir.folds import SHARES, is_of_folds, kind_of, runs_at
from mri_hpc.rundir.layout import RunDir, open_run
from mri_hpc.rundir.settings import load_training

if TYPE_CHECKING:
    from mri_hpc.results.runs.learning_curve import Curve
    from mri_hpc.rundir.continued import Continued
    from mri_hpc.rundir.drift import Drift

JOINED = "joined.html"
"""Page of runs that were named one by one, beside the first of them."""
JOINED_REVIEW = "joined_review"
"""Folder of what is written for their reviewers, beside it."""
IN_REVIEW = "model card, CLAIM 2024, TRIPOD+AI, figures as CSV and JSON"


@dataclass(frozen=True, kw_only=True)
class Options:
    """One HTML page about a run, RUN/report.html: figures with intervals, curves, patients, restarts,
    provenance; beside it in RUN/review a model card, CLAIM 2024 and TRIPOD+AI, as far as the run fills them
    in, and all figures as CSV and JSON. Research use only."""

    run: Annotated[Path, POSITIONAL]
    """Folder of the run, or of folds; one that is not finished gets a page of what there is."""
    more: Annotated[tuple[Path, ...], POSITIONAL] = ()
    """Others of other folds or seeds, joined with the first on one page, joined.html beside it, and
    in joined_review for reviewers."""
    pictures: Flag = False
    """Also write RUN/private/report.html, with pictures of patients: examples, wrong answers, and where the
    model looks, if boxes of findings show that it is worth a look. Needs the store."""
    store: Path | None = None
    """Folder of the store, with --pictures; by default where it lay in training."""
    look_again: Flag = False
    """Show test figures although other models were judged by the same patients before; it is counted."""
    json: Flag = False
    """Print JSON."""

    def __post_init__(self) -> None:
        # A word that was meant as the value of an option must not pass for one more run.
        for path in self.more:
            if not (is_of_folds(path) or RunDir(path).settings.is_file()):
                raise UsageError(f"unrecognized: {str(path)!r} is no folder of a run or of folds")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    return run_command(
        "mri-hpc report", Options, report, argv, example="mri-hpc report runs/resnet18-1a2b3c4d"
    )


def report(options: Options) -> None:
    """Write the page, or both pages, and say where they are."""
    if options.store and not options.pictures:
        raise UserError("--store is for --pictures: the page without pictures needs no store")
    if options.more or is_of_folds(options.run):
        if options.pictures:
            raise UserError("--pictures is for the page of one run: name that run alone")
        _report_joined([options.run, *options.more], look_again=options.look_again, as_json=options.json)
        return
    run = open_run(options.run)
    unseen, notes = _look(run, options)
    continued = drift = evaluation = None
    # Drawing takes half a second to import, which --help need not wait for.
    from mri_hpc.results.answers.resemblance_run import keep_resemblance
    from mri_hpc.results.pages.page import make_page
    from mri_hpc.results.reviewers.review import write_review
    from mri_hpc.results.runs.continuing import keep_continued
    from mri_hpc.results.runs.control_run import keep_controls
    from mri_hpc.results.runs.drift import keep_drift
    from mri_hpc.results.runs.evaluation import evaluate_split

    if run.predictions.exists() and not unseen:
        continued = keep_continued(run, is_meant=options.look_again)
    if run.predictions.exists():
        # Of no test patient, so it is no look.
        drift = keep_drift(run)
    # The score of heat maps is on either page, so pictures come first.
    private = _write_private(run, options.store, continued, drift) if options.pictures else None
    if run.predictions.exists() and not unseen:
        keep_controls(run)
        keep_resemblance(run)
        evaluation = evaluate_split(run, "test")
    page = make_page(run, evaluation=evaluation, continued=continued, drift=drift, unseen=unseen).encode()
    replace_bytes(run.report, page)
    if evaluation and run.is_finished:
        write_review(run, evaluation)
    for note in notes:
        print(note, file=sys.stderr)
    if options.json:
        others = {
            **({"private_report": str(run.private_report)} if private is not None else {}),
            **({"without_test_figures": unseen} if unseen else {}),
            **({"continued": continued.to_dict()} if continued else {}),
            **({"drift": drift.to_dict()} if drift else {}),
        }
        print_json(
            {
                "run": str(run.path),
                "finished": run.is_finished,
                "report": str(run.report),
                "bytes": len(page),
                **({"review": str(run.review)} if run.review.is_dir() else {}),
                **others,
            }
        )
    else:
        unfinished = "" if run.is_finished else " (not finished: no results yet)"
        print(f"{run.report}: {len(page) / 1000:.0f} kB{unfinished}")
        if run.review.is_dir():
            print(f"{run.review}: {IN_REVIEW}")
        if unseen:
            print(f"without its test figures: {unseen}")
        if private is not None:
            print(
                f"{run.private_report}: {private / 1000:.0f} kB, with pictures of patients: do not share it"
            )


def _look(run: RunDir, options: Options) -> tuple[str, list[str]]:
    """Write down that test figures are looked at; return why they are not shown, and notes.

    A job that is not watched must not fail for it: the page is made without them, and says so.
    """
    if not run.predictions.exists():
        return "", []
    from mri_hpc.results.runs.further_look import FurtherLook, look_at

    try:
        return "", look_at([run], is_meant=options.look_again)
    except FurtherLook as refused:
        if options.pictures:
            raise
        return refused.words, []


def _write_private(
    run: RunDir, store: Path | None, continued: "Continued | None", drift: "Drift | None"
) -> int:
    """Write the page with pictures where its owner alone gets at it; returns its bytes."""
    from mri_hpc.picturing import make_pictures
    from mri_hpc.results.pages.page import make_page
    from mri_hpc.storage.store import Store
    from mri_hpc.store_actions.made import note_made

    pictures = make_pictures(run, store)
    page = make_page(run, pictures, continued=continued, drift=drift).encode()
    make_private(run.private)
    replace_private(run.private_report, page)
    where = Store.open(store or Path(load_training(run).store))
    note_made(where, run.private_report, "report --pictures", keys=pictures.keys)
    return len(page)


def _report_joined(folders: Sequence[Path], *, look_again: bool, as_json: bool) -> None:
    """Write the page of several runs, and say where it is."""
    from mri_hpc.results.pages.joined_page import make_joined_page
    from mri_hpc.results.reviewers.review import write_joined_review
    from mri_hpc.results.runs.further_look import look_at
    from mri_hpc.results.runs.joining import join, refuse_unlike
    from mri_hpc.results.runs.learning_curve import is_curve, join_curve

    runs = [run for folder in folders for run in runs_at(folder)]
    if is_curve([load_training(run) for run in runs]) or kind_of(folders[0]) is SHARES:
        _report_curve(folders, join_curve(runs), as_json=as_json)
        return
    refuse_unlike(runs)
    for note in look_at(runs, is_meant=look_again):
        print(note, file=sys.stderr)
    joined = join(runs)
    path, name = _page_of(folders)
    page = make_joined_page(joined, name).encode()
    replace_bytes(path, page)
    review = path.parent / JOINED_REVIEW if path.name == JOINED else RunDir(path.parent).review
    write_joined_review(review, name, joined)
    if as_json:
        document = {"report": str(path), "bytes": len(page), "review": str(review), **joined.to_dict()}
        print_json(document)
        return
    print(f"{path}: {len(page) / 1000:.0f} kB, {len(joined.parts)} runs")
    print(f"{review}: {IN_REVIEW}")
    for line in joined.lines():
        print(f"  {line}")


def _report_curve(folders: Sequence[Path], curve: "Curve", *, as_json: bool) -> None:
    """Write the page of a learning curve, and say where it is. It is no look at test patients."""
    from mri_hpc.results.pages.joined_page import make_curve_page

    path, name = _page_of(folders)
    page = make_curve_page(curve, name).encode()
    replace_bytes(path, page)
    if as_json:
        print_json({"report": str(path), "bytes": len(page), **curve.to_dict()})
        return
    print(f"{path}: {len(page) / 1000:.0f} kB, {len(curve.points)} runs")
    for line in curve.lines():
        print(f"  {line}")


def _page_of(folders: Sequence[Path]) -> tuple[Path, str]:
    """Return the file of the page of several runs, and the name at its head."""
    name = folders[0].resolve().name
    if len(folders) == 1:
        return RunDir(folders[0]).report, name
    return folders[0].absolute().parent / JOINED, f"{name} and {len(folders) - 1} more"


if __name__ == "__main__":
    sys.exit(main())
