"""A store that the members of one group add to: its folders are the group's, and so is what is private."""

import os
from collections.abc import Iterator
from pathlib import Path

from mri_hpc.base.access import give
from mri_hpc.base.errors import UserError
from mri_hpc.storage.disk.layout import StoreDir


def share_store(store: StoreDir, group: int) -> None:
    """Let one group read and add to a store, private tables included; harmless when that is so already.

    UserError where the store is another group's, or holds what is another user's.
    """
    if store.group == group:
        return
    if store.group is not None:
        raise UserError(f"{store.private} is the group {store.group}'s already: a store is of one group")
    try:
        for path in _all(store.path, besides=store.private):
            give(path, group, is_private=False)
        for path in _all(store.private):
            give(path, group)
    except PermissionError as error:
        raise UserError(
            f"{error.filename or store.path} is another user's: only who made a store, or root, can open it "
            "to a group"
        ) from None


def _all(folder: Path, besides: Path | None = None) -> Iterator[Path]:
    """Yield what lies in a folder, and last the folder: by it one can tell that all is done."""
    for parent, folders, files in os.walk(folder, topdown=True):
        folders[:] = [name for name in folders if Path(parent, name) != besides]
        yield from (Path(parent, name) for name in (*files, *folders))
    yield folder
