"""Memory for batches, used again and again: fresh pages cost about as much as filling them."""

import contextlib
import math
import mmap
import weakref
from dataclasses import dataclass

import numpy as np

# Huge pages are of this size, where the system has them.
ROUND_BYTES = 2 * 2**20


@dataclass(kw_only=True)
class _Room:
    memory: mmap.mmap
    user: "weakref.ref[np.ndarray]"
    """The array that lies there, and lives as long as any array or tensor that shares its memory."""


class Buffers:
    """Gives out arrays, and their memory again once no part of them is held; for one thread at a time."""

    def __init__(self) -> None:
        self._rooms: list[_Room] = []

    def empty(self, shape: tuple[int, ...]) -> np.ndarray:
        """Return an array of any content, on a page's edge: uint8, of that shape."""
        size = math.prod(shape)
        room = next((room for room in self._rooms if room.user() is None and len(room.memory) >= size), None)
        memory = room.memory if room else self._new_memory(size)
        # Slices and tensors refer to this array, never past it to the memory.
        whole = np.frombuffer(memory, np.uint8, size)
        user = weakref.ref(whole)
        if room:
            room.user = user
        else:
            self._rooms.append(_Room(memory=memory, user=user))
        return whole.reshape(shape)

    def _new_memory(self, size: int) -> mmap.mmap:
        # Whoever asks for larger arrays will not ask for the smaller ones again.
        self._rooms = [room for room in self._rooms if len(room.memory) >= size or room.user() is not None]
        # Not malloc: its large arrays begin 16 bytes into a page, to where copying takes up to twice as long.
        length = max(1, -(-size // ROUND_BYTES)) * ROUND_BYTES
        # Private: most systems give no huge pages to what processes could share.
        memory = mmap.mmap(-1, length, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        # Some kernels are built without huge pages.
        with contextlib.suppress(OSError):
            memory.madvise(mmap.MADV_HUGEPAGE)
        return memory
