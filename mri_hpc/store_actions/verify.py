"""``mri-hpc store verify``: a check that all of a store is sound, and the repair that makes it so."""

import math
import os
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from mri_hpc.base.command import Action, counted, print_json, progress, shown_bytes
from mri_hpc.base.errors import UserError, Verdict
from mri_hpc.base.marks import POSITIONAL, Flag, Word
from mri_hpc.intake.decoding.recipe import load_recipe
from mri_hpc.intake.files.sources import check_root
from mri_hpc.intake.labels.labelled_files import find_labels
from mri_hpc.intake.labels.pseudonyms import key_path, pseudonyms_of
from mri_hpc.storage.store import Store

if TYPE_CHECKING:
    from mri_hpc.storage.store import Findings, Origin, Repaired

T = TypeVar("T")
DAY_S = 24 * 3600.0


@dataclass(frozen=True, kw_only=True)
class Verify:
    """Read everything: commits, sizes, every CRC, the snapshots. Status 2 if anything is damaged.

    With --repair, damaged or missing chunks are made again: from other chunks, else from the sources.
    With --privacy nothing of that is done, and names are looked for.
    """

    store: Annotated[Path, POSITIONAL]
    """Folder of the store."""
    sample: str = "100%"
    """Share of the chunks to read, such as 1%, others each day; of the rest only sizes are looked at."""
    repair: Flag = False
    """Make what is damaged again; status 0 if all is well then."""
    source: Path | None = None
    """With --repair: the folder of images that preprocess was given."""
    labels: Path | None = None
    """With --repair: the CSV of labels; only of use for chunks that no snapshot tells of."""
    label_column: str = ""
    """With --repair: the column of the class that preprocess was given."""
    site: str = ""
    """With --repair: the site that preprocess was given."""
    privacy: Annotated[Path | None, Word(value="NAMES.txt")] = None
    """Text with names, ids and dates, one a line: look for them in every byte outside STORE/private. A run's
    folder may be given in place of the store."""
    json: Flag = False
    """Print as JSON."""

    def __post_init__(self) -> None:
        if self.privacy and (self.repair or self.sample != "100%"):
            raise UserError("--privacy only looks for names, in all files: leave --repair and --sample out")
        if self.repair != (self.source is not None):
            raise UserError("--repair and --source go together: give both or neither")
        if self.labels and not self.repair:
            raise UserError("--labels is of use with --repair only")


