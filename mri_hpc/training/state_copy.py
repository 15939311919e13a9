"""A copy of a state, that stays as it is while the training goes on."""

import itertools

import torch

from mri_hpc.training.state import TrainingState

Key = tuple[int, torch.Size, tuple[int, ...], torch.dtype]


class StateCopy:
    """Memory for one copy of a state, taken once and filled again at each save.

    Of tensors on a GPU it is pinned, so that they come over at the rate of the bus.
    """

    def __init__(self) -> None:
        self._buffers: list[torch.Tensor] = []

    @torch.no_grad()
    def take(self, state: TrainingState) -> TrainingState:
        """Copy a state, on the processor; tensors that are one stay one, and lie as they lay.

        Raises MemoryError where there is not so much.
        """
        places, copies = itertools.count(), dict[Key, torch.Tensor]()
        devices = set[torch.device]()

        def copy(tensor: torch.Tensor) -> torch.Tensor:
            key = (tensor.data_ptr(), tensor.shape, tensor.stride(), tensor.dtype)
            if key not in copies or not tensor.numel():
                place = next(places)
                self._fit(place, tensor)
                copies[key] = self._buffers[place].copy_(tensor, non_blocking=True)
                if tensor.is_cuda:
                    devices.add(tensor.device)
            return copies[key]

        copied = state.changed(copy)
        for device in devices:
            torch.cuda.current_stream(device).synchronize()
        return copied

    @property
    def num_bytes(self) -> int:
        """Memory that it holds."""
        return sum(buffer.untyped_storage().nbytes() for buffer in self._buffers)

    def _fit(self, place: int, tensor: torch.Tensor) -> None:
        """Have a buffer at this place that lies as the tensor does."""
        if place == len(self._buffers):
            self._buffers.append(_like(tensor))
        old = self._buffers[place]
        if (old.shape, old.stride(), old.dtype) != (tensor.shape, tensor.stride(), tensor.dtype):
            self._buffers[place] = _like(tensor)


def _like(tensor: torch.Tensor) -> torch.Tensor:
    try:
        return torch.empty_strided(
            tensor.size(), tensor.stride(), dtype=tensor.dtype, device="cpu", pin_memory=tensor.is_cuda
        )
    except RuntimeError as error:
        # In torch's words, of several lines.
        raise MemoryError(str(error).partition("\n")[0]) from None


def bytes_of_copy(state: TrainingState) -> int:
    """Return the memory that a copy of a state takes at most."""
    sizes: list[int] = []

    def count(tensor: torch.Tensor) -> torch.Tensor:
        sizes.append(tensor.numel() * tensor.element_size())
        return tensor

    state.changed(count)
    return sum(sizes)
