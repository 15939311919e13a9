"""Images to which objections refer, by their files: a table for the owner of a store alone.

Paths may name patients, so that neither what came of a link nor its log has them (docs/privacy.md).
"""

import csv
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from mri_hpc.base.access import replace_private
from mri_hpc.base.command import counted
from mri_hpc.base.errors import UserError
from mri_hpc.intake.labels.images import as_text
from mri_hpc.storage.store import Snapshot, Store

COLUMNS = ("objection", "file", "why", "class", "patient", "key")
FOLDERS_SHOWN, FILES_SHOWN = 3, 3


@dataclass(frozen=True, kw_only=True)
class Suspect:
    """An image to which an objection refers."""

    row: int
    """In the snapshot."""
    word: str
    """Of the objection."""
    why: str


def write_suspects(store: Store, snapshot: Snapshot, chain: str, suspects: Sequence[Suspect]) -> Path | None:
    """Write the table of a chain, in place of that of before; None where this user may not, or nothing fits.

    A file that this user may not know is named by the image's key. What was retracted since the snapshot is
    left out.
    """
    path, left = store.delivery_table(chain), _not_retracted(store, snapshot, suspects)
    while True:
        try:
            replace_private(path, _table(store, snapshot, left))
        except (OSError, UserError):
            # UserError: an ACL would let others in.
            return None
        # A retraction is published before it tidies tables: one that found this one not there is seen here.
        written, left = left, _not_retracted(store, snapshot, left)
        if len(left) == len(written):
            return path


def _not_retracted(store: Store, snapshot: Snapshot, suspects: Sequence[Suspect]) -> list[Suspect]:
    retracted = store.current().retractions
    return [
        one
        for one in suspects
        if not retracted.covers([int(snapshot.key[one.row])], snapshot.text("patient", one.row))
    ]


def _table(store: Store, snapshot: Snapshot, suspects: Sequence[Suspect]) -> bytes:
    keys = {one.row: int(snapshot.key[one.row]) for one in suspects}
    paths = store.sources_of(keys.values())
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for one in suspects:
        key = f"{keys[one.row]:016x}"
        file = as_text(paths.get(keys[one.row], key))
        label, patient = snapshot.text("label", one.row), snapshot.text("patient", one.row)
        writer.writerow((one.word, file, one.why, label, patient, key))
    return text.getvalue().encode()


def first_suspects(path: Path) -> list[str]:
    """Return a line for each objection of a table: how many images, in which folders, and the first files."""
    try:
        rows = list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))
    except OSError:
        # It is for its owner alone.
        return []
    return [
        f"{word}: {_in_short([row['file'] for row in rows if row['objection'] == word])}"
        for word in dict.fromkeys(row["objection"] for row in rows)
    ]


def _in_short(files: Sequence[str]) -> str:
    folders = Counter(str(PurePosixPath(file).parent) for file in files)
    first = [f"{name}/ ({count:,})" for name, count in folders.most_common(FOLDERS_SHOWN)]
    more = len(folders) - len(first)
    among = ", ".join([*first, *([f"{more:,} more folders"] if more else [])])
    return f"{counted(len(files), 'image')} in {among}; {_some(files)}"


def _some(files: Iterable[str]) -> str:
    names = list(dict.fromkeys(files))
    return ", ".join(names[:FILES_SHOWN]) + (", ..." if len(names) > FILES_SHOWN else "")
