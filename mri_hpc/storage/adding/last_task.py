"""The last task of an array: the one that tells of all, however many tasks are killed and run again.

Each task leaves a word when all of its share is done, with what it has counted. Whoever then finds the words
of all leaves one more, with its own number: of several that find them at the same moment one is first, and
tells. A task that was killed after that and is run again finds its own number there, and tells again. One
that was killed before it left its word is, when it is run again, the last.
"""

import functools
from dataclasses import asdict, dataclass
from pathlib import Path

from mri_hpc.base.access import publish_private
from mri_hpc.base.documents import convert, with_format, without_format
from mri_hpc.base.sealed_json import seal, unseal
from mri_hpc.intake.files.sources import shared_listing
from mri_hpc.storage.adding.tally import Tally
from mri_hpc.storage.disk.layout import DONE, TELLER, StoreDir

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class ArrayTask:
    """One task of an array job."""

    job: str
    """Number of the array job; the same for all tasks, and however often they are run."""
    number: int
    count: int
    """Number of tasks."""


def tell_last(store: StoreDir, root: Path, task: ArrayTask, tally: Tally) -> Tally | None:
    """Note that a task has done its share; return what all have counted where it is to tell, else None.

    root: of the sources, which an array job may be about besides others.
    """
    base = shared_listing(store.listings, root, task.job)
    word = seal(with_format(FORMAT, asdict(tally)))
    publish_private(base.with_name(f"{base.name}{DONE}{task.number}"), word)
    # After that: of two tasks that leave their words at once, the later one finds both.
    words = sorted(base.parent.glob(f"{base.name}{DONE}*"))
    if len(words) < task.count:
        return None
    teller, number = base.with_name(base.name + TELLER), str(task.number).encode()
    publish_private(teller, number)
    if teller.read_bytes() != number:
        return None
    return functools.reduce(Tally.joined, map(_read, words))


def _read(word: Path) -> Tally:
    """Read what a task has counted; nothing where its word is damaged."""
    try:
        return convert(without_format(unseal(word.read_bytes()), of=word, reads=FORMAT), Tally)
    except (ValueError, KeyError):
        return Tally()
