"""Files of weights and of the optimizer's state, whose writers say plainly why they could not write."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch


def write_weights(
    path: Path, weights: Mapping[str, torch.Tensor], metadata: dict[str, str] | None = None
) -> None:
    """Write a safetensors file. Raises OSError where it cannot be written."""
    # Not save_file, whose errors bury the operating system's in a text.
    path.write_bytes(safetensors.torch.save(dict(weights), metadata))


def write_state(path: Path, state: Any) -> None:
    """Write what torch.load reads. Raises OSError where it cannot be written."""
    with path.open("wb") as file:
        try:
            torch.save(state, file)
        except RuntimeError as error:
            # torch complains of where its writer stands; the reason is what that met.
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise
