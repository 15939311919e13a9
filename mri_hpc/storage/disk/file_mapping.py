"""Files mapped to given addresses: Python's mmap can place nothing, and keeps a descriptor of each file."""

import ctypes
import mmap
import os

import numpy as np

# mmap(2)
_MAP_FIXED, _FAILED = 0x10, ctypes.c_void_p(-1).value
_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = (
    ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long,
)  # fmt: skip


def mapped_whole(descriptor: int) -> mmap.mmap:
    """Map a whole open file, to be read; it may be closed. ValueError where it is empty."""
    size = os.fstat(descriptor).st_size
    if not size:
        raise ValueError("the file is empty")
    mapped = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=mmap.PROT_READ)
    map_to(np.frombuffer(mapped, np.uint8).ctypes.data, size, descriptor, 0)
    return mapped


def map_to(address: int, size: int, descriptor: int, offset: int) -> None:
    """Map a part of an open file, to be read, to an address that is ours; both begin where a page does."""
    flags = mmap.MAP_SHARED | _MAP_FIXED
    if _libc.mmap(address, size, mmap.PROT_READ, flags, descriptor, offset) == _FAILED:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
