"""``mri-hpc weights``: torchvision's published weights, fetched where there is a way to the internet."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from mri_hpc.base.command import Action, print_json, run_action, shown_bytes
from mri_hpc.base.errors import UserError
from mri_hpc.base.marks import POSITIONAL, Flag, Word
from mri_hpc.base.settings import nearest
from mri_hpc.rundir.site_file import site_file, take_variables

if TYPE_CHECKING:
    from mri_hpc.training.pretrained import Published

EXAMPLE = "mri-hpc weights fetch resnet50"


@dataclass(frozen=True, kw_only=True)
class Fetch:
    """Download published weights, for launch --weights pretrained; run it where there is internet access.

    They go to torch's own folder: TORCH_HOME/hub/checkpoints, or ~/.cache/torch/hub/checkpoints. All nodes
    must see that folder. Files that are there and whole are not downloaded again.
    """

    models: Annotated[tuple[str, ...], POSITIONAL, Word(value="[MODEL ...]")]
    """Names of models, such as resnet50; weights list names all."""
    json: Flag = False
    """Print as JSON."""


@dataclass(frozen=True, kw_only=True)
class List:
    """Name the models that have published weights, and say whose are here already."""

    json: Flag = False
    """Print as JSON."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    return run_action(
        "mri-hpc weights",
        "Fetch weights that torchvision publishes, trained on ImageNet, and see which are here.",
        {
            "fetch": lambda: Action(options=Fetch, body=fetch_weights, example=EXAMPLE),
            "list": lambda: Action(options=List, body=list_weights, example="mri-hpc weights list --json"),
        },
        argv,
        example=EXAMPLE,
    )


def fetch_weights(options: Fetch) -> None:
    """Fetch the weights of the models that are not here yet, and say where all of them lie."""
    # Importing torch takes seconds: not for --help.
    from mri_hpc.training.pretrained import known_models, published, where_to_share

    take_variables(site_file())
    if not options.models:
        raise UserError("no model given: name some, such as resnet50; see: mri-hpc weights list")
    known = known_models()
    for model in options.models:
        if model not in known:
            raise UserError(f"torchvision publishes no weights of {model!r}{nearest(model, known)}")

    rows = []
    for wanted in map(published, options.models):
        done = _have(wanted)
        num_bytes = wanted.path.stat().st_size
        rows.append({"model": wanted.model, "outcome": done, "path": str(wanted.path), "bytes": num_bytes})
        if not options.json:
            print(f"{wanted.model}: {done}, {shown_bytes(num_bytes)}: {wanted.path}")
    if options.json:
        print_json(rows)
    else:
        print(where_to_share())


def list_weights(options: List) -> None:
    """Print the models that have published weights, and whether those are here."""
    from mri_hpc.training.pretrained import known_models, published

    take_variables(site_file())
    found = list(map(published, known_models()))
    if options.json:
        print_json([
            {"model": one.model, "bytes": one.num_bytes, "is_here": one.is_there, "path": str(one.path)}
            for one in found
        ])  # fmt: skip
        return
    for one in found:
        size, here = shown_bytes(one.num_bytes), "here" if one.is_there else ""
        print(f"{one.model:<20} {size:>10}  {here}".rstrip())


def _have(wanted: "Published") -> str:
    """Fetch the weights unless they are here and whole; return what was done, for people."""
    from mri_hpc.training.pretrained import fetch

    if wanted.is_whole():
        return "already there"
    was_there = wanted.is_there
    fetch(wanted)
    return "was damaged, fetched again" if was_there else "fetched"


if __name__ == "__main__":
    sys.exit(main())
