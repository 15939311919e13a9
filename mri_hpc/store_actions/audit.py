"""``mri-hpc store audit``: leaks and doubts, before anything is trained."""

import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from mri_hpc.base.command import Action, print_json, progress
from mri_hpc.base.errors import Verdict
from mri_hpc.base.marks import POSITIONAL, Flag
from mri_hpc.cohort.audit import Finding, audit
from mri_hpc.cohort.kept_twins import twins_of
from mri_hpc.cohort.same_pixels import same_pixels
from mri_hpc.cohort.twins import TwinGroup
from mri_hpc.storage.store import Snapshot, Store
from mri_hpc.store_actions.twin_files import TwinFiles, described, names_of, write_twin_files


@dataclass(frozen=True, kw_only=True)
class Audit:
    """Look for leaks: patients or images on both sides of a split. Status 2 if there are any."""

    store: Annotated[Path, POSITIONAL]
    """Folder of the store."""
    quick: Flag = False
    """Compare tables and bytes only, not what images look like, which reads all of them."""
    near: Flag = False
    """Compare what images look like; is done anyway."""
    report_only: Flag = False
    """Leaks are printed, and are no failure: status 0 once all was looked at."""
    json: Flag = False
    """Print as JSON."""


def audit_store(options: Audit) -> None:
    """Print leaks and doubts of the newest snapshot; Verdict on leaks, unless it only reports."""
    store = Store.open(options.store)
    snapshot = store.resolve()
    with store.reader(snapshot, is_read_once=True) as reader:
        same = same_pixels(snapshot, reader)
        twins = [] if options.quick else twins_of(store, snapshot, reader, same, progress=_shown)
        found = audit(snapshot, same, twins)
        names = names_of(store, snapshot, twins)
        files = write_twin_files(store, snapshot, reader, twins, names) if twins else None
    if options.json:
        print_json(_as_json(options, snapshot, found, twins, names))
    else:
        _print(snapshot, found, twins, files)
    if twins and not files:
        why = f"{store.private} is for the store's owner, and needs room"
        print(f"the pictures of twins were not written: {why}", file=sys.stderr)
    leaks = [one for one in found if one.is_leak]
    if leaks and not options.report_only:
        more = f" (and {len(leaks) - 1} more kinds)" if len(leaks) > 1 else ""
        raise Verdict(
            f"{options.store} leaks: {leaks[0].text}{more}; change labels with mri-hpc store relabel, or the "
            "source"
        )


def _as_json(
    options: Audit,
    snapshot: Snapshot,
    found: Sequence[Finding],
    twins: Sequence[TwinGroup],
    names: Sequence[str],
) -> dict[str, Any]:
    rest = iter(names)
    groups = [described(snapshot, group, [next(rest) for _ in group.rows]) for group in twins]
    return {
        "store": str(options.store), "snapshot": snapshot.digest, "images": len(snapshot),
        "findings": [asdict(one) for one in found],
        "leaks": [asdict(one) for one in found if one.is_leak],
        "remarks": [asdict(one) for one in found if not one.is_leak],
        "twins": groups,
    }  # fmt: skip


def _print(
    snapshot: Snapshot, found: Sequence[Finding], twins: Sequence[TwinGroup], files: TwinFiles | None
) -> None:
    for one in found:
        print(f"{'LEAK' if one.is_leak else 'remark'}: {one.text}")
    if files:
        print(
            f"{len(twins)} slices are there more than once: {files.page} shows them, {files.table} lists them"
        )
    if not any(one.is_leak for one in found):
        print(f"no leaks among {len(snapshot):,} images")


def _shown(parts: range) -> Iterable[int]:
    return progress(parts, what="looking at images", total=len(parts))


ACTION = Action(options=Audit, body=audit_store, example="mri-hpc store audit data/store --report-only")
