"""The rule of durable writing, checked on a list of file operations, whoever has made that list."""

import os
from collections.abc import Iterable

from mri_hpc.base.atomic import TEMP_PREFIX
from mri_hpc.storage.disk.layout import GONE_PREFIX
from mri_hpc.testing.file_operations import Operation


def check_order(operations: Iterable[Operation]) -> None:
    """AssertionError where a crash of the machine could leave a name without data, or a later one alone."""
    unsynced: set[str] = set()
    names: set[str] = set()
    removed: set[str] = set()
    for one in operations:
        if one.failed:
            continue
        folder, name = os.path.split(one.target or one.path)
        is_temporary = name.startswith((TEMP_PREFIX, GONE_PREFIX))
        if one.what in ("open", "write", "truncate", "ftruncate"):
            unsynced.add(one.path)
            if one.what == "open":
                unsynced.add(folder)
        elif one.what == "mkdir":
            unsynced.add(one.path)
            if not is_temporary:
                names.add(folder)
        elif one.what in ("fsync", "fdatasync"):
            for waiting in (unsynced, names, removed):
                waiting.discard(one.path)
        elif one.what in ("unlink", "rmdir", "remove") and not is_temporary:
            assert not names, f"{one} while names in {names} may be lost"
            removed.add(folder)
        elif one.what in ("link", "rename", "replace"):
            assert one.path not in unsynced, f"{one} before its data are durable"
            assert not [path for path in unsynced if path.startswith(f"{one.path}/")], one
            assert not names, f"{one} while names in {names} may be lost"
            (removed if is_temporary else names).add(folder)
    assert not names, f"names in {names} may be lost"
    assert not removed, f"what was removed from {removed} may come back"
