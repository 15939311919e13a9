"""Ways to interrupt a run on this machine, and a run that is interrupted by them at random."""

import os
import random
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from mri_hpc.cluster.on_this_machine import process_began
from mri_hpc.rundir.layout import Attempt
from mri_hpc.rundir.ledger import Kind
from mri_hpc.training.checkpoint import OPTIMIZER, WEIGHTS, published
from tests.harness.local_run import POLL_S, LocalRun

# Of the interruptions, one in so many comes while the ranks start.
WHILE_STARTING = 5
STARTING_S = 8.0
MOST_STEPS = 15
DEATH_S = 30.0


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way to interrupt a run, after which it goes on."""

    name: str
    interrupt: Callable[[LocalRun, random.Random], None]
    cause: str
    """What the ledger must say of it."""
    is_crash: bool = False
    """Counts among those that end the run when three come without a new checkpoint between them."""


@dataclass(frozen=True, kw_only=True)
class Interruption:
    """What was done to which attempt."""

    way: Way
    attempt: Attempt


def stop(run: LocalRun, chance: random.Random) -> None:
    """Tell the supervisor to let the ranks save, and to start them again."""
    supervisor = run.supervisor()
    assert supervisor, "the supervisor has ended"
    os.kill(supervisor, signal.SIGUSR2)


def kill_rank(run: LocalRun, chance: random.Random) -> None:
    """As the kernel does when memory is short."""
    os.kill(chance.choice(run.rank_pids()), signal.SIGKILL)


def hang_rank(run: LocalRun, chance: random.Random) -> None:
    """A rank that does nothing more: its peers find out."""
    os.kill(chance.choice(run.rank_pids()), signal.SIGSTOP)


def cancel(run: LocalRun, chance: random.Random) -> None:
    """A user changes her mind, twice."""
    run.command("--cancel")
    run.launch()


def kill_supervisor(run: LocalRun, chance: random.Random) -> None:
    """Nobody is left who could say why, as when the machine loses power; somebody launches again."""
    kill_all(run)
    run.launch()


def kill_all(run: LocalRun) -> None:
    """The supervisor dies at once, and its ranks with it; returns when they have."""
    if not (supervisor := run.supervisor()):
        return
    began = {pid: process_began(pid) for pid in [*run.rank_pids(), supervisor]}
    os.kill(supervisor, signal.SIGKILL)
    deadline = time.monotonic() + DEATH_S
    while any(when and process_began(pid) == when for pid, when in began.items()):
        assert time.monotonic() < deadline, "ranks outlive their supervisor"
        time.sleep(POLL_S)


def damage(run: LocalRun, chance: random.Random) -> None:
    """The newest checkpoint is not what was written; the run finds that as it resumes."""
    # Rank 0 first: it writes no other one.
    os.kill(run.rank_pids()[0], signal.SIGKILL)
    newest = next(published(run.run), None)
    if newest:
        file = newest[0] / chance.choice([WEIGHTS, OPTIMIZER])
        content = bytearray(file.read_bytes())
        content[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        file.write_bytes(content)


WAYS = (
    Way(name="told to stop and come back", interrupt=stop, cause="stopped"),
    Way(name="a rank is killed", interrupt=kill_rank, cause="crash", is_crash=True),
    Way(name="a rank hangs", interrupt=hang_rank, cause="crash", is_crash=True),
    Way(name="cancelled, launched again", interrupt=cancel, cause="cancelled"),
    Way(name="all killed, launched again", interrupt=kill_supervisor, cause="vanished"),
    Way(name="killed, newest checkpoint damaged", interrupt=damage, cause="crash", is_crash=True),
)


def interrupt_often(
    run: LocalRun, ways: Sequence[Way], *, seed: int, say: Callable[[str], None]
) -> list[Interruption]:
    """Launch a run, interrupt it in each of these ways in turn, and wait until it is finished.

    AssertionError where it does not come that far; then nothing of it is left running.
    """
    run.launch()
    try:
        done = _interrupt_in_turn(run, ways, random.Random(seed), say)
        run.wait_for(lambda: run.has_finished, "end of the run")
    except BaseException:
        kill_all(run)
        raise
    return done


def _interrupt_in_turn(
    run: LocalRun, ways: Sequence[Way], chance: random.Random, say: Callable[[str], None]
) -> list[Interruption]:
    done: list[Interruption] = []
    is_early = False
    for number, way in enumerate(ways):
        before = done[-1] if done else None
        # Crashes and stops without a checkpoint between them come close to the end of the run.
        may_be_early = before is not None and not is_early and not (before.way.is_crash and way.is_crash)
        is_early = may_be_early and chance.randrange(WHILE_STARTING) == 0
        _wait_for_moment(run, chance, before.attempt if before else None, is_early=is_early)
        assert not run.run.is_finished, f"finished after {number} interruptions: more epochs are needed"
        done.append(Interruption(way=way, attempt=run.attempt))
        say(f"{number + 1}/{len(ways)} step {run.num_steps()}, attempt {run.attempt}: {way.name}"
            + (" (while starting)" if is_early else ""))  # fmt: skip
        way.interrupt(run, chance)
    return done


def _wait_for_moment(run: LocalRun, chance: random.Random, before: Attempt | None, *, is_early: bool) -> None:
    """Wait for a later attempt: until its ranks start, or until it has saved and taken some steps more."""
    run.wait_for(lambda: before is None or run.attempt > before, f"attempt after {before}")
    if is_early:
        run.wait_for(lambda: len(run.rank_pids()) == run.ranks, "start of the ranks")
        until = time.monotonic() + chance.uniform(0, STARTING_S)
        run.wait_for(
            lambda: time.monotonic() > until or run.events(run.attempt, Kind.FIRST_STEP),
            "moment of the start",
        )
        return
    run.wait_for(lambda: run.run.is_finished or run.events(run.attempt, Kind.SAVED), "new checkpoint")
    enough = run.num_steps() + chance.randint(0, MOST_STEPS)
    run.wait_for(lambda: run.run.is_finished or run.num_steps() >= enough, f"step {enough}")
    # Anywhere in a step, a save or a validation.
    time.sleep(chance.uniform(0, 0.1))
