"""Plays events on real runs, and says what came of each beside what should have."""

import queue
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.metrics_log import read_metrics
from tests.harness.cluster import Sandboxes, Slurm, slurm_version
from tests.harness.disks import Disk
from tests.harness.real_run import RealRun
from tests.harness.results import results_of
from tests.harness.slurm_events import ROWS, SANDBOX, Row

ACCOUNTING_LAG_S = 30.0


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of one event."""

    row: Row
    problems: tuple[str, ...] = ()
    """What is not as it should be."""
    states: tuple[str, ...] | None = ()
    """Of the jobs in Slurm's accounting, attempt by attempt; None where there is no accounting."""
    decisions: tuple[str, ...] = ()
    steps_lost: int = 0
    seconds_lost: float = 0.0
    next_step_s: float | None = None
    """From the event to the next step."""
    by_hand: bool = False
    """From the moment at which somebody launched again."""
    is_equal: bool | None = None
    """Whether it ended as the uninterrupted run; None where it did not go on."""


@dataclass
class Uninterrupted:
    """How uninterrupted runs end, by their number of epochs: each is run once, by whoever asks first."""

    store: Path
    folder: Path
    """Of the runs that are interrupted."""
    kept: Path
    """Of those that are not; a finished one that is there already is as good."""
    disks: Mapping[str, Disk] = field(default_factory=dict)
    """Of the rows whose run has one of its own, by name."""
    sandbox: Sequence[str] = ()
    """Of `sandbox up`, for all rows alike."""
    _results: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def results(self, epochs: int, slurm: Slurm) -> Mapping[str, Any]:
        """What came of the run of so many epochs."""
        with self._lock:
            if epochs not in self._results:
                folder = RunDir(self.kept / f"uninterrupted {epochs}")
                if not folder.is_finished:
                    # A call that was ended left half of it.
                    shutil.rmtree(folder.path, ignore_errors=True)
                    run = RealRun(run=folder, slurm=slurm, store=self.store, epochs=epochs)
                    run.launch()
                    assert run.wait_for_end_of_job() == "COMPLETED", run.logs()
                self._results[epochs] = results_of(folder)
            return self._results[epochs]


def play_all(
    rows: Sequence[Row],
    whole: Uninterrupted,
    *,
    workers: int,
    say: Callable[[Outcome], None] = lambda _: None,
) -> list[Outcome]:
    """Play rows, as many at once as there are workers, each of which has one sandbox at a time."""
    waiting: queue.SimpleQueue[Row] = queue.SimpleQueue()
    # Rows that share a kind of sandbox follow each other.
    for row in sorted(rows, key=lambda row: tuple(row.sandbox)):
        waiting.put(row)
    workplaces = [
        Workplace(Sandboxes(folder=whole.folder / f"w{number}"), waiting, whole, say)
        for number in range(workers)
    ]
    # Whoever interrupts this does not want to wait for what they wait for.
    threads = [threading.Thread(target=one.work, daemon=True) for one in workplaces]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        for one in workplaces:
            one.boxes.stop_all()
    for one in workplaces:
        if one.failure:
            raise one.failure
    outcomes = [outcome for one in workplaces for outcome in one.outcomes]
    order = [row.name for row in ROWS]
    return sorted(outcomes, key=lambda outcome: order.index(outcome.row.name))


@dataclass
class Workplace:
    """Plays rows one after the other, each in a sandbox of its kind."""

    boxes: Sandboxes
    waiting: "queue.SimpleQueue[Row]"
    whole: Uninterrupted
    say: Callable[[Outcome], None]
    outcomes: list[Outcome] = field(default_factory=list)
    failure: BaseException | None = None
    """Why it could not go on."""

    def work(self) -> None:
        """Play rows until none is left."""
        try:
            self.boxes.folder.mkdir()
            self._play_rows()
        except queue.Empty:
            return
        except BaseException as failure:  # noqa: BLE001 - whatever it is, the caller has to hear of it
            self.failure = failure

    def _play_rows(self) -> None:
        slurm, options = None, None
        while True:
            row = self.waiting.get_nowait()
            if slurm is None or options != row.sandbox:
                if slurm:
                    self.boxes.stop(slurm)
                slurm, options = self.boxes.start(*SANDBOX, *self.whole.sandbox, *row.sandbox), row.sandbox
            outcome = play(row, slurm, self.whole)
            self.outcomes.append(outcome)
            self.say(outcome)
            if outcome.problems:
                # Whatever is left of it must not disturb the next one.
                self.boxes.stop(slurm)
                slurm = None


