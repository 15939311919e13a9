"""``mri-hpc store audit``: leaks and doubts, before anything is trained."""

import itertools
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from mri_hpc.base.command import Action, counted, print_json, progress
from mri_hpc.base.errors import Verdict
from mri_hpc.base.marks import POSITIONAL, Flag
from mri_hpc.storage.store import Store

if TYPE_CHECKING:
    from mri_hpc.cohort.audit import Example, Finding
    from mri_hpc.cohort.twins import TwinGroup
    from mri_hpc.storage.store import Snapshot


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
    snapshot: str = "newest"
    """Digest of the snapshot to look at; newest: all that is there now."""
    json: Flag = False
    """Print as JSON."""


def audit_store(options: Audit) -> None:
    """Print leaks and doubts of a snapshot; Verdict on leaks, unless it only reports."""
    # Here and below: whoever asks for help need not wait for what compares pictures.
    from mri_hpc.cohort.audit import audit
    from mri_hpc.cohort.kept_twins import twins_of
    from mri_hpc.cohort.same_pixels import same_pixels
    from mri_hpc.store_actions.twin_files import names_of, write_twin_files

    store = Store.open(options.store)
    snapshot = store.resolve(options.snapshot)
    with store.reader(snapshot, is_read_once=True) as reader:
        same = same_pixels(snapshot, reader)
        twins = [] if options.quick else twins_of(store, snapshot, reader, same, progress=_shown)
        found = audit(snapshot, same, twins)
        shown = [*(group.rows for group in twins), *(one.rows for one in _examples(found))]
        names = names_of(store, snapshot, itertools.chain.from_iterable(shown))
        files = write_twin_files(store, snapshot, reader, twins, names) if twins else None
    if options.json:
        print_json(_as_json(options, snapshot, found, twins, names))
    else:
        _print(snapshot, found, names)
        if files:
            what = counted(len(twins), "slice")
            print(f"{what} stored more than once: {files.page} shows them, {files.table} lists them")
    if twins and not files:
        why = f"{store.private} is for the store's owner, and needs room"
        print(f"the pictures of twins were not written: {why}", file=sys.stderr)
    leaks = [one for one in found if one.is_leak]
    if leaks and not options.report_only:
        kinds = ", ".join(f"{one.count} × {one.kind}" for one in leaks)
        raise Verdict(
            f"{options.store} leaks ({kinds}): take one of the images out (mri-hpc store retract --image) "
            "or give both the same patient and split (mri-hpc store relabel)"
        )


def _examples(found: "Iterable[Finding]") -> "list[Example]":
    return [example for one in found for example in one.examples]


def _as_json(
    options: Audit,
    snapshot: "Snapshot",
    found: "Sequence[Finding]",
    twins: "Sequence[TwinGroup]",
    names: Mapping[int, str],
) -> dict[str, Any]:
    from mri_hpc.store_actions.twin_files import described

    findings = [
        {
            **asdict(one),
            "examples": [
                {"images": [names[row] for row in example.rows], "how": list(example.how)}
                for example in one.examples
            ],
        }
        for one in found
    ]
    return {
        "store": str(options.store), "snapshot": snapshot.digest, "images": len(snapshot),
        "findings": findings,
        "leaks": [one for one in findings if one["is_leak"]],
        "remarks": [one for one in findings if not one["is_leak"]],
        "twins": [described(snapshot, group, names) for group in twins],
    }  # fmt: skip


def _print(snapshot: "Snapshot", found: "Sequence[Finding]", names: Mapping[int, str]) -> None:
    for one in found:
        print(f"{'LEAK' if one.is_leak else 'remark'}: {one.text}")
        for example in one.examples:
            print(f"    {_line(snapshot, example, names)}")
        if one.count > len(one.examples) > 0:
            print("    and others")
    if not any(one.is_leak for one in found):
        print(f"no leaks among {len(snapshot):,} images")


def _line(snapshot: "Snapshot", example: "Example", names: Mapping[int, str]) -> str:
    """Name the images of an example, each with its facts that the others do not share; patients are many."""
    from mri_hpc.store_actions.twin_files import facts_of

    facts = [facts_of(snapshot, row) for row in example.rows]
    telling = [name for name in ("label", "split", "fold") if len({one[name] for one in facts}) > 1]
    shown = []
    for row, one in zip(example.rows, facts, strict=True):
        words = ", ".join(one[name] or f"no {name}" for name in telling)
        shown.append(f"{names[row]} ({words})" if words else names[row])
    how = f", {' and '.join(example.how)}" if example.how else ""
    return f"{(' = ' if example.are_same else ' and ').join(shown)}{how}"


def _shown(parts: range) -> Iterable[int]:
    return progress(parts, what="looking at images", total=len(parts))


ACTION = Action(options=Audit, body=audit_store, example="mri-hpc store audit data/store --report-only")
