"""One run on a sandbox whose number of nodes changes whenever it is interrupted."""

import itertools
import random
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.ledger import Kind
from mri_hpc.rundir.metrics_log import read_metrics
from tests.harness.cluster import Slurm
from tests.harness.real_run import RealRun, draw, stored
from tests.harness.results import results_of

# A node holds one rank.
SANDBOX = ("--nodes", 4, "--cpus-per-node", 1, "--gpus-per-node", 0, "--slurmd-timeout", 60)
NODES = 4
SIZES = (1, 4, 2, 3)
PATIENTS = {"train": 16, "validation": 4, "test": 4}
SLICES = 4
STEPS_AN_EPOCH = 7
MOST_EPOCHS = 20
# It improves once, and never by 100: the rate decays after the fifth epoch, and it stops two epochs later.
PATIENCE, DECAY = 4, 2
STEPS = (1 + PATIENCE + DECAY) * STEPS_AN_EPOCH
SETTINGS = {
    "nodes": "1-4", "tasks-per-node": 1, "batch-size": 16, "patience": PATIENCE, "decay-epochs": DECAY,
    "min-improvement": 100, "ema-decay": 0.9, "class-weights": "balanced", "clip-norm": 1, "mixup": 0.4,
    "hang-timeout-s": 300, "time-limit-min": 50,
}  # fmt: skip
PATIENCE_S = 1800.0


def make_store(folder: Path) -> Path:
    """A store of pictures in two classes, one of them rarer, whose folders name the splits."""
    drawn = np.random.default_rng(0)
    for split, patients in PATIENTS.items():
        for label, patient, part in itertools.product(range(2), range(patients), range(SLICES)):
            if label and patient % 4 == 3:
                continue
            below = folder / "raw" / split / f"class{label}" / f"{split}{label}{patient:02d}"
            draw(below / f"{part}.png", label, drawn)
    return stored(folder)


@dataclass
class Sizes:
    """Runs of one model on a sandbox, and the jobs that leave them less than all nodes."""

    folder: Path
    slurm: Slurm
    store: Path
    model: str
    accumulate: int
    say: Callable[[str], None]
    in_the_way: str = ""
    """Number of the job that has the other nodes."""

    def run(self, name: str) -> RealRun:
        """A run of these settings."""
        settings = {**SETTINGS, "model": self.model, "accumulate": self.accumulate}
        options = [word for name, value in settings.items() for word in (f"--{name}", str(value))]
        return RealRun(
            run=RunDir(self.folder / f"{self.model}-{name}"), slurm=self.slurm, store=self.store,
            epochs=MOST_EPOCHS, options=options,
        )  # fmt: skip

    def leave(self, nodes: int) -> None:
        """Have a job of a higher partition take all nodes but so many; who is on them is preempted."""
        if self.in_the_way:
            self.slurm.run(["scancel", self.in_the_way])
            self.slurm.wait_end(self.in_the_way, timeout_s=PATIENCE_S)
            self.in_the_way = ""
        if nodes < NODES:
            taken = (
                "-p",
                "high",
                "-N",
                NODES - nodes,
                "--exclusive",
                "-o",
                "/dev/null",
                "--wrap",
                "sleep 7200",
            )
            self.in_the_way = self.slurm.sbatch(*taken)
            self.slurm.wait_state(self.in_the_way, "RUNNING", timeout_s=PATIENCE_S)

    def play_whole(self) -> RealRun:
        """The run on all nodes, which nobody interrupts."""
        self.leave(NODES)
        whole = self.run("whole")
        whole.launch()
        wait_for_end(whole)
        return whole

    def play_changing(self, chance: random.Random) -> RealRun:
        """The run with another number of nodes after each interruption."""
        run = self.run("changing")
        steps = sorted(chance.sample(range(3, STEPS - 2), len(SIZES) - 1))
        self.leave(SIZES[0])
        run.launch()
        for number, (now, then) in enumerate(itertools.pairwise(SIZES)):
            wait_for_attempt(run, number, now)
            run.wait_for(lambda step=steps[number]: run.step() >= step, f"step {steps[number]}", PATIENCE_S)
            self.say(f"{now} nodes, step {run.step()}: interrupted, then {then}")
            self.leave(then)
            if then > now:
                # Nobody took its nodes.
                interrupt(run, chance)
        wait_for_end(run)
        return run