def play(row: Row, slurm: Slurm, whole: Uninterrupted) -> Outcome:
    """Run, interrupt, and look."""
    disk = whole.disks[row.name] if row.has_own_disk else None
    run = RealRun(
        run=RunDir((disk.folder if disk else whole.folder) / row.name), slurm=slurm, store=whole.store,
        epochs=row.epochs, options=row.options, disk=disk,
        checkpoint_interval_s=row.checkpoint_interval_s,
    )  # fmt: skip
    problems: list[str] = []
    is_equal = None
    try:
        row.begin(run)
        row.interrupt(run)
        run.wait_for_end_of_job()
        assert run.run.is_finished == row.is_finished, (
            f"it ended, and {run.status()['state']} is how it stands"
        )
        if row.is_finished:
            is_equal = results_of(run.run) == whole.results(row.epochs, slurm)
    except (AssertionError, OSError, subprocess.SubprocessError) as error:
        problems.append(str(error))
    states = _accounted(run, row)
    decisions = tuple(run.decisions())
    steps, seconds = run.steps_lost()
    return Outcome(
        row=row, states=states, decisions=decisions, steps_lost=steps, seconds_lost=seconds,
        next_step_s=run.seconds_to_next_step(), by_hand=run.by_hand, is_equal=is_equal,
        problems=(*problems, *_differences(row, states, decisions, is_equal), *_too_much_lost(row, run)),
    )  # fmt: skip


def _differences(
    row: Row, states: tuple[str, ...] | None, decisions: tuple[str, ...], is_equal: bool | None
) -> list[str]:
    wanted = {"states": tuple(row.states_of(slurm_version())), "decisions": tuple(row.decisions)}
    if states is None:
        # Nobody but the accounting knows afterwards why a job was taken from its node.
        wanted["decisions"] = tuple(one.replace("node_failure", "requeued") for one in row.decisions)
    found = {"states": wanted["states"] if states is None else states, "decisions": decisions}
    other = row.other_course
    is_other = other is not None and decisions == other[0] and states in (None, other[1])
    differing = [name for name in wanted if found[name] != wanted[name] and not is_other]
    odd = [f"{name}: {found[name]}, not {wanted[name]}" for name in differing]
    return [*odd, "the digests differ from those of the uninterrupted run"] if is_equal is False else odd


def _too_much_lost(row: Row, run: RealRun) -> list[str]:
    """Catchable events cost nothing; others the interval, and the step in which it ends."""
    steps, seconds = run.steps_lost()
    longest = max((line["seconds"] for line in read_metrics(run.run) if "seconds" in line), default=0.0)
    most_s = row.checkpoint_interval_s + longest
    if steps and not row.may_lose:
        return [f"{steps} steps lost, not 0"]
    return [f"{steps} steps of {seconds:.2f} s lost, at most {most_s:.2f} s"] if seconds > most_s else []


def _accounted(run: RealRun, row: Row) -> tuple[str, ...] | None:
    """What sacct says, once it has caught up."""
    if not run.slurm.has_accounting:
        return None
    deadline = time.monotonic() + ACCOUNTING_LAG_S
    wanted = {tuple(row.states_of(slurm_version())), row.other_course[1] if row.other_course else None}
    while True:
        states = tuple(state for job in run.job_ids for state in run.slurm.accounted_states(job))
        if states in wanted or time.monotonic() > deadline:
            return states
        time.sleep(0.5)


HEADS = ("event", "Slurm's accounting", "what was decided", "steps lost", "to the next step", "digests")


def cells(outcome: Outcome) -> list[str]:
    """One row of the table."""
    next_step = "" if outcome.next_step_s is None else f"{outcome.next_step_s:.0f} s"
    by_hand = " after launching again" if outcome.by_hand and next_step else ""
    return [
        outcome.row.name,
        ", ".join(outcome.states or ()),
        ", ".join(outcome.decisions),
        f"{outcome.steps_lost} ({outcome.seconds_lost:.1f} s)" if outcome.steps_lost else "0",
        next_step + by_hand,
        {True: "equal", False: "DIFFER", None: ""}[outcome.is_equal],
    ]


def table(outcomes: Sequence[Outcome]) -> list[str]:
    """All outcomes as lines of a Markdown table, under two of heading."""
    rows = [HEADS, ["---"] * len(HEADS), *map(cells, outcomes)]
    return [f"| {' | '.join(row)} |" for row in rows]
