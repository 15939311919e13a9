"""Pictures of a prediction, in a file until its pages are written: any number of them needs no memory."""

import os
import tempfile
import weakref
from dataclasses import dataclass


class KeptPictures:
    """A file without a name, in TMPDIR, for this process alone: gone with the last picture, or with it."""

    def __init__(self) -> None:
        with tempfile.TemporaryFile() as file:
            self._file = os.dup(file.fileno())
        weakref.finalize(self, os.close, self._file)
        self._end = 0

    def keep(self, picture: bytes) -> "KeptPicture":
        """Write a picture down. OSError where there is no room."""
        start, rest = self._end, memoryview(picture)
        while rest:
            try:
                written = os.pwrite(self._file, rest, self._end)
            except OSError as error:
                # The file has no name by which it could be found.
                error.filename = f"{tempfile.gettempdir()} (TMPDIR names another folder)"
                raise
            self._end, rest = self._end + written, rest[written:]
        return KeptPicture(self, start, len(picture))

    def read(self, start: int, length: int) -> bytes:
        """Read back what was kept from `start` on."""
        return os.pread(self._file, length, start)


@dataclass(frozen=True)
class KeptPicture:
    """One of them."""

    pictures: KeptPictures
    start: int
    length: int

    def read(self) -> bytes:
        """Read it back."""
        return self.pictures.read(self.start, self.length)
