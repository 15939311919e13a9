"""Root without its powers, as any other user has none, on the files that root may read."""

import contextlib
import ctypes
import os
from collections.abc import Iterator

VERSION = 0x20080522
GET_SECUREBITS, SET_SECUREBITS = 27, 28
# Programs that are started get none back.
NO_ROOT = 1
# Sets are effective, permitted and inheritable, of 32 powers each, then of 32 more.
EFFECTIVE = (0, 3)


@contextlib.contextmanager
def without_powers() -> Iterator[None]:
    """Have permissions apply to this thread and to what it starts, and nothing be mounted by them."""
    if os.geteuid() != 0:
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(VERSION, 0)
    before, none = (ctypes.c_uint32 * 6)(), (ctypes.c_uint32 * 6)()
    _check(libc.capget(header, before))
    none[:] = [0 if number in EFFECTIVE else powers for number, powers in enumerate(before)]
    bits = libc.prctl(GET_SECUREBITS)
    # Refused in a container that may not: then only this process has none.
    libc.prctl(SET_SECUREBITS, bits | NO_ROOT)
    _check(libc.capset(header, none))
    try:
        yield
    finally:
        _check(libc.capset(header, before))
        libc.prctl(SET_SECUREBITS, bits)


def _check(status: int) -> None:
    if status != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
