"""A chain in a few lines: what its last links did, when the next one comes, and why it ended."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from mri_hpc.base.command import counted, shown
from mri_hpc.base.errors import UserError
from mri_hpc.chain.layout import ChainDir
from mri_hpc.chain.links import Outcome, outcomes, read_claim
from mri_hpc.chain.queue import LinkJob, live_link_job
from mri_hpc.cluster.choice import name_of

MOST_SHOWN = 10
"""Links of a chain that are shown."""


def describe_chain(path: Path) -> dict[str, Any]:
    """Give all about a chain as plain values, for JSON."""
    chain = ChainDir(path)
    return {
        "chain": str(path.absolute()), "next": _next(chain, outcomes(chain)),
        "links": [asdict(one) for one in outcomes(chain)],
    }  # fmt: skip


def picture_of_chain(path: Path) -> str:
    """Write the last links of a chain, and what comes next, one line each."""
    chain = ChainDir(path)
    found = outcomes(chain)
    lines = [
        f"{shown(path)}: {counted(len(found), 'link')}, {found[-1].gpu_hours if found else 0:.2f} GPU hours"
    ]
    lines += [f"  {one.number:>4}  {one.ended}  {one.state}: {one.words}" for one in found[-MOST_SHOWN:]]
    return "\n".join([*lines, f"  next  {_next(chain, found)}"])


def _next(chain: ChainDir, found: list[Outcome]) -> str:
    """Say when the next link comes, or why none does."""
    newest = chain.num_claimed()
    if newest and not chain.outcome(newest).exists():
        held = read_claim(chain, newest)
        return f"link {newest} was begun {held.began} by {held.who} on {held.holder.host}, and has not ended"
    if chain.stop.exists():
        return f"none: {shown(chain.stop)} is there"
    try:
        live = live_link_job(chain)
    except UserError as error:
        return f"not known: {error}"
    if live:
        return _begins(live)
    if found and found[-1].ended_because:
        return f"none: {found[-1].ended_because}"
    return "by whoever types mri-hpc watch: no job of the chain is in the queue"


def _begins(live: LinkJob) -> str:
    return f"{name_of(live.job)}, no sooner than {live.begins}"
