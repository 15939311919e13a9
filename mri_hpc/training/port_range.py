"""Ports of a range for all that listens within torch and NCCL, which take no wish.

Gloo, NCCL and torch's store let the kernel choose their ports, from net.ipv4.ip_local_port_range, which only
root may change. Where nodes reach each other on a few ports alone, ranks would not meet. So the entry of
``bind`` in the tables by which these libraries call the C library is replaced, in this process, by one that
chooses: as LD_PRELOAD would, without a library of ours to be compiled on every cluster.
"""

import ctypes
import errno
import os
import socket
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mri_hpc.base.network import PortRange, ports_to_try

LIBRARIES = ("libtorch", "libnccl", "libgloo", "libc10")
# Of elf.h.
PT_DYNAMIC = 2
DT_PLTRELSZ, DT_STRTAB, DT_SYMTAB, DT_RELA, DT_RELASZ, DT_JMPREL = 2, 5, 6, 7, 8, 23
# Of entries that hold a function's address: R_X86_64_GLOB_DAT, JUMP_SLOT; R_AARCH64_GLOB_DAT, JUMP_SLOT.
ADDRESS_KINDS = (6, 7, 1025, 1026)
SEGMENT, DYNAMIC, SYMBOL_BYTES = struct.Struct("<IIQQQQQQ"), struct.Struct("<qQ"), 24
RELOCATION = np.dtype([("offset", "<u8"), ("kind", "<u4"), ("symbol", "<u4"), ("addend", "<i8")])
PROT_READ_WRITE = 3
BIND = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_uint, use_errno=True)


class _LoadedObject(ctypes.Structure):
    """The head of dl_phdr_info, of link.h."""

    _fields_ = (
        ("base", ctypes.c_size_t),
        ("name", ctypes.c_char_p),
        ("segments", ctypes.c_void_p),
        ("num_segments", ctypes.c_uint16),
    )


@dataclass(frozen=True, kw_only=True)
class _Library:
    """One library of this process."""

    base: int
    dynamic: dict[int, int]
    """Its dynamic section: tag → value."""


# For good: the libraries call it until the process ends.
_kept: list[object] = []


def keep_within(ports: PortRange) -> int:
    """Have sockets of torch and NCCL that name no port listen within a range; returns the places replaced."""
    libc = ctypes.CDLL(None, use_errno=True)
    real = BIND(("bind", libc))
    chosen = BIND(lambda handle, address, size: _bind(real, ports, handle, address, size))
    _kept.append(chosen)
    pointer = ctypes.cast(chosen, ctypes.c_void_p).value
    assert pointer
    places = [place for library in _libraries(libc) for place in _places_of(library, b"bind")]
    for place in places:
        _make_writable(libc, place)
        ctypes.memmove(place, struct.pack("<Q", pointer), 8)
    return len(places)


def _bind(real: "ctypes._FuncPointer", ports: PortRange, handle: int, address: int, size: int) -> int:
    """Bind as the C library does, to a port of the range where the caller leaves the choice."""
    given = ctypes.string_at(address, size)
    family, port = struct.unpack_from("=H", given)[0], given[2:4]
    if family not in (socket.AF_INET, socket.AF_INET6) or port != b"\0\0":
        return int(real(handle, address, size))
    status = -1
    for number in ports_to_try(ports, os.getpid()):
        named = ctypes.create_string_buffer(given[:2] + number.to_bytes(2, "big") + given[4:], size)
        status = int(real(handle, ctypes.addressof(named), size))
        if status == 0 or ctypes.get_errno() != errno.EADDRINUSE:
            break
    return status


def _libraries(libc: ctypes.CDLL) -> list[_Library]:
    """List the libraries of torch and NCCL that this process has loaded."""
    found: list[_Library] = []
    kind = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(_LoadedObject), ctypes.c_size_t, ctypes.c_void_p)

    def see(loaded: "ctypes._Pointer[_LoadedObject]", _size: int, _data: int) -> int:
        one = loaded.contents
        if Path(one.name.decode()).name.startswith(LIBRARIES):
            segments = ctypes.string_at(one.segments, SEGMENT.size * one.num_segments)
            for type_, _flags, _offset, virtual, *_, size, _align in SEGMENT.iter_unpack(segments):
                if type_ == PT_DYNAMIC:
                    table = DYNAMIC.iter_unpack(ctypes.string_at(one.base + virtual, size // 16 * 16))
                    found.append(_Library(base=one.base, dynamic=dict(reversed(list(table)))))
        return 0

    libc.dl_iterate_phdr(kind(see), None)
    return found


def _places_of(library: _Library, name: bytes) -> Iterator[int]:
    """Yield the addresses at which a library holds that of a function of another one."""
    values = library.dynamic
    for table, size in ((DT_JMPREL, DT_PLTRELSZ), (DT_RELA, DT_RELASZ)):
        if table not in values or size not in values:
            continue
        # Not copied: it has many megabytes.
        raw = (ctypes.c_char * values[size]).from_address(values[table])
        relocations = np.frombuffer(memoryview(raw).cast("B"), dtype=RELOCATION)
        for one in relocations[np.isin(relocations["kind"], ADDRESS_KINDS)]:
            symbol = values[DT_SYMTAB] + SYMBOL_BYTES * int(one["symbol"])
            text = values[DT_STRTAB] + struct.unpack("<I", ctypes.string_at(symbol, 4))[0]
            if ctypes.string_at(text, len(name) + 1) == name + b"\0":
                yield library.base + int(one["offset"])


def _make_writable(libc: ctypes.CDLL, place: int) -> None:
    page = os.sysconf("SC_PAGE_SIZE")
    if libc.mprotect(ctypes.c_void_p(place // page * page), ctypes.c_size_t(page), PROT_READ_WRITE) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
