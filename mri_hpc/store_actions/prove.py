"""``mri-hpc store prove``: whether a file system carries a store."""

import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from mri_hpc.base.command import Action, print_json
from mri_hpc.base.errors import UserError, Verdict
from mri_hpc.base.marks import POSITIONAL, Flag
from mri_hpc.base.mounts import Mount, mount_of

if TYPE_CHECKING:
    from mri_hpc.testing.proof import Outcome

LEAST_S, MOST_S = 5, 24 * 3600


@dataclass(frozen=True, kw_only=True)
class Prove:
    """Look, in a minute, whether a file system keeps what a store relies on. Status 2 where it does not.

    Names given once, renames, fsync, permissions, and then stores whose writers are killed (kill -9) and work
    beside one another. All of it in one new folder, of at most 2,000 files and 200 MB, which is removed.
    """

    folder: Annotated[Path, POSITIONAL]
    """A folder on the file system, such as the one in which the store will lie."""
    seconds: int = 60
    """About how long it may take; more of them kill more writers."""
    json: Flag = False
    """Print as JSON."""

    def __post_init__(self) -> None:
        if not LEAST_S <= self.seconds <= MOST_S:
            raise UserError(f"--seconds must be between {LEAST_S} and {MOST_S}, got {self.seconds}")


def prove_file_system(options: Prove) -> None:
    """Print the end of each check; Verdict where a promise is not kept."""
    # Whoever asks for help need not wait for a whole store.
    from mri_hpc.testing.processes import held_back
    from mri_hpc.testing.proof import left_behind, own_folder, prove

    if not options.folder.is_dir():
        raise UserError(
            f"{options.folder} is not a folder: give one on the file system that is to be looked at"
        )
    # As Ctrl-C: what was made is removed.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    start_s, mount = time.monotonic(), mount_of(options.folder)
    outcomes = []
    with held_back(), own_folder(options.folder) as folder:
        print(f"working in {folder}", file=sys.stderr)
        for outcome in prove(folder, seconds=options.seconds):
            outcomes.append(outcome)
            if not options.json:
                _print(outcome)
    seconds = time.monotonic() - start_s
    for left in left_behind(options.folder):
        print(
            f"{left} is of another proof, which still runs, or was killed elsewhere or by another user",
            file=sys.stderr,
        )
    if options.json:
        print_json(_values(options.folder, mount, outcomes, seconds))
    failed = [outcome for outcome in outcomes if outcome.is_kept is False]
    if failed:
        raise Verdict(
            f"{options.folder} ({mount.kind}): {len(failed)} of {len(outcomes)} promises are not kept, the "
            f"first: {failed[0].what}: {failed[0].found}; put the store on another file system"
        )
    if not options.json:
        print(f"{mount.kind}: a store keeps its promises here; {len(outcomes)} of them kept, {seconds:.0f} s")


def _print(outcome: "Outcome") -> None:
    mark = {True: "ok", False: "NOT OK", None: "-"}[outcome.is_kept]
    print(f"{mark:6} {outcome.seconds:5.1f} s  {outcome.what}: {outcome.found}", flush=True)
    if outcome.is_kept is False:
        print(f"                it means: {outcome.means}", flush=True)


def _values(folder: Path, mount: Mount, outcomes: "Sequence[Outcome]", seconds: float) -> dict[str, Any]:
    return {
        "folder": str(folder),
        "file_system": mount.kind,
        "mounted_at": mount.point,
        "kept": all(outcome.is_kept for outcome in outcomes),
        "promises": [
            {
                "promise": one.what,
                "kept": one.is_kept,
                "found": one.found,
                "means": one.means,
                "seconds": round(one.seconds, 3),
            }
            for one in outcomes
        ],
        "seconds": round(seconds, 3),
    }


ACTION = Action(options=Prove, body=prove_file_system, example="mri-hpc store prove /scratch/me")
