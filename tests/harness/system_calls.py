"""What the kernel saw a process do to files, by strace: the list that tests/harness/file_operations makes.

Nothing goes by it: neither a library written in C nor a call that no one thought of.
"""

import contextlib
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from mri_hpc.testing.file_operations import Operation
from tests.harness.scenes import Place, Step, start, wait

# Each system call, and what the same change is called in a list of operations.
CALLS = {
    "open": "open", "openat": "open", "creat": "open",
    "write": "write", "pwrite64": "write", "writev": "write", "pwritev": "write", "pwritev2": "write",
    "sendfile": "write", "copy_file_range": "write", "splice": "write", "fallocate": "write", "mmap": "write",
    "ftruncate": "ftruncate", "truncate": "truncate", "fsync": "fsync", "fdatasync": "fdatasync",
    "link": "link", "linkat": "link", "symlink": "symlink", "symlinkat": "symlink",
    "rename": "rename", "renameat": "rename", "renameat2": "rename",
    "unlink": "unlink", "unlinkat": "unlink", "rmdir": "rmdir", "mkdir": "mkdir", "mkdirat": "mkdir",
    "chmod": "chmod", "fchmod": "fchmod", "fchmodat": "chmod", "utime": "utime", "utimes": "utime",
    "utimensat": "utime",
}  # fmt: skip
SAME = {"replace": "rename", "remove": "unlink"}
OPENED_TO_WRITE = re.compile(r"O_(WRONLY|RDWR|CREAT|TRUNC)\b")
LINE = re.compile(r"(\d+) +(\w+)\((.*)\) += (-?\d+|\?)")
BEGUN = re.compile(r"(\d+) +(\w+\(.*) <unfinished \.\.\.>")
ENDED = re.compile(r"(\d+) +<\.\.\. \w+ resumed>(.*)")
# A descriptor with what it stands for, or a name.
PLACE = re.compile(r'(?:AT_FDCWD|\b\d+)<((?:[^\\>]|\\.)*)>|"((?:[^\\"]|\\.)*)"')


def traced(
    place: Place,
    step: Step,
    watch: Callable[[], Callable[[], None]] = lambda: lambda: None,
    refused: str = "",
) -> list[Operation]:
    """Take a step in a process of its own; what it changed below the place, in order, as the kernel saw it.

    watch: as in scenes.start. refused: system calls, divided by commas, that get EPERM in that process.
    """
    gate, go = os.pipe()

    def watch_once_traced() -> Callable[[], None]:
        end = watch()
        os.read(gate, 1)
        return end

    trace = place.sources / "trace"
    child = start(place, step, watch_once_traced)
    with _attached(child, trace, refused):
        os.write(go, b"1")
        status = wait(place, child)
    os.close(gate)
    os.close(go)
    assert status == 0, status
    return changes(trace.read_text().splitlines(), place.root)


def can_trace() -> bool:
    """Whether strace is here, and may look at other processes of this user."""
    if shutil.which("strace") is None:
        return False
    tried = subprocess.run(["strace", "-f", "-o", os.devnull, "true"], capture_output=True, check=False)
    return tried.returncode == 0


def changes(lines: Iterable[str], root: Path) -> list[Operation]:
    """Operations below `root` in the lines that strace -f -y wrote."""
    found = (_operation(line) for line in _whole(lines))
    below = (str(root), f"{root}/")
    return [
        one
        for one in found
        if one and any(path == below[0] or path.startswith(below[1]) for path in (one.path, one.target))
    ]


def alike(operations: Sequence[Operation]) -> list[Operation]:
    """With one name for what the kernel does not tell apart, and the writes to a file in a row as one."""
    plain: list[Operation] = []
    for one in operations:
        now = Operation(
            what=SAME.get(one.what, one.what), path=one.path, target=one.target, failed=one.failed
        )
        if now.what != "write" or plain[-1:] != [now]:
            plain.append(now)
    return plain


@contextlib.contextmanager
def _attached(process: int, trace: Path, refused: str) -> Iterator[None]:
    """strace on a process, until that process ends."""
    inject = [f"--inject={refused}:error=EPERM"] if refused else []
    command = ["strace", "-f", "-y", "-s", "0", "-o", str(trace), f"--trace={','.join(CALLS)}", *inject]
    with subprocess.Popen([*command, "-p", str(process)], stderr=subprocess.PIPE, text=True) as strace:
        assert strace.stderr is not None
        said = strace.stderr.readline()
        assert "attached" in said, said
        yield


def _whole(lines: Iterable[str]) -> Iterator[str]:
    """Lines of calls that other threads ran in the middle of, put together where they ended."""
    begun: dict[str, str] = {}
    for line in lines:
        if found := BEGUN.match(line):
            begun[found[1]] = found[2]
        elif found := ENDED.match(line):
            yield f"{found[1]} {begun.pop(found[1])}{found[2]}"
        else:
            yield line


def _operation(line: str) -> Operation | None:
    found = LINE.match(line)
    if not found:
        return None
    call, arguments, is_failed = found[2], found[3], found[4] == "-1"
    what = CALLS[call]
    if what == "open" and not OPENED_TO_WRITE.search(arguments) and call != "creat":
        return None
    if call == "mmap" and not ("MAP_SHARED" in arguments and "PROT_WRITE" in arguments):
        return None
    if call == "unlinkat" and "AT_REMOVEDIR" in arguments:
        what = "rmdir"
    path, target = (*_paths(arguments), "", "")[:2]
    return Operation(what=what, path=path, target=target, failed=is_failed)


def _paths(arguments: str) -> list[str]:
    """The files that a call names; a name counts from the folder whose descriptor precedes it."""
    paths, folder = [], ""
    for descriptor, name in PLACE.findall(arguments):
        if name:
            paths.append(str(Path(folder) / _plain(name)))
            folder = ""
        else:
            if folder:
                paths.append(folder)
            folder = _plain(descriptor)
    return [*paths, folder] if folder else paths


def _plain(text: str) -> str:
    return os.fsdecode(text.encode("latin-1").decode("unicode_escape").encode("latin-1"))
