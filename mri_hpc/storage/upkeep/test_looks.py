"""Looks at the test patients of a store: one small file each, numbered, so that they count themselves.

Whoever links a number first has that look; who looked stands in the private folder, by the same number.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from mri_hpc.base.access import make_private, publish_private, publish_shared, user_name
from mri_hpc.base.documents import convert, parse, with_format, without_format
from mri_hpc.base.errors import UserError
from mri_hpc.rundir.look import Look
from mri_hpc.storage.disk.layout import StoreDir

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class CountedLook:
    """A look as it was written down."""

    before: tuple[Look, ...]
    """Those before it, at whichever patients."""
    has_account: bool
    """It is written down who looked; False where that folder is closed to them."""


def read_looks(store: StoreDir) -> dict[int, Look]:
    """Read the looks by their numbers, in order; UserError where one is damaged."""
    paths = store.test_looks.glob("[0-9]*.json") if store.test_looks.is_dir() else ()
    return {int(path.stem): _read(path) for path in sorted(paths)}


def add_look(store: StoreDir, look: Look, may_follow: Callable[[Sequence[Look]], None]) -> CountedLook:
    """Publish a look under the next number; one of the same model and test set is there once.

    may_follow: given those before, raises where the look is not to be; asked again where another process was
    faster. OSError where it cannot be written.
    """
    while True:
        looks = read_looks(store)
        for number, found in looks.items():
            if found.pair == look.pair:
                before = tuple(earlier for other, earlier in looks.items() if other < number)
                return CountedLook(before=before, has_account=True)
        may_follow([*looks.values()])
        store.make_test_looks()
        name = f"{max(looks, default=0) + 1:08d}.json"
        document = json.dumps(with_format(FORMAT, asdict(look))).encode() + b"\n"
        if publish_shared(store.test_looks / name, document):
            return CountedLook(before=tuple(looks.values()), has_account=_name_account(store, name))


def _name_account(store: StoreDir, name: str) -> bool:
    """Write down who looked, where those alone get at it whose store it is; False where it cannot be."""
    document = json.dumps(with_format(FORMAT, {"who": user_name()})).encode() + b"\n"
    try:
        make_private(store.who_looked)
        publish_private(store.who_looked / name, document)
    except OSError:
        return False
    return True


def _read(path: Path) -> Look:
    try:
        return convert(without_format(parse(path.read_bytes()), of=path, reads=FORMAT), Look)
    except ValueError as error:
        raise UserError(
            f"{path} is not what evaluate wrote ({error}): restore it from a backup; a look that is removed "
            "is not counted any more"
        ) from None
