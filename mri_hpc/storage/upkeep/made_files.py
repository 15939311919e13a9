"""Files that show patients' pixels outside the store: each is written down when it is made, a line a file.

In the store's private folder, since a path may name a person; a file for each account on each machine, so
that no two machines write into one. Where the store may not be written to, in the account's own folder:
retractions by this account find its lines there.
"""

import enum
import hashlib
import json
import os
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from mri_hpc.base.access import make_private, publish_private, user_name
from mri_hpc.base.atomic import append_line
from mri_hpc.base.documents import convert, parse, with_format, without_format
from mri_hpc.base.errors import UserError
from mri_hpc.storage.disk.layout import StoreDir

FORMAT = 1


class State(enum.StrEnum):
    """State of a file now."""

    THERE = "there"
    """As it was made."""
    REMOVED = "removed"
    GONE = "gone"
    """Not where it was made: removed, or moved to where nothing tells."""
    CHANGED = "changed"
    """Something else by now, or edited."""
    CLOSED = "closed"
    """This account may not look at it, or not remove it."""


@dataclass(frozen=True, kw_only=True)
class MadeFile:
    """A file that shows images of a store."""

    path: str
    """Absolute path at which it was made."""
    store: str
    """Path of the store, of then."""
    command: str
    snapshot: str = ""
    """Digest of that of which the images are."""
    keys: tuple[str, ...] = ()
    """Of the images, 16 hex digits each; of all of the snapshot none are named."""
    shows_all: bool = False
    """It shows all images of the snapshot."""
    patients: tuple[str, ...] = ()
    """Names in the store of those whom it shows, where it was not made of the store's images."""
    sha256: str = ""
    size: int = 0
    """In bytes."""
    made: str = ""
    """In UTC, to the second."""
    who: str = ""


@dataclass(frozen=True, kw_only=True)
class Found:
    """A file that shows images, as it is now."""

    file: MadeFile
    state: State
    reason: str = ""
    """More of it, such as what the system says of one that is closed; empty where there is nothing."""


def own_lines(environment: Mapping[str, str]) -> Path:
    """Find the file of this account's own lines, of stores that it may not write to."""
    state = environment.get("XDG_STATE_HOME")
    folder = Path(state) if state else Path(environment.get("HOME") or ".") / ".local" / "state"
    return folder / "mri_hpc" / "made.jsonl"


def note_made(store: StoreDir, made: MadeFile, own: Path) -> str:
    """Write a file down that was just made; return a note where the store could not take it.

    own: file of this account's own lines. Digest, size, time and account are filled in.
    """
    path = Path(made.path).absolute()
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        size = file.tell()
    whole = replace(
        made,
        path=str(path),
        store=str(store.path.resolve()),
        sha256=digest,
        size=size,
        made=time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
        who=user_name(),
    )
    line = json.dumps(with_format(FORMAT, asdict(whole)))
    try:
        _append(_lines_here(store), line)
    except (OSError, UserError):
        return _note_elsewhere(store, path, own, line)
    return ""


def read_made(store: StoreDir, own: Path) -> tuple[list[MadeFile], int]:
    """Read what was written down of a store, sorted by path; count lines and files that cannot be read.

    Of a path the last line of each account on each machine: on two machines it can be two files, and a file
    that another account has replaced shows others by now. Those of other accounts, where this one may not
    look into the private folder, are not among them.
    """
    # What lies in the store is of it, wherever it is mounted, or was moved to.
    read = [_read_lines(path) for path in _lines_of_all(store)]
    mine, unreadable = _read_lines(own)
    here = store.path.resolve()
    found = [one for one in mine if Path(one.store) == here]
    for made, num in read:
        found += made
        unreadable += num
    return sorted(found, key=lambda one: one.path), unreadable


def shows(
    made: MadeFile, keys: Collection[str], patients: Collection[str], snapshots: Collection[str]
) -> bool:
    """Tell whether a file shows any of these images, or patients. snapshots: those that hold any of them."""
    return (
        (made.shows_all and made.snapshot in snapshots)
        or not set(keys).isdisjoint(made.keys)
        or not set(patients).isdisjoint(made.patients)
    )


def state_of_made(made: MadeFile) -> Found:
    """Find out what has become of a file."""
    path = Path(made.path)
    if path.is_symlink():
        # What it leads to would stay.
        return Found(file=made, state=State.CHANGED, reason="a link by now")
    try:
        if path.stat().st_size != made.size:
            return Found(file=made, state=State.CHANGED)
        with path.open("rb") as file:
            is_same = hashlib.file_digest(file, "sha256").hexdigest() == made.sha256
    except (FileNotFoundError, NotADirectoryError):
        return Found(file=made, state=State.GONE)
    except OSError as error:
        return Found(file=made, state=State.CLOSED, reason=error.strerror or str(error))
    return Found(file=made, state=State.THERE if is_same else State.CHANGED)


def remove_made(made: Sequence[MadeFile]) -> list[Found]:
    """Remove files that are as they were made; return what became of each, of the others why they stay."""
    return [_removed(state_of_made(one)) for one in made]


def _removed(found: Found) -> Found:
    if found.state is not State.THERE:
        return found
    path = Path(found.file.path)
    try:
        others = path.stat().st_nlink - 1
        path.unlink()
    except FileNotFoundError:
        return replace(found, state=State.GONE)
    except OSError as error:
        return replace(found, state=State.CLOSED, reason=error.strerror or str(error))
    return replace(found, state=State.REMOVED, reason="another name of it is left" if others else "")


def _lines_here(store: StoreDir) -> Path:
    """Return the file of this account on this machine, and make it for those alone whose store it is."""
    make_private(store.made)
    path = store.made / f"{os.uname().nodename}-{os.getuid()}.jsonl"
    if not path.exists():
        publish_private(path, b"")
    return path


def _note_elsewhere(store: StoreDir, path: Path, own: Path, line: str) -> str:
    where = f"in {own}"
    try:
        own.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _append(own, line)
    except OSError:
        where = "nowhere"
    return (
        f"{path} shows patients, and {store.path} cannot take a note of it: it is written down {where}, so "
        "that a retraction by others does not remove it"
    )


def _append(path: Path, line: str) -> None:
    if not path.exists():
        publish_private(path, b"")
    append_line(path, line)


def _lines_of_all(store: StoreDir) -> list[Path]:
    """List the files of all accounts and machines in the store, where this account may look there."""
    return sorted(store.made.glob("*.jsonl")) if os.access(store.made, os.R_OK | os.X_OK) else []


def _read_lines(path: Path) -> tuple[list[MadeFile], int]:
    """Read the last line of each path in one file; count what cannot be read, the whole file as one."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return [], 0
    except OSError:
        return [], 1
    found: dict[str, MadeFile] = {}
    unreadable = 0
    for line in lines:
        try:
            made = convert(without_format(parse(line), of=path, reads=FORMAT), MadeFile)
        except ValueError:
            # A full disk has cut it short.
            unreadable += 1
            continue
        found[made.path] = made
    return list(found.values()), unreadable
