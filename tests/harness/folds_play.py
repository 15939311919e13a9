"""Runs of several folds on a sandbox, each interrupted at random, within its second stage too."""

import itertools
import random
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.ledger import Event, Kind
from mri_hpc.rundir.metrics_log import read_metrics
from mri_hpc.rundir.pooling import read_pooling
from tests.harness.cluster import Slurm
from tests.harness.real_run import MODEL, RealRun, draw, module, stored
from tests.harness.results import results_of

FOLDS = 3
# As many of each class as give each fold more than the 20 validation patients who may choose a pooling.
PATIENTS = 130
SLICES = 3
EPOCHS = 5
TRAINING = {
    "model": MODEL, "batch-size": 8, "epochs": EPOCHS, "decay-epochs": 2, "ema-decay": 0.9, "patience": 99,
    "pooling": "attention", "checkpoint-interval-s": 2, "hang-timeout-s": 300,
}  # fmt: skip
JOB = {"nodes": 2, "tasks-per-node": 1, "gpus-per-node": 0, "cpus-per-task": 1, "time-limit-min": 50}
# A node holds one rank, so that who takes the nodes of one fold leaves the others alone.
SANDBOX = ("--nodes", 4, "--cpus-per-node", 1, "--gpus-per-node", 0, "--slurmd-timeout", 60)
# On a machine that others use as well.
PATIENCE_S = 1800.0
POLL_S = 0.02
# Of its second stage, as the uninterrupted run took it: later on, a signal may come too late.
EARLY = 0.6


@dataclass(frozen=True, kw_only=True)
class Way:
    """One way to interrupt a run, which comes back by itself."""

    name: str
    interrupt: Callable[[RealRun, random.Random], object]
    cause: str
    """What the ledger must say of it."""


def requeue(run: RealRun, _chance: random.Random) -> None:
    """As an administrator does."""
    run.slurm.run(["scontrol", "requeue", run.job_id])


def preempt(run: RealRun, _chance: random.Random) -> None:
    """A job of a higher partition takes the nodes: SIGTERM."""
    nodes = run.slurm.job(run.job_id)["NodeList"]
    run.slurm.sbatch("-p", "high", "-w", nodes, "-N2", "--exclusive", "-o", "/dev/null", "--wrap", "sleep 1")


def kill_rank(run: RealRun, chance: random.Random) -> None:
    """SIGKILL, as of the kernel when memory is short."""
    run.signal(chance.randrange(2), signal.SIGKILL)


WAYS = (
    Way(name="scontrol requeue", interrupt=requeue, cause="requeued"),
    Way(name="preempted, SIGTERM", interrupt=preempt, cause="preempted"),
    Way(name="a rank is killed", interrupt=kill_rank, cause="crash"),
)


@dataclass(frozen=True, kw_only=True)
class Interruption:
    """What was done to an attempt of a fold."""

    way: Way
    attempt: str
    is_late: bool
    """Aimed at the second stage."""


@dataclass
class Folds:
    """The runs of one `launch --folds`."""

    folder: Path
    slurm: Slurm
    store: Path
    done: dict[int, list[Interruption]] = field(default_factory=dict)
    """By fold, in their order."""

    def launch(self) -> None:
        """The command, as a user types it: all folds at once."""
        settings = {"store": self.store, "folds": FOLDS, **TRAINING, **JOB}
        typed = [word for name, value in settings.items() for word in (f"--{name}", value)]
        argv = [*module("launch"), "--run", self.folder, "--deterministic", *typed]
        self.slurm.run(argv, env={**self.slurm.env, "OMP_NUM_THREADS": "1"}, timeout=PATIENCE_S)

    def run(self, fold: int) -> RealRun:
        """The run of one fold."""
        run = RunDir(self.folder / f"fold-{fold}")
        return RealRun(run=run, slurm=self.slurm, store=self.store, epochs=EPOCHS)

    def wait(self) -> None:
        """Wait until every fold is finished."""
        for fold in range(1, FOLDS + 1):
            run = self.run(fold)
            run.wait_for(lambda run=run: has_ended(run), "the end of the run", PATIENCE_S)
            assert run.run.is_finished, run.decisions()


def make_store(folder: Path) -> Path:
    """A store of patients of two classes, of whom nothing says where they belong."""
    drawn = np.random.default_rng(0)
    for label, patient, part in itertools.product(range(2), range(PATIENTS), range(SLICES)):
        draw(folder / "raw" / f"class{label}" / f"{label}{patient:03d}" / f"{part}.png", label, drawn)
    return stored(folder)


def has_ended(run: RealRun) -> bool:
    """Whether nothing comes back by itself any more."""
    decided = run.events(Kind.DECIDED)
    return bool(decided) and decided[-1].values["decision"] != "again"


def interrupt_all(folds: Folds, whole: Folds, *, each: int, seed: int, say: Callable[[str], None]) -> None:
    """Launch all folds; interrupt each in its training and in its second stage, and wait for their end.

    each: interruptions of training, and again of the second stage. AssertionError where a run does not come
    that far.
    """
    folds.launch()
    with ThreadPoolExecutor(FOLDS) as threads:
        done = [
            threads.submit(interrupt, folds, whole.run(fold), fold, each=each, seed=seed, say=say)
            for fold in range(1, FOLDS + 1)
        ]
    for one in done:
        one.result()
    folds.wait()