def check_store(options: Verify) -> None:
    """Verify a store, repair it if asked to, and print what was found; Verdict where anything is damaged."""
    if options.privacy:
        from mri_hpc.store_actions.privacy import check_privacy

        check_privacy(options.store, options.privacy, is_json=options.json)
        return
    from mri_hpc.storage.store import Repaired

    fraction = _fraction(options.sample)
    store, day = Store.open(options.store), int(time.time() // DAY_S)
    start = time.monotonic()
    findings = store.verify(fraction=fraction, day=day, progress=_shown)
    verified = time.monotonic()
    num_bytes, repaired = findings.bytes, None
    if options.repair and findings.problems:
        origin = _origin(options, store)
        repaired = store.repair(findings, origin, fraction=fraction, day=day, progress=_shown_repair)
        findings = repaired.findings
    values = {
        "store": str(options.store),
        "chunks": findings.chunks,
        "images": findings.images,
        "bytes": num_bytes,
        "seconds": round(verified - start, 3),
        "sampled": fraction,
        "problems": findings.problems,
        "damaged": _damaged(store, findings),
        "remarks": findings.remarks,
    }
    if options.repair:
        values["repair"] = _summary(repaired or Repaired(), time.monotonic() - verified)
    if options.json:
        print_json(values)
    else:
        _print(values)
    if findings.problems:
        raise _damage(options.store, findings, repaired)


def _origin(options: Verify, store: Store) -> "Origin":
    """Return what preprocess was given, as far as it is at hand."""
    from mri_hpc.storage.store import Origin

    assert options.source is not None
    recipe = load_recipe(store.recipe)
    check_root(options.source)
    return Origin(
        root=options.source,
        recipe=recipe,
        labels=find_labels(
            options.source, options.labels, site=options.site, label_column=options.label_column
        ),
        pseudonyms=lambda: pseudonyms_of(
            ids=recipe.ids, site=recipe.site, key_file=key_path(os.environ), group=store.group
        ),
    )


def _damaged(store: Store, findings: "Findings") -> list[dict[str, str]]:
    sources = store.sources_of(findings.damaged) if findings.damaged else {}
    return [{"key": f"{key:016x}", "source": sources.get(key, "")} for key in findings.damaged]


def _summary(repaired: "Repaired", seconds: float) -> dict[str, Any]:
    num_made = repaired.from_sources + repaired.from_chunks
    return {
        "chunks": repaired.chunks,
        "snapshots": repaired.snapshots,
        "from_sources": repaired.from_sources,
        "from_chunks": repaired.from_chunks,
        "lost": [{"key": f"{one.key:016x}", "source": one.source, "why": one.why} for one in repaired.lost],
        "remarks": repaired.remarks,
        "seconds": round(seconds, 3),
        "images_per_s": round(num_made / max(seconds, 1e-3), 1),
    }


def _print(values: Mapping[str, Any]) -> None:
    repaired = values.get("repair", {"remarks": [], "lost": []})
    for line in (*values["remarks"], *values["problems"], *repaired["remarks"]):
        print(line)
    reasons = {one["key"]: one["why"] for one in repaired["lost"]}
    for one in values["damaged"]:
        if one["key"] not in reasons:
            print(f"  damaged: {one['key']}  {one['source'] or '(source not known)'}")
    for one in repaired["lost"]:
        print(f"  not made again: {one['key']}  {one['source'] or '(source not known)'}: {one['why']}")
    if "repair" in values:
        print(
            f"repaired {counted(len(repaired['chunks']), 'chunk')} and "
            f"{counted(len(repaired['snapshots']), 'snapshot')}, "
            f"{counted(repaired['from_sources'], 'image')} from sources, "
            f"{repaired['from_chunks']} from other chunks "
            f"({repaired['seconds']:.1f} s, {repaired['images_per_s']:.0f} images/s)"
        )
    rate = shown_bytes(int(values["bytes"] / max(values["seconds"], 1e-3)))
    fraction = values["sampled"]
    print(
        f"sound: {counted(values['images'], 'image')} in {counted(values['chunks'], 'chunk')} "
        f"({shown_bytes(values['bytes'])}, "
        f"{rate}/s)" + (f"; read by turns, {fraction:.4g} of the chunks a day" if fraction < 1 else "")
    )


def _damage(store: Path, findings: "Findings", repaired: "Repaired | None") -> Verdict:
    """Say in one line what is damaged, and still is after a repair."""
    problems = findings.problems
    if repaired is None:
        return Verdict(f"{store} is damaged, {len(problems)} found; the first: {problems[0]}")
    held = f"{store} is not whole yet, {len(problems)} left"
    if repaired.lost:
        one = repaired.lost[0]
        return Verdict(
            f"{held}: {len(repaired.lost)} images cannot be made again, the first: {one.source or 'source'} "
            f"({one.key:016x}): {one.why}; bring it back below --source, or restore its chunk from a backup"
        )
    return Verdict(f"{held}; the first: {(*repaired.remarks, *problems)[0]}")


def _shown(chunks: Sequence[T]) -> Iterable[T]:
    return progress(chunks, what="verifying", total=len(chunks))


def _shown_repair(chunks: Sequence[T]) -> Iterable[T]:
    return progress(chunks, what="repairing", total=len(chunks))


def _fraction(text: str) -> float:
    """Read a fraction above 0 and up to 1, written as 1% or as 0.01."""
    try:
        fraction = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        fraction = math.nan
    if not 0 < fraction <= 1:
        raise UserError(f"--sample must be a share of the chunks such as 1% or 0.01, got {text!r}")
    return fraction


ACTION = Action(options=Verify, body=check_store, example="mri-hpc store verify data/store --sample 1%")
