"""Sources: the files below the source root, and the key by which each is known for good."""

import hashlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mri_hpc.base.access import publish_private
from mri_hpc.base.errors import BadSource, UserError
from mri_hpc.intake.files import archives

if TYPE_CHECKING:
    import numpy as np

PASSED_OVER = {"__MACOSX", "Thumbs.db", "desktop.ini", "lost+found"}
"""Names that systems leave behind; never an image. Names that begin with a dot are passed over, too."""

_Above = tuple[tuple[int, int], ...] | None
"""Device and inode of each folder on the way down to a folder; None: a file."""


@dataclass(frozen=True, kw_only=True)
class Source:
    """One file, or several that only together hold an image: read, stored or rejected as a whole."""

    key: int
    """By which it is known for good; see source_key and Pseudonyms.source_key."""
    files: tuple[str, ...]
    """Paths below the root, with forward slashes, in an order that enters its fingerprint."""

    @property
    def path(self) -> str:
        """By which it is labelled, and named to those who look for it: that of its first file."""
        return self.files[0]


@dataclass(frozen=True, kw_only=True, eq=False)
class Sources:
    """Sources below the root. In columns: there may be millions."""

    keys: "np.ndarray"
    """As in Source: uint64, (n,)."""
    files: Sequence[str]
    """As in Source, those of one source after those of another."""
    starts: "np.ndarray"
    """Start in `files` of those of each source, and the end of the last ones: int64, (n + 1,)."""
    listing: Sequence[str] = ()
    """All files of the listing that they were picked from."""

    @classmethod
    def of_files(cls, keys: "np.ndarray", files: Sequence[str]) -> "Sources":
        """Make sources of one file each."""
        import numpy as np

        return cls(keys=keys, files=files, starts=np.arange(len(files) + 1), listing=files)

    @property
    def paths(self) -> Sequence[str]:
        """As in Source."""
        if len(self.files) == len(self):
            return self.files
        return [self.files[start] for start in self.starts[:-1].tolist()]

    def __len__(self) -> int:
        return len(self.keys)

    def __iter__(self) -> Iterator[Source]:
        starts = self.starts.tolist()
        for key, start, end in zip(self.keys.tolist(), starts[:-1], starts[1:], strict=True):
            yield Source(key=key, files=tuple(self.files[start:end]))

    def take(self, rows: "np.ndarray") -> "Sources":
        """Pick some of them, in the order of rows: int64."""
        import numpy as np

        counts = np.diff(self.starts)[rows]
        starts = np.concatenate([[0], np.cumsum(counts)])
        files = np.arange(starts[-1]) + np.repeat(self.starts[rows] - starts[:-1], counts)
        return Sources(
            keys=self.keys[rows],
            files=[self.files[file] for file in files.tolist()],
            starts=starts,
            listing=self.listing,
        )

    def __getitem__(self, rows: slice) -> "Sources":
        first, stop, _step = rows.indices(len(self))
        starts = self.starts[first : stop + 1]
        return Sources(
            keys=self.keys[rows],
            files=self.files[starts[0] : starts[-1]],
            starts=starts - starts[0],
            listing=self.listing,
        )


def source_key(root_name: str, path: str, frame: str = "") -> int:
    """Derive the key of a source, or of one frame in it: the first 8 bytes of the sha256 of its name."""
    return int.from_bytes(hashlib.sha256(source_name(root_name, path, frame)).digest()[:8], "big")


def source_name(root_name: str, path: str, frame: str = "") -> bytes:
    """Return the name that keys are made from: ``ROOT/path[#frame]``."""
    name = f"{root_name}/{path}#{frame}" if frame else f"{root_name}/{path}"
    # As os.fsencode, which takes longer than the digest.
    return name.encode("utf-8", "surrogateescape")


def root_name(root: Path) -> str:
    """Return the name by which a source root enters keys: its folder's own, wherever that folder lies."""
    plain = root.absolute()
    return (plain.resolve() if ".." in plain.parts else plain).name


def root_at_site(name: str, site: str) -> str:
    """Return the name by which the root of one of several sites enters keys. name: as root_name gives it.

    No other root is called so: a folder's name holds no slash.
    """
    return f"{site}//{name}" if site else name


def check_root(root: Path) -> None:
    """Raise UserError where the source is not a folder."""
    if not root.is_dir():
        found = "is not a folder" if root.exists() else "does not exist"
        raise UserError(f"{root} {found}: --source (or MRI_SOURCE) takes the folder that holds the images")


def list_sources(root: Path) -> Iterator[str]:
    """Yield paths of all files below the root, sorted by folder; links are followed, loops of links end.

    Archives are folders here: their members are files below them, in the order in which they lie there.

    A folder that cannot be listed is listed itself: so it is rejected, and the work goes on.
    """
    # A list in place of recursion: folders may lie deeper than Python's stack.
    waiting: list[tuple[str, _Above]] = [("", ())]
    while waiting:
        path, above = waiting.pop()
        if above is None:
            yield from members_or_itself(root, path)
            continue
        try:
            status = (root / path).stat()
            here = (status.st_dev, status.st_ino)
            if here in above:
                continue
            names = _names_in(root / path)
        except FileNotFoundError:
            # Moved away while it was being listed; a later run sees what has become of it.
            continue
        except OSError:
            if not path:
                raise
            yield path
            continue
        prefix, below = f"{path}/" if path else "", (*above, here)
        waiting += [(prefix + name, below if is_folder else None) for name, is_folder in reversed(names)]


def members_or_itself(root: Path, path: str) -> Iterator[str]:
    """Yield the files in an archive, as they lie in it; of any other file, and of an empty one, itself."""
    if not path.lower().endswith(archives.ENDS):
        yield path
        return
    try:
        names = list(archives.members_of(f"{root}/{path}"))
    except (OSError, BadSource):
        names = []
    found = [name for name in names if not any(map(is_passed_over, name.split("/")))]
    yield from (f"{path}/{name}" for name in found) if found else (path,)


def _names_in(folder: Path) -> list[tuple[str, bool]]:
    """List names in a folder, sorted, each with whether it is a folder."""
    with os.scandir(folder) as entries:
        return sorted((entry.name, is_folder(entry)) for entry in entries if not is_passed_over(entry.name))


def is_folder(entry: "os.DirEntry[str]") -> bool:
    """Tell whether an entry is a folder, or a link to one."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def is_passed_over(name: str) -> bool:
    """Tell whether a file or folder of this name is never looked at."""
    return name.startswith(".") or name in PASSED_OVER


def shared_listing(folder: Path, root: Path, job: str) -> Path:
    """Name the file in which the tasks of one job have one listing of a root."""
    return folder / f"{job}.{source_key(str(root.absolute()), ''):016x}"


def listing(root: Path, shared: Path | None) -> list[str]:
    """List all files below the root; from the file `shared` if a task of the same job has published it.

    A listing only saves work: what is there is found out again when a source is read.
    """
    if shared is None:
        return list(list_sources(root))
    if not shared.exists():
        paths = list(list_sources(root))
        publish_private(shared, os.fsencode("\0".join(paths)))
        return paths
    text = os.fsdecode(shared.read_bytes())
    return text.split("\0") if text else []
