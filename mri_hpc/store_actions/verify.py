"""``mri-hpc store verify``: whether all of a store is sound."""

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import tyro

from mri_hpc.base.command import Flag, print_json, progress, shown_bytes
from mri_hpc.base.errors import UserError
from mri_hpc.chunks.layout import open_store
from mri_hpc.chunks.verify import sources_of, verify

DAY_S = 24 * 3600.0


@dataclass(frozen=True, kw_only=True)
class Verify:
    """Read everything: commits, sizes, every CRC, the snapshot. Status 2 if anything is damaged."""

    store: tyro.conf.Positional[Path]
    """Folder of the store."""
    sample: str = "100%"
    """Share of the chunks to read, such as 1%, others each day; of the rest only sizes are looked at."""
    json: Flag = False
    """Print as JSON."""


def check_store(options: Verify) -> None:
    """Verify a store and print what was found; UserError where anything is damaged."""
    share = _share(options.sample)
    store = open_store(options.store)
    start = time.monotonic()
    findings = verify(store, share=share, day=int(time.time() // DAY_S), progress=_shown)
    sources = sources_of(store, findings.damaged) if findings.damaged else {}
    damaged = [{"key": f"{key:016x}", "source": sources.get(key, "")} for key in findings.damaged]
    seconds = time.monotonic() - start
    values = {
        "store": str(options.store),
        "chunks": findings.chunks,
        "images": findings.images,
        "bytes": findings.bytes,
        "seconds": round(seconds, 3),
        "sampled": share,
        "problems": findings.problems,
        "damaged": damaged,
        "remarks": findings.remarks,
    }
    if options.json:
        print_json(values)
    else:
        for line in (*findings.remarks, *findings.problems):
            print(line)
        for one in damaged:
            print(f"  damaged: {one['key']}  {one['source'] or '(source not known)'}")
        rate = shown_bytes(int(findings.bytes / max(seconds, 1e-3)))
        print(
            f"{findings.images} images in {findings.chunks} chunks are sound ({shown_bytes(findings.bytes)}, "
            f"{rate}/s)" + (f"; read by turns, {share:.4g} of the chunks a day" if share < 1 else "")
        )
    if findings.problems:
        raise UserError(
            f"{options.store} is damaged, {len(findings.problems)} found; the first: {findings.problems[0]}"
        )


def _shown(commit_ids: list[str]) -> Iterable[str]:
    return progress(commit_ids, what="verifying", total=len(commit_ids))


def _share(text: str) -> float:
    """A share above 0 and up to 1, written as 1% or as 0.01."""
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = math.nan
    if not 0 < share <= 1:
        raise UserError(f"--sample must be a share of the chunks such as 1% or 0.01, got {text!r}")
    return share