def interrupt(
    folds: Folds, whole: RealRun, fold: int, *, each: int, seed: int, say: Callable[[str], None]
) -> None:
    """Interrupt one fold. whole: the same fold, which nobody interrupts."""
    run, chance, done = folds.run(fold), random.Random(f"{seed} {fold}"), folds.done.setdefault(fold, [])
    steps = sorted(chance.sample(range(5, whole.step() - 5), each))
    late_s = [chance.uniform(0, EARLY * second_stage_s(whole)) for _ in range(each)]
    # Each fold begins with another way, so that few of each fold make all of all.
    ways = [WAYS[(fold + number) % len(WAYS)] for number in range(each)]
    moments: list[tuple[Way, int | None, float]] = [
        *((way, step, 0.0) for way, step in zip(ways, steps, strict=True)),
        *((way, None, wait_s) for way, wait_s in zip(ways, late_s, strict=True)),
    ]
    for way, step, wait_s in moments:
        before = done[-1].attempt if done else None
        if not wait_for_moment(run, before, step, wait_s):
            return
        attempt = newest(run)
        done.append(Interruption(way=way, attempt=attempt, is_late=step is None))
        where = f"step {run.step()}" if step is not None else f"second stage, {wait_s:.1f} s in"
        say(f"fold {fold}, attempt {attempt}, {where}: {way.name}")
        way.interrupt(run, chance)


def wait_for_moment(run: RealRun, before: str | None, step: int | None, wait_s: float) -> bool:
    """Wait for a later attempt to reach a step, or its second stage; False where the run ends before."""

    def is_there() -> bool:
        if has_ended(run):
            return True
        if not run.run.all_attempts() or newest(run) == before:
            return False
        kind = Kind.FIRST_STEP if step is not None else Kind.TRAINED
        has_come = any(event.attempt == newest(run) for event in run.events(kind))
        return has_come and (step is None or run.step() >= step or late(run, newest(run)))

    run.wait_for(is_there, f"step {step}" if step is not None else "second stage", PATIENCE_S)
    time.sleep(wait_s)
    return not has_ended(run)


def newest(run: RealRun) -> str:
    """The newest attempt, as the ledger writes it."""
    return str(run.run.newest_attempt())


def late(run: RealRun, attempt: str) -> bool:
    """Whether an attempt has come to its second stage."""
    return any(event.attempt == attempt for event in run.events(Kind.TRAINED))


def second_stage_s(run: RealRun) -> float:
    """How long it took an uninterrupted run to learn attention, and to answer."""
    [trained], [predicted] = run.events(Kind.TRAINED), run.events(Kind.PREDICTED)
    return predicted.time - trained.time


def stages(run: RealRun, done: Sequence[Interruption]) -> Iterator[tuple[Interruption, str]]:
    """In which phase each interruption found its attempt; "" where it came too late."""
    for one in done:
        events = {event.kind: event for event in run.events(*Kind) if event.attempt == one.attempt}
        if Kind.PREDICTED in events:
            yield one, ""
        elif Kind.STOP_AGREED in events:
            yield one, str(events[Kind.STOP_AGREED].values["phase"])
        else:
            yield one, "second stage" if Kind.TRAINED in events else "training"


def problems(folds: Folds, whole: Folds) -> list[str]:
    """What is not as it should be, a line each."""
    found = [line for fold in range(1, FOLDS + 1) for line in _problems_of(folds, whole, fold)]
    hit = {
        one.way.name
        for fold, done in folds.done.items()
        for one, stage in stages(folds.run(fold), done)
        if one.is_late and stage
    }
    return [*found, *(f"no second stage: {way.name}" for way in WAYS if way.name not in hit)]


def _problems_of(folds: Folds, whole: Folds, fold: int) -> Iterator[str]:
    run, other = folds.run(fold), whole.run(fold)
    wanted, got = results_of(other.run), results_of(run.run)
    yield from (f"fold {fold}: {name} differ" for name in wanted if wanted[name] != got.get(name))
    steps = [line["step"] for line in read_metrics(run.run) if "loss" in line]
    if steps != list(range(1, len(steps) + 1)):
        yield f"fold {fold}: metrics.jsonl does not hold each step once"
    pooling = read_pooling(run.run)
    if not (pooling and pooling.was_chosen):
        yield f"fold {fold}: no pooling was chosen"
    causes = {event.attempt: event.values["cause"] for event in run.events(Kind.DECIDED)}
    late_ones = {one.attempt for one, stage in stages(run, folds.done.get(fold, ())) if not stage}
    expected: Mapping[str, str] = {one.attempt: one.way.cause for one in folds.done.get(fold, ())}
    for attempt, cause in causes.items():
        due = "finished" if attempt in late_ones else expected.get(attempt, "finished")
        if cause != due:
            yield f"fold {fold}: attempt {attempt} ended by {cause}, not {due}"


def table(folds: Folds) -> list[str]:
    """What was done to which fold, and what it cost, as lines of a Markdown table."""
    rows = ["| fold | attempt | interruption | in | steps lost |", "|---|---|---|---|---|"]
    for fold, done in sorted(folds.done.items()):
        run = folds.run(fold)
        lost = _lost(run.events(Kind.LOST))
        numbers = [str(one) for one in run.run.all_attempts()]
        for one, stage in stages(run, done):
            after = numbers[numbers.index(one.attempt) + 1 :][:1]
            cost = lost.get(after[0], 0) if after else 0
            rows.append(f"| {fold} | {one.attempt} | {one.way.name} | {stage or 'too late'} | {cost} |")
    return rows


def _lost(events: Sequence[Event]) -> dict[str, int]:
    """Steps that an attempt did again, by attempt."""
    return {event.attempt: int(event.values["steps"]) for event in events}
