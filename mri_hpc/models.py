"""``mri-hpc models``: which models are kept, which one is asked, and who decided so."""

import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from mri_hpc.base.command import Action, print_json, run_action, shown_bytes
from mri_hpc.base.errors import UserError
from mri_hpc.base.marks import POSITIONAL, Flag, Word

if TYPE_CHECKING:
    from mri_hpc.registry.promoting import Promoted
    from mri_hpc.registry.record import Evidence

EXAMPLE = "mri-hpc models add runs/resnet18-1a2b3c4d"


@dataclass(frozen=True, kw_only=True)
class Add:
    """Keep the model of a finished run, and say what speaks for it beside the current one.

    All that it takes to ask it is copied: the run's folder may go. Test patients are not looked at: it is
    compared on validation patients who chose nothing (launch --calibration-share).
    """

    run: Annotated[Path, POSITIONAL]
    """Folder of the run."""
    name: str = ""
    """Name of the model; by default that of the run's folder."""
    margin: float = 5.0
    """Points of balanced accuracy by which it may be worse than the current model at most."""
    models: Path = Path("models")
    """Folder of models."""
    json: Flag = False
    """Print as JSON."""

    def __post_init__(self) -> None:
        if not 0 < self.margin < 100:
            raise UserError(f"--margin must be above 0 and below 100, got {self.margin:g}")


@dataclass(frozen=True, kw_only=True)
class Promote:
    """Make a model the current one, which predict --model current asks.

    Refused while a requirement is not met, or not known, unless it is accepted by its word.
    """

    name: Annotated[str, POSITIONAL]
    """Name of the model."""
    because: str = ""
    """Reason for it, kept for good: name no patient."""
    accept: Annotated[tuple[str, ...], Word(value="[WORD ...]")] = ()
    """Words of what need not be met or known: not-worse, calibration, controls, audit, retracted."""
    models: Path = Path("models")
    """Folder of models."""
    json: Flag = False
    """Print as JSON."""


@dataclass(frozen=True, kw_only=True)
class Rollback:
    """Make the model current again that was so before the one that is now."""

    because: str = ""
    """Reason for it, kept for good: name no patient."""
    models: Path = Path("models")
    """Folder of models."""
    json: Flag = False
    """Print as JSON."""


@dataclass(frozen=True, kw_only=True)
class List:
    """List the models that are kept: candidates, the current one, and those that were."""

    models: Path = Path("models")
    """Folder of models."""
    json: Flag = False
    """Print as JSON."""


@dataclass(frozen=True, kw_only=True)
class Show:
    """Show all that is kept of a model, check its files, and what was decided about it."""

    name: Annotated[str, POSITIONAL]
    """Name of the model, or current."""
    models: Path = Path("models")
    """Folder of models."""
    json: Flag = False
    """Print as JSON."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    return run_action(
        "mri-hpc models",
        "Keep models apart from their runs, and let a person say which one is asked.",
        {
            "list": lambda: Action(options=List, body=list_models, example="mri-hpc models list"),
            "add": lambda: Action(options=Add, body=add_model, example=EXAMPLE),
            "promote": lambda: Action(
                options=Promote,
                body=promote_model,
                example='mri-hpc models promote resnet18-1a2b3c4d --because "not worse, 40 patients more"',
            ),
            "rollback": lambda: Action(options=Rollback, body=roll_back, example="mri-hpc models rollback"),
            "show": lambda: Action(options=Show, body=show_model, example="mri-hpc models show current"),
        },
        argv,
        example=EXAMPLE,
    )


def add_model(options: Add) -> None:
    """Keep a run's model, and print what speaks for it."""
    # Here and below: whoever asks for help need not wait for what counts.
    from mri_hpc.registry.adding import add_run
    from mri_hpc.registry.layout import ModelsDir
    from mri_hpc.registry.promoting import line_to_promote

    added = add_run(ModelsDir(options.models), options.run, options.name, options.margin / 100)
    record = added.record
    if options.json:
        print_json({"models": str(options.models), "is_new": added.is_new, **asdict(record)})
        return
    if not added.is_new:
        print(f"{options.models / record.name} is there already, as it was added {record.added}")
    else:
        print(
            f"{options.models / record.name}: {shown_bytes(record.size)}, model {record.model_digest[:12]}; "
            f"the run's folder is not needed any more to ask it"
        )
    _print_evidence(record.evidence)
    found_now = record.evidence if added.is_new else ()
    print(line_to_promote(ModelsDir(options.models), record.name, found_now))


def promote_model(options: Promote) -> None:
    """Make a model current, and say what was before."""
    from mri_hpc.registry.layout import ModelsDir
    from mri_hpc.registry.promoting import promote

    done = promote(ModelsDir(options.models), options.name, options.because, options.accept)
    _print_decision(done, as_json=options.json)


def roll_back(options: Rollback) -> None:
    """Make the model of before current again."""
    from mri_hpc.registry.layout import ModelsDir
    from mri_hpc.registry.promoting import rollback

    _print_decision(rollback(ModelsDir(options.models), options.because), as_json=options.json)


def list_models(options: List) -> None:
    """Print the models with their states."""
    from mri_hpc.registry.layout import ModelsDir
    from mri_hpc.registry.listing import listed

    found = listed(ModelsDir(options.models))
    if options.json:
        print_json({"models": str(options.models), "records": [asdict(one) for one in found]})
    elif not found:
        print(f"{options.models} holds no model: mri-hpc models add RUN adds one")
    else:
        width = max(len(one.name) for one in found)
        for one in found:
            print(f"{one.name:<{width}}  {one.state:<9}  {one.in_words}")


def show_model(options: Show) -> None:
    """Print a record, and the decisions about it."""
    from mri_hpc.registry.layout import ModelsDir
    from mri_hpc.registry.listing import shown_of

    found = shown_of(ModelsDir(options.models), options.name)
    if options.json:
        print_json(found.to_dict())
        return
    record = found.record
    print(f"{record.name}: {found.state}; model {record.model_digest}")
    print(f"{record.model} of {', '.join(record.classes)}; {shown_bytes(record.size)}, all files as added")
    print(f"from {record.run}, snapshot {record.snapshot[:12]} of {record.store}")
    print(f"added {record.added} by {record.who}")
    _print_evidence(found.evidence)
    for line in found.decisions_in_words:
        print(line)


def _print_evidence(evidence: "Sequence[Evidence]") -> None:
    for one in evidence:
        print(f"  {one.word:<12} {one.verdict:<10} {one.words}")


def _print_decision(done: "Promoted", *, as_json: bool) -> None:
    entry: dict[str, Any] = asdict(done.entry)
    if done.note:
        print(done.note, file=sys.stderr)
    if as_json:
        print_json({"before": done.before, "is_new": done.is_new, **entry})
    elif not done.is_new:
        print(f"{done.entry.name} is current already, since {done.entry.when}")
    else:
        name, before = done.entry.name, done.before
        became = "stays current" if before == name else "is current now"
        instead = f", in place of {before}" if before not in ("", name) else ""
        print(f"{name} {became}{instead}: mri-hpc predict --model current asks it")


if __name__ == "__main__":
    sys.exit(main())
