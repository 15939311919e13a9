"""``mri-hpc store compact``: many small chunks into few large ones."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

from mri_hpc.base.command import Action, counted, print_json, progress, shown_bytes
from mri_hpc.base.errors import UserError
from mri_hpc.base.marks import POSITIONAL, Flag
from mri_hpc.storage.store import Store

if TYPE_CHECKING:
    from mri_hpc.storage.store import Compacted

T = TypeVar("T")
MOST_TARGET_MB = 64 * 1024
DAY_S = 24 * 3600.0


@dataclass(frozen=True, kw_only=True)
class Compact:
    """Make few large chunk files of many small ones, beside whoever adds and reads; what is stored stays.

    The larger of the small ones wait until there are four of about the same size.
    """

    store: Annotated[Path, POSITIONAL]
    """Folder of the store."""
    target_mb: int = 256
    """Size from which a chunk file is left as it is."""
    keep_days: float = 7.0
    """Days that superseded files stay, for jobs that are reading them."""
    dry_run: Flag = False
    """Only say what would be done."""
    json: Flag = False
    """Print as JSON."""

    def __post_init__(self) -> None:
        if not 1 <= self.target_mb <= MOST_TARGET_MB:
            raise UserError(f"--target-mb must be between 1 and {MOST_TARGET_MB}, got {self.target_mb}")
        if not self.keep_days >= 0:
            raise UserError(f"--keep-days must be 0 or more, got {self.keep_days:g}")


def compact_store(options: Compact) -> None:
    """Compact a store and print what changed."""
    store = Store.open(options.store)
    target_bytes = options.target_mb * 2**20
    if options.dry_run:
        found = store.look_ahead(target_bytes=target_bytes)
    else:
        found = store.compact(target_bytes=target_bytes, keep_s=options.keep_days * DAY_S, progress=_shown)
    if options.json:
        print_json({
            "store": str(options.store), "dry_run": options.dry_run,
            "chunks_before": found.chunks_before, "chunks": found.chunks_after,
            "bytes_written": found.bytes_written, "images_dropped": found.images_dropped,
            "files_removed": len(found.removed),
        })  # fmt: skip
    else:
        print(_summary(found, is_dry=options.dry_run))


def _shown(groups: Sequence[T]) -> Iterable[T]:
    return progress(groups, what="compacting", total=len(groups))


def _summary(found: "Compacted", *, is_dry: bool) -> str:
    parts = [
        f"chunks: {found.chunks_before:,} before, {found.chunks_after:,} {'then' if is_dry else 'now'}",
        f"{shown_bytes(found.bytes_written)} {'to write' if is_dry else 'written'}",
    ]
    if found.images_dropped:
        copies = "copy" if found.images_dropped == 1 else "copies"
        parts.append(
            f"{found.images_dropped} {copies} that nobody reads {'to drop' if is_dry else 'dropped'}"
        )
    if not is_dry:
        parts.append(f"{counted(len(found.removed), 'superseded file')} removed")
    return ", ".join(parts)


ACTION = Action(options=Compact, body=compact_store, example="mri-hpc store compact data/store")
