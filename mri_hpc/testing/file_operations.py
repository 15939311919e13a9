"""Every operation by which this process changes files below a folder: listed, and a place to die.

The functions of ``os`` and ``io.open`` are wrapped, since all that mri_hpc writes goes through them: what the
HDF5 library writes lies in memory only. A write is cut in two, so that a process can die amid it.
"""

import io
import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC
FOLDER = os.O_DIRECTORY
# Functions of os that take the name of a file, and of these the ones that take two.
ONE_NAME = ("mkdir", "rmdir", "unlink", "remove", "chmod", "truncate", "utime")
TWO_NAMES = ("link", "rename", "replace", "symlink")
ON_DESCRIPTOR = ("fsync", "fdatasync", "ftruncate", "fchmod")
WRITES = ("write", "pwrite", "writev", "sendfile", "copy_file_range")


@dataclass(frozen=True, kw_only=True)
class Operation:
    """One change of files."""

    what: str
    """Name of the function of os."""
    path: str
    """The file or folder; of two, the one that was there."""
    target: str = ""
    """Of two names, the new one."""
    failed: bool = False
    """The system refused it, as where a name is taken."""


class FileOperations:
    """Wraps what changes files below `root`. At the moment `at`, from 1, a signal ends or stops the process.

    A moment lies before the first operation, after each, which is before the next, and amid each write.
    Once installed, it stays.
    """

    def __init__(self, root: Path, at: int = 0, *, by: signal.Signals = signal.SIGKILL) -> None:
        # Operations are compared by whole paths.
        self.root = str(root.absolute())
        self.done: list[Operation] = []
        self.moments = 0
        self._at, self._by = at, by

    def install(self) -> "FileOperations":
        """Wrap the functions, for the rest of this process."""
        for name in ONE_NAME:
            self._wrap(name, lambda path, *_rest, dir_fd=None, **_more: (_full(path, dir_fd), ""))
        for name in TWO_NAMES:
            self._wrap(
                name,
                lambda path, target, *_rest, src_dir_fd=None, dst_dir_fd=None, **_more: (
                    _full(path, src_dir_fd),
                    _full(target, dst_dir_fd),
                ),
            )
        for name in ON_DESCRIPTOR:
            self._wrap(name, lambda descriptor, *_rest: (_path_of(descriptor), ""))
        self._wrap_open()
        self._wrap_writes()
        return self

    def _wrap(self, name: str, names: Callable[..., tuple[str, str]]) -> None:
        real = getattr(os, name)

        def wrapped(*arguments: Any, **options: Any) -> Any:
            path, target = names(*arguments, **options)
            return self._around(name, path, target, lambda: real(*arguments, **options))

        setattr(os, name, wrapped)

    def _wrap_open(self) -> None:
        real_open, real_io_open = os.open, io.open

        def wrapped(path: Any, flags: int, *rest: Any, dir_fd: int | None = None, **options: Any) -> int:
            def call() -> int:
                return real_open(path, flags, *rest, dir_fd=dir_fd, **options)

            is_change = flags & WRITING and not flags & FOLDER
            return self._around("open", _full(path, dir_fd), "", call) if is_change else call()

        def wrapped_io(file: Any, mode: str = "r", *rest: Any, **options: Any) -> Any:
            if not set(mode) & set("wxa+"):
                return real_io_open(file, mode, *rest, **options)
            # All that writes here writes bytes; texts and appending would need a case of their own.
            is_plain = set(rest) | set(options.values()) <= {-1, None}
            assert "b" in mode and "+" not in mode and is_plain, (file, mode, rest, options)
            if isinstance(file, int):
                return io.BufferedWriter(_WatchedFile(file, mode, self))
            raw = self._around("open", _full(file), "", lambda: _WatchedFile(file, mode, self))
            return io.BufferedWriter(raw)

        os.open, io.open = wrapped, wrapped_io

    def _wrap_writes(self) -> None:
        real = os.write

        def wrapped(descriptor: int, data: Any) -> int:
            return self.cut_in_two(_path_of(descriptor), data, lambda part: real(descriptor, part))

        def refused(*_arguments: Any, **_options: Any) -> Any:
            raise AssertionError("this way of writing is not watched yet")

        os.write = wrapped
        for name in WRITES[1:]:
            setattr(os, name, refused)

    def cut_in_two(self, path: str, data: Any, write: Callable[[Any], int]) -> int:
        """Write the first half, pass a moment, write the rest."""
        view = memoryview(data).cast("B")
        if not self._is_ours(path):
            return write(view)
        self._begin()
        half = write(view[: len(view) // 2]) if len(view) > 1 else 0
        self._moment()
        written = half + (write(view[half:]) or 0)
        self.done.append(Operation(what="write", path=path))
        self._moment()
        return written

    def _around(self, what: str, path: str, target: str, call: Callable[[], Any]) -> Any:
        if not self._is_ours(path) and not self._is_ours(target):
            return call()
        self._begin()
        try:
            result = call()
        except OSError:
            self.done.append(Operation(what=what, path=path, target=target, failed=True))
            raise
        self.done.append(Operation(what=what, path=path, target=target))
        self._moment()
        return result

    def _is_ours(self, path: str) -> bool:
        return path == self.root or path.startswith(f"{self.root}/")

    def _begin(self) -> None:
        if not self.moments:
            self._moment()

    def _moment(self) -> None:
        self.moments += 1
        if self.moments == self._at:
            os.kill(os.getpid(), self._by)


class _WatchedFile(io.FileIO):
    def __init__(self, file: Any, mode: str, operations: FileOperations) -> None:
        super().__init__(file, mode.replace("b", ""))
        self._operations = operations

    def write(self, data: Any) -> int:
        path = _path_of(self.fileno())
        return self._operations.cut_in_two(path, data, lambda part: super(_WatchedFile, self).write(part))


def _full(path: Any, folder: int | None = None) -> str:
    name = _path_of(path) if isinstance(path, int) else os.fsdecode(path)
    above = Path(_path_of(folder)) if folder is not None else Path.cwd()
    return str(above / name)


def _path_of(descriptor: int) -> str:
    return str(Path(f"/proc/self/fd/{descriptor}").readlink())
