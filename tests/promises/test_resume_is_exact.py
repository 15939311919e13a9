"""Promise 7: in deterministic mode a run that was interrupted ends with the bits of one that was not.

Four ranks, since with two the order of addition cannot show: real processes, stopped by real signals at
moments that are drawn anew each time. A failure prints MRI_TEST_SEED, which draws them again.
"""

import json
import os
import random
import shutil
import time
from dataclasses import dataclass
from itertools import pairwise

import pytest

from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.ledger import read_events
from mri_hpc.rundir.provenance import read_provenance
from mri_hpc.rundir.settled_batch import read_settled
from tests.harness.results import results_of


def finish(start_ranks, run, ranks, **options):
    world = start_ranks(run, ranks=ranks, **options)
    assert world.statuses() == [0] * ranks, world.log()
    assert run.is_finished
    return results_of(run)


@dataclass(frozen=True)
class Interruption:
    """A signal to one rank, and where it stops all of them."""

    epoch: int
    step: int
    """Steps done when the ranks stop."""
    phase: str
    rank: int
    signal: str

    def breaks(self, resumed: "Interruption | None") -> dict:
        """What to break in an attempt that goes on from where another interruption has left the run."""
        if self.phase == "training":
            # The batch after which the ranks are to stop, counted from the start of the attempt.
            batch = self.step - (resumed.step if resumed else 0) - 1
        else:
            batch = self.epoch - (resumed.epoch if resumed else 0)
        return {self.rank: [["signal_in", self.phase, self.signal, batch]]}


def draw_interruptions(random, *, count=3, epochs=2, steps=4, ranks=4):
    """Some moments of a run in their order: after any step, or while any epoch is validated."""
    moments = [
        (epoch, epoch * steps + min(step, steps), "training" if step <= steps else "validation")
        for epoch in range(epochs)
        for step in range(1, steps + 2)
    ]
    return [
        Interruption(
            *moments[place], random.randrange(ranks), random.choice(["SIGTERM", "SIGUSR2", "SIGINT"])
        )
        for place in sorted(random.sample(range(len(moments)), count))
    ]


EVERYTHING = {
    "model": "mobilenet_v3_small", "accumulate": 2, "clip_norm": 0.5, "label_smoothing": 0.1,
    "ema_decay": 0.9, "head_lr": 5e-3, "pooling": "attention",
}  # fmt: skip


@pytest.mark.parametrize(
    "settings", [{"model": "shufflenet_v2_x0_5"}, EVERYTHING], ids=["plain", "everything"]
)
def test_a_run_interrupted_three_times_anywhere_ends_with_the_bits_of_the_uninterrupted_run(
    settings, new_run, start_ranks
):
    seed = os.environ.get("MRI_TEST_SEED") or str(time.time_ns())
    interruptions = draw_interruptions(random.Random(f"{seed} {settings['model']}"))
    print(f"the same again: MRI_TEST_SEED={seed} for {interruptions}")
    whole = finish(start_ranks, new_run("whole", **settings), 4)
    run = new_run("interrupted", **settings)
    for restart, (before, now) in enumerate(pairwise([None, *interruptions])):
        world = start_ranks(run, ranks=4, restart=restart, breaks=now.breaks(before))
        assert world.statuses() == [75] * 4, world.log()
    assert finish(start_ranks, run, 4, restart=3) == whole
    stops = [event.values for event in read_events(run) if event.kind == "stop_agreed"]
    assert [(s["phase"], s["step"], s["rank"], s["signal"]) for s in stops] == [
        (i.phase, i.step, i.rank, i.signal) for i in interruptions
    ]
    assert not [event for event in read_events(run) if event.kind in ("lost", "changed", "damaged")]


def test_a_run_whose_batch_size_was_found_is_the_run_with_that_number_typed(new_run, start_ranks):
    settings = {"model": "mobilenet_v3_small", "epochs": 1}
    run = new_run("found", batch_size="auto", **settings)
    stop = {0: [["signal_in", "training", "SIGTERM", 1]]}
    assert start_ranks(run, ranks=1, breaks=stop).statuses() == [75]
    # Found by the first attempt: this one reads it.
    found = read_settled(run)
    assert (found.batch_size, found.images_a_rank, found.ranks) == (8, 8, 1)
    assert found.lr == 1e-3 * (8 / 64) ** 0.5
    resumed = finish(start_ranks, run, 1, restart=1)
    assert read_settled(run) == found
    typed = new_run("typed", batch_size=8, lr=found.lr, **settings)
    assert finish(start_ranks, typed, 1) == resumed
    provenance = json.loads(run.provenance.read_text())
    assert (provenance["batch_size"], provenance["lr"]) == (8, found.lr)


