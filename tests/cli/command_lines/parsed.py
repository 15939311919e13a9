"""What a command line gives: the options object as JSON, or the line that refuses it."""

import contextlib
import dataclasses
import importlib
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from unittest import mock

from mri_hpc.base import command

WITH_ACTIONS = ("store", "weights")

SAVED = """\
[training]
model = "densenet121"
store = "/stores/a"
lr = 0.02
batch_size = 32
augment = false
snapshot = "feed"
schedule_epochs = 12
epochs = 12
seed = 7
weights = ""
continue_from = ""
normalise = "auto"
freeze = false
optimizer = "adamw"
weight_decay = 0.01
accumulate = 1
clip_norm = 0.0
label_smoothing = 0.0
ema_decay = 0.0
warmup_epochs = 1.0
class_weights = "balanced"
deterministic = false
precision = "auto"
from_train = "none"

[job]
cluster = "local"
nodes = 2
partition = "long"
slurm = ["gres=gpu:1", "nice=5"]
"""
"""settings.toml of runs/saved and runs/finished, which command lines may name."""


def make_runs(folder: Path) -> None:
    """Make the two runs in a folder: one that is not finished, and one that others may continue."""
    for name in ("saved", "finished"):
        (folder / "runs" / name).mkdir(parents=True)
        (folder / "runs" / name / "settings.toml").write_text(SAVED)
    (folder / "runs" / "finished" / "model.safetensors").touch()


def parsed(argv: Sequence[str]) -> dict[str, Any]:
    """Parse one command line, its first word the command, and do nothing else; paths are relative to here.

    {"options": …} or {"error": line, "status": number}; {"status": 0} where it prints something else.
    """
    module = importlib.import_module(f"mri_hpc.{argv[0]}")
    found: list[Any] = []
    run_command = command.run_command

    def only_parse(name: str, options_type: Any, body: Any, words: Any = None, **more: Any) -> int:
        return run_command(name, options_type, found.append, words, **more)

    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.object(command, "run_command", only_parse),
        mock.patch.object(module, "run_command", only_parse, create=True),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        try:
            status = module.main(list(argv[1:]))
        except SystemExit as left:
            # As the parser of 0.1.0 left.
            status = left.code
    if found:
        options = as_json(found[0])
        if argv[0] in WITH_ACTIONS and "action" not in options:
            # What 0.1.0 had around an action.
            options = {"is": "Options", "action": options}
        return {"options": options}
    line = err.getvalue().strip().replace(str(Path.cwd()), "{here}")
    return {"error": line, "status": status} if status else {"status": 0}


def as_json(value: Any) -> Any:
    """Options, settings within them, and actions, each with the name of its type."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: as_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
        return {"is": type(value).__name__, **fields}
    if isinstance(value, tuple):
        return [as_json(one) for one in value]
    if isinstance(value, Path):
        return {"path": str(value).replace(str(Path.cwd()), "{here}")}
    # JSON has no word for these.
    return repr(value) if isinstance(value, float) else value
