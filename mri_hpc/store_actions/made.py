"""Files that show patients' pixels: written down by who makes them, removed or listed by who retracts."""

import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mri_hpc.base.command import counted
from mri_hpc.storage.store import Found, MadeFile, Store, own_lines, shows

if TYPE_CHECKING:
    import numpy as np


def note_made(
    store: Store,
    path: Path,
    command: str,
    *,
    snapshot: str = "",
    keys: Iterable[int] = (),
    shows_all: bool = False,
    patients: Iterable[str] = (),
    is_quiet: bool = False,
) -> None:
    """Write down that a file was made; say on stderr where the store cannot take it, unless it is quiet.

    keys: of the images that it shows, of the snapshot; patients: as MadeFile has them.
    """
    made = MadeFile(
        path=str(path),
        store=str(store.path),
        command=command,
        snapshot=snapshot,
        keys=tuple(f"{key:016x}" for key in sorted(set(keys))),
        shows_all=shows_all,
        patients=tuple(sorted(set(patients))),
    )
    note = store.note_made(made, own_lines(os.environ))
    if note and not is_quiet:
        print(note, file=sys.stderr)


def files_showing(store: Store, keys: "np.ndarray", patients: Sequence[str]) -> tuple[list[MadeFile], int]:
    """Find the files that show images, or patients; return also the lines that cannot be read.

    keys: uint64, (n,); patients: their names in the store.
    """
    # Whoever asks for help need not wait for it.
    import numpy as np

    made, unreadable = store.made_files(own_lines(os.environ))
    of_whole = {one.snapshot for one in made if one.shows_all}
    holding = {
        digest
        for digest in of_whole.intersection(store.published())
        if np.isin(np.asarray(store.recall(digest).key), keys).any()
    }
    texts = {f"{key:016x}" for key in keys.tolist()}
    # Two machines can have written the same file down.
    found = {(one.path, one.sha256): one for one in made if shows(one, texts, patients, holding)}
    return list(found.values()), unreadable


def described(found: Found) -> dict[str, Any]:
    """Return one file for scripts."""
    return {
        "file": found.file.path,
        "state": found.state.value,
        **({"reason": found.reason} if found.reason else {}),
        "command": found.file.command,
        "made": found.file.made,
        "who": found.file.who,
    }


def in_words(found: dict[str, Any]) -> str:
    """Say of one file what it is, and what has become of it."""
    state = f"{found['state']} ({found['reason']})" if "reason" in found else found["state"]
    return f"{found['file']}: {state}; by {found['command']}, {found['made']}, {found['who']}"


def unreadable_in_words(store: Store, num: int) -> str:
    """Say that some lines cannot be read; empty where all can."""
    if not num:
        return ""
    return f"{counted(num, 'line')} in {store.private / 'made'} cannot be read: look for more files yourself"