def test_the_layout_that_the_first_rank_found_is_kept_by_all_whatever_a_later_trial_would_say(
    new_run, start_ranks
):
    run = new_run("found", model="shufflenet_v2_x0_5", epochs=1, deterministic=False)
    stop = ["signal_in", "training", "SIGTERM", 1]
    found = {0: [["time_layouts", 0.5], stop], 1: [["time_layouts", 2.0]]}
    world = start_ranks(run, ranks=2, breaks=found)
    assert world.statuses() == [75] * 2, world.log()
    finish(start_ranks, run, 2, restart=1, break_all=[["time_layouts", 2.0]])
    events = read_events(run)
    ways = [event.values["steps"] for event in events if event.kind == "started"]
    assert ways == ["fused optimizer, channels last"] * 2
    assert read_provenance(run)["conditions"]["steps"] == ways[0]
    assert not [event for event in events if event.kind == "changed"]


def test_letting_ddp_rebuild_its_buckets_would_break_the_promise(new_run, start_ranks):
    rebuild = [["rebuild_buckets"]]
    whole = finish(start_ranks, new_run("whole", model="mobilenet_v3_small"), 4, break_all=rebuild)
    run = new_run("interrupted", model="mobilenet_v3_small")
    stop = {0: [["signal_in", "training", "SIGTERM", 1]]}
    assert start_ranks(run, ranks=4, breaks=stop, break_all=rebuild).statuses() == [75] * 4
    resumed = finish(start_ranks, run, 4, restart=1, break_all=rebuild)
    assert resumed["samples_digest"] == whole["samples_digest"]
    assert resumed["weights_digest"] != whole["weights_digest"]


# The loss improves once and then never by 100: patience ends after the third epoch, and the rate falls in the
# fourth.
IMPATIENT = {
    "model": "mobilenet_v3_small", "epochs": 6, "patience": 2, "min_improvement": 100.0, "decay_epochs": 1,
    "ema_decay": 0.9, "mixup": 0.4, "mirror_answers": True, "distort": True, "enlarge": 1.25,
    "published_epoch": "last",
}  # fmt: skip


@pytest.fixture(scope="module")
def impatient(tmp_path_factory):
    """Remembers, for the tests below, the uninterrupted run, and one as it was stopped in each epoch."""
    return {}


@pytest.mark.parametrize(
    ("left_out", "epoch"),
    [
        (None, 2),
        (None, 3),
        (["forget", "step"], 2),
        (["forget", "epoch"], 2),
        (["forget", "step_in_epoch"], 2),
        (["forget", "samples_digest"], 2),
        (["forget", "early_stopping"], 2),
        (["forget", "decay_epoch"], 3),
        (["forget_optimizer"], 2),
        (["forget_average", "steps"], 2),
        (["forget_average", "last"], 2),
        (["seed_once"], 2),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else str(value or "nothing"),
)
def test_whatever_is_left_out_of_a_checkpoint_shows_in_the_digests(
    left_out, epoch, impatient, new_run, start_ranks, tmp_path, tmp_path_factory
):
    if not impatient:
        uninterrupted = new_run("whole", **IMPATIENT)
        impatient["whole"] = finish(start_ranks, uninterrupted, 1)
        # The rate fell in the fourth epoch, which is published, and not the first, which was the best.
        known = read_provenance(uninterrupted)
        assert (known["best_epoch"], known["model_epoch"], known["epochs"]) == (1, 4, 4)
        assert known["model_digest"] == known["weights_digest"]
        stopped = new_run("stopped", **IMPATIENT)
        for restart in range(4):
            # In each epoch once, after the second of its four steps.
            stop = {0: [["signal_in", "training", "SIGTERM", 3 if restart else 1]]}
            assert start_ranks(stopped, ranks=1, restart=restart, breaks=stop).statuses() == [75]
            impatient[restart] = tmp_path_factory.mktemp("kept") / "run"
            shutil.copytree(stopped.path, impatient[restart])
    run = RunDir(tmp_path / "copy")
    shutil.copytree(impatient[epoch], run.path)
    resumed = finish(start_ranks, run, 1, restart=epoch + 1, break_all=[left_out] if left_out else [])
    same = resumed["weights_digest"] == impatient["whole"]["weights_digest"], resumed == impatient["whole"]
    assert same == ((True, True) if left_out is None else (left_out[-1] == "samples_digest", False))