def interrupt(run: RealRun, chance: random.Random) -> None:
    """Requeue it as an administrator does, or kill one of its ranks."""
    if chance.random() < 0.5:
        run.slurm.run(["scontrol", "requeue", run.job_id])
    else:
        run.signal(chance.choice(sorted(run.ranks())), signal.SIGKILL)


def wait_for_attempt(run: RealRun, number: int, ranks: int) -> None:
    """Wait until so many attempts before this one have begun, and it, with so many ranks."""
    run.wait_for(lambda: len(run.events(Kind.FIRST_STEP)) > number, f"attempt {number + 1}", PATIENCE_S)
    assert sizes_of(run)[-1] == ranks, f"{sizes_of(run)} ranks in turn, and {ranks} were free"


def wait_for_end(run: RealRun) -> None:
    """Wait until nothing comes back by itself any more."""

    def has_ended() -> bool:
        decided = run.events(Kind.DECIDED)
        return bool(decided) and decided[-1].values["decision"] != "again"

    run.wait_for(has_ended, "the end of the run", PATIENCE_S)
    assert run.run.is_finished, run.decisions()


def sizes_of(run: RealRun) -> list[int]:
    """Ranks of the attempts in turn."""
    return [int(event.values["ranks"]) for event in run.events(Kind.STARTED)]


def problems(whole: RealRun, changing: RealRun) -> Iterator[str]:
    """What is not as it should be, a line each."""
    wanted, got = results_of(whole.run), results_of(changing.run)
    yield from (f"{name} differ" for name in wanted if wanted[name] != got.get(name))
    if sizes_of(changing) != list(SIZES):
        yield f"{sizes_of(changing)} ranks in turn, not {list(SIZES)}"
    for run in (whole, changing):
        steps = [line["step"] for line in read_metrics(run.run) if "loss" in line]
        if steps != list(range(1, STEPS + 1)):
            yield f"{run.run.path.name}: metrics.jsonl does not hold each of {STEPS} steps once: {len(steps)}"
        if changed := run.events(Kind.CHANGED):
            yield f"{run.run.path.name}: {[event.values for event in changed]} changed"


def table(whole: RealRun, changing: RealRun, took_s: Sequence[float]) -> list[str]:
    """What both came to, as lines of a Markdown table."""
    rows = ["| run | ranks in turn | steps lost | seconds | weights | samples |", "|---|---|---|---|---|---|"]
    for run, seconds in zip((whole, changing), took_s, strict=True):
        found = results_of(run.run)
        digests = f"{found['weights_digest'][:16]} | {found['samples_digest'][:16]}"
        lost = run.steps_lost()[0]
        in_turn = ", ".join(map(str, sizes_of(run)))
        rows.append(f"| {run.run.path.name} | {in_turn} | {lost} | {seconds:.0f} | {digests} |")
    return rows


def play(sizes: Sizes, seed: int) -> list[str]:
    """Play both runs of a model; print what came of it; return what is not as it should be."""
    began = [time.monotonic()]
    whole = sizes.play_whole()
    began.append(time.monotonic())
    sizes.say(f"{sizes.model}: the uninterrupted run took {began[1] - began[0]:.0f} s")
    changing = sizes.play_changing(random.Random(f"{seed} {sizes.model}"))
    began.append(time.monotonic())
    sizes.leave(NODES)
    took_s = [later - sooner for sooner, later in itertools.pairwise(began)]
    print("\n".join(table(whole, changing, took_s)), flush=True)
    return [f"{sizes.model}: {problem}" for problem in problems(whole, changing)]
