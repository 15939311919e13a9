"""metrics.jsonl: one line a training step, one a validation, none of them twice."""

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mri_hpc.base.atomic import replace_bytes
from mri_hpc.base.documents import parse_lines, with_format, without_format
from mri_hpc.rundir.layout import Attempt, RunDir

FORMAT = 1
LAST_BYTES = 4096
"""In which there are some of the last lines."""
VALIDATION = b'"validation_loss"'


class MetricsLog:
    """The file, open for one attempt; lines of earlier attempts beyond the step resumed from are dropped,
    and validations from `resumed_epoch` on: a checkpoint can be of the last step of an epoch, not validated.

    The file is replaced, not cut: an older attempt that still runs holds the old file, which is not read.
    """

    def __init__(self, run: RunDir, attempt: Attempt, *, resumed_step: int, resumed_epoch: int) -> None:
        self._attempt = str(attempt)
        lines = [line for line in read_metrics(run) if line["step"] <= resumed_step]
        kept = [line for line in lines if "validation_loss" not in line or line["epoch"] < resumed_epoch]
        replace_bytes(run.metrics, b"".join(map(_line, kept)))
        self._file = os.open(run.metrics, os.O_WRONLY | os.O_APPEND)

    def step(
        self, *, step: int, epoch: int, loss: float, lr: float, images: int, seconds: float, **metrics: float
    ) -> None:
        """Append one training step: mean loss over the batch, seconds it took, and other figures by name."""
        values = {"step": step, "epoch": epoch, "loss": loss, "lr": lr, "images": images}
        self._append({**values, "seconds": round(seconds, 5), **metrics})

    def validation(self, *, step: int, epoch: int, loss: float, **metrics: float) -> None:
        """Append one validation: mean loss over the validation split, and other figures by name."""
        self._append({"step": step, "epoch": epoch, "validation_loss": loss, **metrics})

    def sync(self) -> None:
        """Make all lines so far durable."""
        os.fsync(self._file)

    def close(self) -> None:
        """Close the file."""
        os.close(self._file)

    def _append(self, values: dict[str, Any]) -> None:
        # One write a line, so that a kill loses nothing. A lost node loses what came after the last sync, and
        # replay makes again what comes after a checkpoint: who publishes one has to sync before.
        os.write(self._file, _line({**values, "attempt": self._attempt}))


def read_metrics(run: RunDir) -> list[dict[str, Any]]:
    """Read all lines in order but for those cut short. UserError where they are of a newer format."""
    path = run.metrics
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    return [found for values in parse_lines(lines) if (found := _values(values, of=path))]


def skim_metrics(run: RunDir) -> list[dict[str, Any]]:
    """Read the lines of all validations, and of the last steps, in order. UserError as `read_metrics`.

    No other line is parsed: of a long run that takes a hundredth of the time.
    """
    path = run.metrics
    try:
        document = path.read_bytes()
    except FileNotFoundError:
        return []
    last = document.rfind(b"\n", 0, max(0, len(document) - LAST_BYTES)) + 1
    texts = [*_validations(document[:last]), *document[last:].splitlines()]
    lines = [text.decode(errors="replace") for text in texts]
    return [found for values in parse_lines(lines) if (found := _values(values, of=path))]


def _validations(document: bytes) -> Iterator[bytes]:
    found = document.find(VALIDATION)
    while found >= 0:
        end = document.find(b"\n", found)
        yield document[document.rfind(b"\n", 0, found) + 1 : end]
        found = document.find(VALIDATION, end)


def _line(values: dict[str, Any]) -> bytes:
    return json.dumps(with_format(FORMAT, values)).encode() + b"\n"


def _values(line: Mapping[str, Any], *, of: Path) -> dict[str, Any] | None:
    try:
        values = without_format(line, of=of, reads=FORMAT)
    except ValueError:
        return None
    return values if "step" in values else None
