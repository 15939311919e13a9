"""``mri-hpc store audit``: leaks and doubts, before anything is trained."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

from mri_hpc.base.command import print_json, progress
from mri_hpc.base.errors import Verdict
from mri_hpc.base.marks import POSITIONAL, Flag
from mri_hpc.cohort.audit import audit
from mri_hpc.storage.store import Store


@dataclass(frozen=True, kw_only=True)
class Audit:
    """Look for leaks: patients or images on both sides of a split. Status 2 if there are any."""

    store: Annotated[Path, POSITIONAL]
    """Folder of the store."""
    near: Flag = False
    """Also compare what images look like, not only their bytes; reads all of them."""
    report_only: Flag = False
    """Leaks are printed, and are no failure: status 0 once all was looked at."""
    json: Flag = False
    """Print as JSON."""


def audit_store(options: Audit) -> None:
    """Print leaks and doubts of the newest snapshot; Verdict on leaks, unless it only reports."""
    store = Store.open(options.store)
    snapshot = store.resolve()
    with store.reader(snapshot, is_read_once=True) as reader:
        found = audit(snapshot, reader, near=options.near, progress=_shown)
    leaks = [one for one in found if one.is_leak]
    if options.json:
        print_json({
            "store": str(options.store), "snapshot": snapshot.digest, "images": len(snapshot),
            "leaks": [asdict(one) for one in leaks],
            "remarks": [asdict(one) for one in found if not one.is_leak],
        })  # fmt: skip
    else:
        for one in found:
            print(f"{'LEAK' if one.is_leak else 'remark'}: {one.text}")
        if not leaks:
            print(f"no leaks among {len(snapshot):,} images")
    if leaks and not options.report_only:
        more = f" (and {len(leaks) - 1} more kinds)" if len(leaks) > 1 else ""
        raise Verdict(
            f"{options.store} leaks: {leaks[0].text}{more}; change labels with mri-hpc store relabel, or the "
            "source"
        )


def _shown(starts: range) -> Iterable[int]:
    return progress(starts, what="looking at images", total=len(starts))
