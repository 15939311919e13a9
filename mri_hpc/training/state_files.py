"""Files of weights and of the optimizer's state: written piece by piece, and hashed as they are written."""

import hashlib
import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer as Buffer

PIECE_BYTES = 4 << 20
"""A write asks so often whether it is to go on."""
# As safetensors sorts them: the widest first, so that each begins where its type may.
CODES: Mapping[torch.dtype, str] = {
    torch.int64: "I64", torch.float64: "F64", torch.float32: "F32", torch.int32: "I32",
    torch.bfloat16: "BF16", torch.float16: "F16", torch.int16: "I16", torch.int8: "I8",
    torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip
ORDER = list(CODES)


def go_on() -> None:
    """Have nothing against the next piece."""


class HashedFile(io.FileIO):
    """A new file that is written from its beginning to its end, with the sha256 of its bytes."""

    def __init__(self, path: Path, before_piece: Callable[[], None]) -> None:
        """before_piece: called before each piece; what it raises ends the write."""
        # Weights that somebody has loaded may still lie in the file of before, which is left to them whole.
        path.unlink(missing_ok=True)
        super().__init__(path, "x")
        self._before_piece, self._digest = before_piece, hashlib.sha256()

    def write(self, data: "Buffer") -> int:
        """Write all of it; returns its bytes."""
        view = memoryview(data).cast("B")
        for start in range(0, len(view), PIECE_BYTES):
            self._before_piece()
            piece = view[start : start + PIECE_BYTES]
            self._digest.update(piece)
            while piece:
                piece = piece[super().write(piece) :]
        return len(view)

    def hexdigest(self) -> str:
        """Return the sha256 of what was written so far."""
        return self._digest.hexdigest()


def write_weights(
    path: Path,
    weights: Mapping[str, torch.Tensor],
    metadata: Mapping[str, str] | None = None,
    *,
    before_piece: Callable[[], None] = go_on,
) -> str:
    """Write a safetensors file; returns the sha256 of its bytes. Raises OSError where it cannot be written.

    As the library's save would, which makes all of the file in memory, and holds up other threads meanwhile;
    its save_file buries the operating system's errors in a text.
    """
    names = sorted(weights, key=lambda name: (ORDER.index(weights[name].dtype), name))
    with HashedFile(path, before_piece) as file:
        file.write(_header({name: weights[name] for name in names}, metadata))
        for name in names:
            file.write(bytes_of(weights[name]))
    return file.hexdigest()


def write_state(path: Path, state: Any, *, before_piece: Callable[[], None] = go_on) -> str:
    """Write what torch.load reads; returns the sha256 of its bytes. OSError where it cannot be written."""
    with HashedFile(path, before_piece) as file:
        try:
            torch.save(state, file)
        except RuntimeError as error:
            # torch complains of where its writer stands; the reason is what that met.
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise
    return file.hexdigest()


def bytes_of(tensor: torch.Tensor) -> memoryview:
    """View the bytes of a tensor, in the order of its numbers; of one on a GPU those of a copy."""
    on_processor = tensor.detach().cpu().contiguous()
    return on_processor.reshape(-1).view(torch.uint8).numpy().data


def _header(weights: Mapping[str, torch.Tensor], metadata: Mapping[str, str] | None) -> bytes:
    """Return what stands before the tensors: length, names, types, shapes, places; in full words."""
    entries: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata is not None else {}
    end = 0
    for name, tensor in weights.items():
        begin, end = end, end + tensor.numel() * tensor.element_size()
        entries[name] = {
            "dtype": CODES[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [begin, end],
        }  # fmt: skip
    text = json.dumps(entries, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text
