"""Memory of this process, and how much of it there may be."""

import ctypes
import os
from contextlib import suppress
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
# Of cgroup v1 one that is not limited has a number near 2**63.
UNLIMITED = 2**60
# Of glibc's mallopt, as <malloc.h> numbers them.
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


def held_bytes(status: Path = Path("/proc/self/status")) -> int:
    """Return the most memory that this process had at once, but for files that are mapped now.

    Those, as the images of a store, the system takes back where it needs room.
    """
    lines = (line.split() for line in status.read_text().splitlines())
    kilobytes = {words[0]: int(words[1]) for words in lines if words and words[0] in ("VmHWM:", "RssFile:")}
    return 1024 * max(0, kilobytes.get("VmHWM:", 0) - kilobytes.get("RssFile:", 0))


def forget_peak(clear_refs: Path = Path("/proc/self/clear_refs")) -> None:
    """Let held_bytes count from here on; where the kernel does not, it still counts from the beginning."""
    with suppress(OSError):
        clear_refs.write_text("5")


def keep_freed() -> bool:
    """Have this process keep memory that it frees, and take it again from there; False without glibc.

    Else each large tensor of a step is given back to the system, which has to clear its pages anew: with
    resnet18 on a processor a seventh of a step's time at 224 x 224.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    return bool(mallopt and mallopt(M_MMAP_MAX, 0) and mallopt(M_TRIM_THRESHOLD, 2**31 - 1))


def give_back() -> None:
    """Give memory that this process has freed, and kept, back to the system; nothing without glibc."""
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)


def machine_bytes() -> int:
    """Return the memory of this machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def limit_bytes(groups: Path = Path("/proc/self/cgroup"), mounted: Path = CGROUPS) -> int | None:
    """Return the least limit of the control groups that this process is in; None where there is none."""
    try:
        lines = groups.read_text().splitlines()
    except OSError:
        return None
    found = []
    for line in lines:
        _number, controllers, path = line.split(":", 2)
        if not controllers:
            found += _limits(mounted, path, "memory.max")
        elif "memory" in controllers.split(","):
            found += _limits(mounted / "memory", path, "memory.limit_in_bytes")
    return min(found, default=None)


def room_bytes(
    sharers: int = 1, status: Path = Path("/proc/self/status"), machine: Path = Path("/proc/meminfo")
) -> int | None:
    """Return the memory that this process may still take; None where that is not known.

    sharers: processes like this one that have a share of the same limit.
    """
    try:
        free = _kilobytes(machine)["MemAvailable:"]
        own = _kilobytes(status)["RssAnon:"]
    except (OSError, KeyError, ValueError):
        return None
    limit = limit_bytes()
    of_limit = [] if limit is None else [limit - 1024 * sharers * own]
    return max(0, min([1024 * free, *of_limit]))


def _kilobytes(table: Path) -> dict[str, int]:
    """Read a table of the system: ``MemAvailable:  123 kB``."""
    lines = (line.split() for line in table.read_text().splitlines())
    return {words[0]: int(words[1]) for words in lines if len(words) == 3 and words[2] == "kB"}


def _limits(root: Path, path: str, name: str) -> list[int]:
    """List the limits of a group and of all that it is in; in a container some of these may not be seen."""
    folder, found = root / path.lstrip("/"), []
    while True:
        try:
            text = (folder / name).read_text().strip()
        except OSError:
            text = ""
        if text.isdigit() and int(text) < UNLIMITED:
            found.append(int(text))
        if folder in (root, folder.parent):
            return found
        folder = folder.parent
