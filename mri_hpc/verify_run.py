"""``mri-hpc verify-run``: does some steps of a run again, and holds them against what it has recorded."""

import contextlib
import os
import random
import signal
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

from mri_hpc.base.command import counted, print_json, run_command
from mri_hpc.base.errors import UserError, Verdict
from mri_hpc.base.exit_status import USER_CAN_FIX
from mri_hpc.base.marks import POSITIONAL, Flag
from mri_hpc.cluster.local import Ranks, environment_of_rank
from mri_hpc.cluster.outcome import tail
from mri_hpc.cluster.rank import rank_command
from mri_hpc.cluster.slurm import without_slurm
from mri_hpc.rundir.interval import Interval, Record, find_intervals, interval_from, read_record
from mri_hpc.rundir.layout import Attempt, RunDir, open_run
from mri_hpc.rundir.replay import (
    Comparison,
    Difference,
    Outcome,
    Replayed,
    compare,
    differing_conditions,
    read_replayed,
    write_interval,
)
from mri_hpc.rundir.settings import load_training
from mri_hpc.storage.store import Store

NAME = "mri-hpc verify-run"
RANK = "mri_hpc.replaying"
POLL_S = 0.05
SHOWN = 12
"""Letters of a digest that people see."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Do some steps of a run again, from a kept checkpoint on, and compare them with what it recorded.

    Samples, losses and weights; nothing is written into the run. Says how sure the answer is: equal to the
    bit, or within rounding where the run is not --deterministic, or this machine is another.
    """

    run: Annotated[Path, POSITIONAL]
    """Folder of the run, which may be finished or not."""
    steps: int = 50
    """Most steps to do again."""
    from_step: int | None = None
    """Step of the kept checkpoint to start from; by default one at random."""
    ranks: int | None = None
    """Ranks to do it with, on this machine; by default as many as the run had then."""
    threads: int | None = None
    """Threads of each; by default as many as then."""
    json: Flag = False
    """Print JSON."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    return run_command(NAME, Options, verify, argv, example=f"{NAME} runs/resnet18-1a2b3c4d --steps 50")


def verify(options: Options) -> None:
    """Replay an interval, and print how it compares. Raises UserError; Verdict where it differs."""
    for name in ("steps", "ranks", "threads"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise UserError(f"--{name} must be at least 1, got {value}")
    run = open_run(options.run)
    record = read_record(run)
    interval = _chosen(run, record, options)
    _refuse_lost_images(run, record, interval)
    ranks, threads = options.ranks or interval.ranks, options.threads or interval.threads
    replayed = _replayed(interval, ranks=ranks, threads=threads)
    compared = compare(record, interval, replayed)
    if options.json:
        print_json(as_json(interval, replayed, compared, ranks=ranks, threads=threads))
    else:
        print("\n".join(lines_of(interval, replayed, compared, ranks=ranks, threads=threads)))
    if compared.outcome is Outcome.DIFFERS or replayed.damage:
        raise Verdict(f"{run.path} does not come to what it recorded: {_next(interval, replayed, compared)}")


def _chosen(run: RunDir, record: Record, options: Options) -> Interval:
    intervals = find_intervals(run, record, options.steps)
    if not intervals:
        raise UserError(
            f"{run.path} has nothing to do again: it keeps no checkpoint with a recorded step after it; see: "
            f"mri-hpc status {run.path}"
        )
    if options.from_step is not None:
        return interval_from(intervals, record, run, options.from_step)
    return random.SystemRandom().choice(intervals)


def _refuse_lost_images(run: RunDir, record: Record, interval: Interval) -> None:
    """Raise UserError where the store lacks the snapshot, or rows of it were retracted since."""
    try:
        store = Store.open(Path(load_training(run).store))
        store.resolve(record.progress_from(interval.start).snapshot)
    except UserError as error:
        raise UserError(f"{run.path} cannot be done again: {error}") from None


def _replayed(interval: Interval, *, ranks: int, threads: int) -> Replayed:
    """Have ranks do an interval again, in a folder of their own, which is removed. Raises UserError."""
    with (
        _no_end_before_it_is_removed() as asked,
        tempfile.TemporaryDirectory(prefix="mri-hpc-replay-") as name,
    ):
        folder = Path(name)
        write_interval(folder, interval)
        status, rank = _run_ranks(folder, interval, asked, ranks=ranks, threads=threads)
        replayed = read_replayed(folder)
        log = RunDir(folder).rank_log(Attempt(submission=1, restart=0), rank)
        words = tail(log) if log.is_file() else [f"rank {rank} did not come to write a log"]
    if asked:
        # As if nobody had listened.
        os.kill(os.getpid(), asked[0])
    if status == USER_CAN_FIX:
        raise UserError(words[-1].removeprefix(f"{NAME}: "))
    if replayed is None:
        raise RuntimeError("\n".join([f"rank {rank} of the replay ended with {status}:", *words]))
    return replayed


def _run_ranks(
    folder: Path, interval: Interval, asked: Sequence[int], *, ranks: int, threads: int
) -> tuple[int, int]:
    """Run the ranks to their end; return the status of the first that failed and its number, else 0 and 0."""
    command = [*rank_command(folder, 1, RANK), "--parent", str(os.getpid())]
    gpus = ranks if interval.is_on_gpus else 0
    of_ranks = {
        rank: without_slurm(environment_of_rank(rank, ranks, threads=threads, gpus=gpus))
        for rank in range(ranks)
    }
    running = Ranks(dict.fromkeys(of_ranks, command), of_ranks)
    try:
        while not running.are_gone and not running.has_crashed and not asked:
            time.sleep(POLL_S)
            running.reap()
    finally:
        # Whoever is left waits for one that has gone.
        running.kill()
        while not running.are_gone:
            time.sleep(POLL_S)
            running.reap()
    return running.status, running.failed_rank or 0


@contextlib.contextmanager
def _no_end_before_it_is_removed() -> Iterator[list[int]]:
    """Give a list to which SIGTERM and SIGHUP are added, in place of what they do."""
    asked: list[int] = []
    before = {
        number: signal.signal(number, lambda number, _frame: asked.append(number))
        for number in (signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def as_json(
    interval: Interval, replayed: Replayed, compared: Comparison, *, ranks: int, threads: int
) -> dict[str, Any]:
    """Make one JSON document of a replay."""
    return {
        "run": interval.run, "from_step": interval.start, "to_step": interval.end,
        "ranks": ranks, "threads": threads, "damage": replayed.damage, **asdict(compared),
        "conditions_that_differ": {
            name: {"before": before, "now": now} for name, (before, now) in replayed.changed.items()
        },
        "weights": {str(step): digest for step, digest in replayed.weights.items()},
        "samples": {str(step): digest for step, digest in replayed.samples.items()},
    }  # fmt: skip


def lines_of(
    interval: Interval, replayed: Replayed, compared: Comparison, *, ranks: int, threads: int
) -> list[str]:
    """Say for people what a replay came to, and how sure that is."""
    if replayed.damage:
        return [f"checkpoint {interval.start} is damaged ({replayed.damage}): nothing was done again"]
    what = f"{counted(ranks, 'rank')} of {counted(threads, 'thread')}"
    lines = [f"steps {interval.start + 1} to {interval.end} of {interval.run}, done again by {what}"]
    for step, digest in replayed.weights.items():
        samples = replayed.samples[step]
        lines.append(f"  after step {step}: samples {samples[:SHOWN]}, weights {digest[:SHOWN]}")
    if not replayed.weights:
        lines.append("  losses alone: the next kept checkpoint is more --steps on, or there is none")
    if compared.first:
        lines.append(f"  first difference: {_in_words(compared.first)}")
    if replayed.changed:
        lines.append(f"  conditions that differ: {differing_conditions(replayed.changed)}")
    return [*lines, answer(interval, replayed, compared)]


def answer(interval: Interval, replayed: Replayed, compared: Comparison) -> str:
    """Say in one line what came of it, and how sure that is."""
    over = f"over {counted(compared.num_steps, 'step')}"
    kept = f", weights equal {counted(len(replayed.weights), 'time')}" if replayed.weights else ""
    if compared.outcome is Outcome.EQUAL:
        return f"equal to the bit {over}{kept}"
    why = "conditions differ" if replayed.changed else "not deterministic"
    sure = "" if compared.is_promised else f": {why}, so that equal bits are not promised"
    first, largest = compared.first_loss_off, compared.largest_loss_off
    if compared.outcome is Outcome.CLOSE:
        return f"losses within {largest:.1e} {over} (the first within {first:.1e}){sure}"
    return f"DIFFERS {over}: losses by up to {largest:.1e}, the first by {first:.1e}{sure}"


def _in_words(difference: Difference) -> str:
    recorded, now = (
        value[:SHOWN] if isinstance(value, str) else repr(value)
        for value in (difference.recorded, difference.now)
    )
    quantity = difference.quantity.replace("_", " ")
    return f"step {difference.step}, {quantity}: {recorded} recorded, {now} now"


def _next(interval: Interval, replayed: Replayed, compared: Comparison) -> str:
    """Say what to look at next."""
    if replayed.damage:
        return "restore the checkpoint from a backup, or remove it"
    if compared.first and compared.first.quantity == "steps":
        return (
            f"by --epochs and --patience as its settings are now, training ends after step "
            f"{compared.first.now}: choose another --from-step"
        )
    if replayed.changed:
        return f"see which of these matters: {', '.join(replayed.changed)}"
    store = load_training(RunDir(Path(interval.run))).store
    return f"no condition differs; see whether the images are sound: mri-hpc store verify {store}"


if __name__ == "__main__":
    sys.exit(main())
