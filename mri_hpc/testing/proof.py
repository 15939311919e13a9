"""The proof of a file system: what a store asks of it, then stores that are killed and changed at once."""

import contextlib
import errno
import os
import random
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mri_hpc.base.atomic import TEMP_PREFIX, is_abandoned, temporary_beside
from mri_hpc.base.errors import UserError
from mri_hpc.intake.files.units import Share
from mri_hpc.testing import processes
from mri_hpc.testing.file_system import CHECKS, Check, NotKept
from mri_hpc.testing.model import Image
from mri_hpc.testing.trial import Change, Trial

NAME = "mri-hpc-prove"
UNWRITTEN = "a process failed and could not even write down why"
# What the system, and a child's last words, say where there is no room: nothing about the file system.
NO_ROOM = (os.strerror(errno.ENOSPC), os.strerror(errno.EDQUOT), UNWRITTEN)
PICTURES, PATIENTS, MORE = 6, 3, 3
# Of the time that is left when the file system itself has been looked at.
KILLING, BESIDE = 0.6, 0.35
# A relabelling has some ten moments, adding more than a hundred: early ones are asked for more often.
MOST_DOUBLINGS = 6.8


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The end of one check."""

    what: str
    is_kept: bool | None
    """None: not tried, since something that it rests on is not kept."""
    found: str
    means: str
    """For a store, where it is not kept."""
    seconds: float


def prove(folder: Path, *, seconds: float, seed: int = 0) -> Iterator[Outcome]:
    """Look at all that a store relies on, in an empty folder, in about the time given; yields the outcomes.

    Stores are only tried on a file system that keeps what is asked of it.
    """
    start_s, are_kept = time.monotonic(), True
    for check in CHECKS:
        outcome = _outcome(check, folder)
        are_kept &= bool(outcome.is_kept)
        yield outcome
    left_s = max(0.0, seconds - (time.monotonic() - start_s))
    for check in _of_stores(random.Random(seed), left_s):
        yield _outcome(check, folder) if are_kept else _not_tried(check)


@contextlib.contextmanager
def own_folder(below: Path) -> Iterator[Path]:
    """A new folder that is gone afterwards, as are those of proofs of this machine that were killed."""
    for left in left_behind(below):
        if is_abandoned(left):
            # Another user's stays, and is named in the end.
            with contextlib.suppress(OSError):
                shutil.rmtree(left)
    folder = below
    try:
        with temporary_beside(below / NAME) as folder, processes.none_left():
            folder.mkdir()
            yield folder
    except OSError as error:
        if folder == below or not folder.exists():
            raise
        raise UserError(
            f"{folder} could not be removed ({error.strerror}: {error.filename}): remove it by hand"
        ) from None


def left_behind(below: Path) -> list[Path]:
    """Folders of proofs that were killed, or that run now."""
    return sorted(below.glob(f"{TEMP_PREFIX}*-{NAME}"))


def _outcome(check: Check, folder: Path) -> Outcome:
    start_s, place = time.monotonic(), folder / "check"
    place.mkdir()
    try:
        is_kept, found = True, check.look(place)
    except (NotKept, UserError, OSError) as error:
        is_kept, found = False, str(error)
    except AssertionError as error:
        # The traceback of another process; its last line is the error, behind the name of its class.
        last = (str(error).strip().splitlines() or [UNWRITTEN])[-1]
        is_kept, found = False, last.partition(": ")[2] or last
    shutil.rmtree(place)
    if not is_kept and any(words in found for words in NO_ROOM):
        raise UserError(
            f"{folder.parent} has no room for the proof ({found}): make room (df), then run it again"
        )
    found = found.replace(f"{place}/", "")
    seconds = time.monotonic() - start_s
    return Outcome(what=check.what, is_kept=is_kept, found=found, means=check.means, seconds=seconds)


def _not_tried(check: Check) -> Outcome:
    found = "not tried: what is missing above comes first"
    return Outcome(what=check.what, is_kept=None, found=found, means=check.means, seconds=0.0)


def _of_stores(chance: random.Random, seconds: float) -> Sequence[Check]:
    return (
        Check(
            what="writers that are killed lose and double nothing",
            means="a node that is taken away could cost images",
            look=partial(_kill_writers, chance=chance, seconds=KILLING * seconds),
        ),
        Check(
            what="two writers at once are as one after the other",
            means="array jobs could lose or double images",
            look=partial(_write_beside, chance=chance, seconds=BESIDE * seconds),
        ),
        Check(
            what="damage is found, and repaired from the source",
            means="a damaged image would be trained on",
            look=_repair,
        ),
    )


def _kill_writers(folder: Path, *, chance: random.Random, seconds: float) -> str:
    """Kill every kind of writer at random file operations, then do its work again, store after store."""
    kills = 0

    def change(trial: Trial, change: Change) -> None:
        nonlocal kills
        # The first one always comes that far.
        kills += trial.kill(change, _moment(chance) if kills else 1)
        _demand(trial)

    rounds = _rounds(folder, seconds, lambda trial: _history(trial, change))
    if not kills:
        raise NotKept("no writer could be killed: nothing is proven")
    return f"{kills} kills (SIGKILL) in {rounds} stores"


def _write_beside(folder: Path, *, chance: random.Random, seconds: float) -> str:
    """Let two writers run at once; of others, one stands still at a file operation while another works."""
    pairs = halts = 0

    def play(trial: Trial) -> None:
        nonlocal pairs, halts
        halves = [trial.adding(Share(index=index, count=2)) for index in range(2)]
        trial.together(halves)
        _demand(trial)
        _put_more(trial)
        for change, other in (
            (trial.adding(), trial.adding()),
            (trial.compacting(), trial.relabelling(_relabelled(trial))),
            (trial.retracting("patient0"), trial.compacting()),
            (trial.compacting(), trial.compacting()),
        ):
            # The first one always comes that far.
            halts += trial.beside(change, _moment(chance) if halts else 1, other)
            _demand(trial)
        trial.together([trial.adding(is_replacing=True), trial.retracting("patient1"), trial.compacting()])
        _demand(trial)
        pairs += 6

    rounds = _rounds(folder, seconds, play)
    if not halts:
        raise NotKept("no writer could be halted amid its work: nothing is proven")
    return f"{pairs} pairs in {rounds} stores, {halts} times with one halted amid its work"


def _repair(folder: Path) -> str:
    trial = Trial(folder / "trial")
    _put_pictures(trial)
    trial.run(trial.adding())
    trial.bench.damage("0.png")
    if len(trial.bench.store.verify().problems) != 1:
        raise NotKept("a changed byte was not found")
    if trial.bench.repair().problems:
        raise NotKept("a damaged image was not made again")
    _demand(trial)
    return "one changed byte, found and made again"


def _history(trial: Trial, change: Callable[[Trial, Change], None]) -> None:
    """Every kind of change, each killed once, and made as a whole."""
    makers: tuple[Callable[[], Change], ...] = (
        trial.adding,
        partial(trial.adding, is_replacing=True),
        lambda: trial.relabelling(_relabelled(trial)),
        trial.compacting,
        lambda: trial.retracting("patient0"),
    )
    for make in makers:
        change(trial, make())
        trial.run(make())
        _demand(trial)
        trial.publish()
        _put_more(trial)


def _rounds(folder: Path, seconds: float, play: Callable[[Trial], None]) -> int:
    """Play with new stores until the time is up, at least once; returns how often."""
    start_s, rounds = time.monotonic(), 0
    while not rounds or time.monotonic() - start_s < seconds:
        # Both chunk types in turn.
        trial = Trial(folder / "trial", bits=16 if rounds % 2 else 8)
        _put_pictures(trial)
        play(trial)
        trial.run(trial.adding(is_replacing=True))
        _demand(trial, beside_clean=True)
        shutil.rmtree(folder / "trial")
        rounds += 1
    return rounds


def _moment(chance: random.Random) -> int:
    return int(2 ** chance.uniform(0, MOST_DOUBLINGS))


def _put_pictures(trial: Trial) -> None:
    for number in range(PICTURES):
        trial.put(f"{number}.png", f"class{number % 2}", f"patient{number % PATIENTS}")


def _put_more(trial: Trial) -> None:
    """New pictures, and another one in place of one that is there."""
    begin = len(trial.folder)
    for number in (*range(begin, begin + MORE), 1):
        trial.put(f"{number}.png", f"class{number % 2}", f"patient{number % PATIENTS}")


def _relabelled(trial: Trial) -> dict[str, Image]:
    path, image = min(trial.model.images.items(), key=lambda item: item[0])
    return {path: Image(source=image.source, label="class7", patient=image.patient)}


def _demand(trial: Trial, *, beside_clean: bool = False) -> None:
    """NotKept where the store is not as it must be."""
    found = trial.problems() + (trial.problems_beside_clean() if beside_clean else [])
    if found:
        raise NotKept(f"{found[0]}" + (f" (and {len(found) - 1} more)" if len(found) > 1 else ""))
