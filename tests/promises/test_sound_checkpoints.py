"""Promises 1 and 7 at the ranks: what is saved is sound, and what is damaged or missing is made up for."""

import shutil
import signal

import pytest

from mri_hpc.base.exit_status import LOST_PEER
from mri_hpc.base.sealed_json import seal, unseal
from mri_hpc.rundir.manifests import MANIFEST, checkpoint_folders, newest_manifest
from mri_hpc.rundir.metrics_log import read_metrics
from tests.harness.results import events, results_of

SMALL = {"model": "shufflenet_v2_x0_5"}


def read_curves(run):
    """The steps of each of TensorBoard's curves, as it shows them."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run.tensorboard), {"scalars": 0}).Reload()
    return {name: [one.step for one in events.Scalars(name)] for name in events.Tags()["scalars"]}


@pytest.mark.parametrize(
    ("phase", "batch", "step", "death"),
    [
        ("training", 1, 2, ["die_while_saving"]),
        ("validation", 0, 4, ["die_while_saving"]),
        ("training", 1, 2, ["signal_amid_write", 4, "SIGKILL", 20]),
    ],
)
def test_a_rank_killed_while_it_saves_costs_only_what_was_not_saved(
    phase, batch, step, death, new_run, start_ranks, uninterrupted
):
    run = new_run(**SMALL)
    stop = {0: [["signal_in", phase, "SIGTERM", batch]]}
    assert start_ranks(run, ranks=2, breaks=stop).statuses() == [75, 75]
    # Killed after validating the first epoch, whose last step is the fourth; the ranks go on meanwhile.
    statuses = start_ranks(run, ranks=2, restart=1, breaks={0: [death]}).statuses()
    assert statuses == [-signal.SIGKILL, LOST_PEER]
    assert [folder.name for folder in checkpoint_folders(run)] == [str(step)]
    assert list(run.checkpoints.glob(".tmp-*"))
    in_vain = max(line["step"] for line in read_metrics(run)) - step
    assert in_vain >= 4 - step
    assert start_ranks(run, ranks=2, restart=2).statuses() == [0, 0]
    assert results_of(run) == uninterrupted(SMALL)
    assert [event["steps"] for event in events(run, "lost")] == ([in_vain] if in_vain else [])
    assert not list(run.checkpoints.glob(".tmp-*"))
    steps = [line["step"] for line in read_metrics(run) if "loss" in line]
    validations = [line["epoch"] for line in read_metrics(run) if "validation_loss" in line]
    assert (steps, validations) == (list(range(1, 9)), [0, 1])
    curves = read_curves(run)
    assert curves["training/loss"] == list(range(1, 9))
    assert curves["validation/loss"] == curves["validation/balanced_accuracy"] == [4, 8]


def test_a_stop_amid_a_write_beside_the_training_loses_nothing(new_run, start_ranks, uninterrupted):
    run = new_run(**SMALL)
    world = start_ranks(run, ranks=2, breaks={0: [["signal_amid_write", 4, "SIGTERM", 20]]})
    assert world.statuses() == [75, 75], world.log()
    stop = events(run, "stop_agreed")[0]["step"]
    assert stop >= 4 and checkpoint_folders(run)[0].name == str(stop)
    assert start_ranks(run, ranks=2, restart=1).statuses() == [0, 0]
    assert results_of(run) == uninterrupted(SMALL)
    assert events(run, "lost") == []
    # The writer that was overtaken may have got no core before its process ended.
    assert not list(run.checkpoints.glob(".tmp-*"))


def test_a_damaged_checkpoint_is_passed_over_and_recorded(new_run, start_ranks, uninterrupted):
    run = new_run(**SMALL)
    stop_twice(run, start_ranks)
    newest = checkpoint_folders(run)[0] / "model.safetensors"
    content = newest.read_bytes()
    newest.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert start_ranks(run, ranks=2, restart=2).statuses() == [0, 0]
    assert results_of(run) == uninterrupted(SMALL)
    assert events(run, "damaged") == [
        {"checkpoint": "6", "reason": "model.safetensors: its bytes are not those that were written"}
    ]


def damaged(document):
    return document[:-9]


def of_a_newer_version(document):
    return seal({**unseal(document), "format": 2})


def stop_twice(run, start_ranks):
    """Leave checkpoints of steps 2 and 6."""
    for restart, after in enumerate((1, 3)):
        stop = {0: [["signal_in", "training", "SIGTERM", after]]}
        assert start_ranks(run, ranks=2, restart=restart, breaks=stop).statuses() == [75, 75]


def rewrite(file, change):
    file.write_bytes(change(file.read_bytes()))


def test_a_checkpoint_whose_manifest_is_damaged_is_passed_over_recorded_and_kept(
    new_run, start_ranks, uninterrupted
):
    run = new_run(**SMALL, checkpoint_interval_s=0.0)
    stop_twice(run, start_ranks)
    rewrite(run.checkpoints / "6" / MANIFEST, damaged)
    stop = {0: [["signal_in", "training", "SIGTERM", 0]]}
    world = start_ranks(run, ranks=2, restart=2, breaks=stop)
    assert world.statuses() == [75, 75]
    assert "checkpoints/6 is damaged (manifest.json: its bytes are not" in world.log(0)
    assert events(run, "damaged") == [
        {"checkpoint": "6", "reason": "manifest.json: its bytes are not those that were written"}
    ]
    assert events(run, "started")[-1]["resumed_step"] == 5
    assert checkpoint_folders(run)[0].name == "6"
    assert start_ranks(run, ranks=2, restart=3).statuses() == [0, 0]
    assert results_of(run) == uninterrupted(SMALL)


def test_a_checkpoint_of_a_newer_version_stops_all_ranks_and_stays(new_run, start_ranks, uninterrupted):
    run = new_run(**SMALL)
    stop_twice(run, start_ranks)
    document = (run.checkpoints / "6" / MANIFEST).read_bytes()
    rewrite(run.checkpoints / "6" / MANIFEST, of_a_newer_version)
    world = start_ranks(run, ranks=2, restart=2)
    assert world.statuses() == [2, 2]
    wanted = "has format 2, this version reads up to 1"
    assert all(wanted in world.log(rank) and "start a new run" in world.log(rank) for rank in (0, 1))
    (run.checkpoints / "6" / MANIFEST).write_bytes(document)
    assert start_ranks(run, ranks=2, restart=3).statuses() == [0, 0]
    assert results_of(run) == uninterrupted(SMALL)


def test_a_loss_that_is_no_number_stops_all_ranks_and_is_never_saved(new_run, start_ranks):
    run = new_run(**SMALL, checkpoint_interval_s=0.0)
    world = start_ranks(run, ranks=2, breaks={1: [["break_loss", 3]]})
    assert world.statuses() == [2, 2]
    said = "mri-hpc train: the loss of step 3 is inf: launch a new run with a lower --lr, or with --precision"
    assert all(said in world.log(rank) for rank in (0, 1))
    assert newest_manifest(run).progress.step == 2


NOT_FINITE = "weights, or the optimizer's state, are not finite after step"


@pytest.mark.parametrize(
    ("breaks", "what", "saved", "epoch"),
    [
        # The last step of an epoch; of one rank alone, where the others' states are sound.
        ({0: [["break_weights", 3]], 1: [["break_weights", 3]]}, f"{NOT_FINITE} 4", 3, 0),
        ({1: [["break_weights", 3]]}, f"{NOT_FINITE} 4", 4, 0),
        # Before a stop.
        (
            {
                0: [["break_weights", 5], ["signal_in", "training", "SIGTERM", 5]],
                1: [["break_weights", 5]],
            },
            f"{NOT_FINITE} 6",
            5,
            1,
        ),
        # Amid an epoch.
        ({0: [["break_weights", 4]], 1: [["break_weights", 4]]}, "the loss of step 6 is nan", 4, 1),
        ({0: [["break_validation"]]}, "the validation loss of epoch 1 is nan", 4, 0),
    ],
)
def test_numbers_that_are_not_finite_stop_all_ranks_and_are_never_saved(
    breaks, what, saved, epoch, new_run, start_ranks
):
    run = new_run(**SMALL, checkpoint_interval_s=0.0)
    world = start_ranks(run, ranks=2, breaks=breaks)
    assert world.statuses() == [2, 2]
    assert all(f"mri-hpc train: {what}: launch a new run with" in world.log(rank) for rank in (0, 1))
    newest = newest_manifest(run).progress
    assert (newest.step, newest.epoch) == (saved, epoch)


@pytest.mark.parametrize(
    ("interval_s", "damaged", "start", "step"), [(300.0, "4", "the start", 0), (0.0, "34", "step 2", 2)]
)
def test_where_the_best_epoch_cannot_be_read_the_advice_can_be_followed(
    interval_s, damaged, start, step, new_run, start_ranks
):
    # The first epoch is the best, and no other one.
    run = new_run(**SMALL, min_improvement=100.0, checkpoint_interval_s=interval_s, checkpoint_keep=9)
    stop = {1: [["signal_in", "prediction", "SIGTERM", 0]]}
    assert start_ranks(run, ranks=2, breaks=stop).statuses() == [75, 75]
    for name in damaged:
        (run.checkpoints / name / "model.safetensors").write_bytes(b"")
    world = start_ranks(run, ranks=2, restart=1)
    assert world.statuses() == [2, 2]
    advice = f"remove it and those after it and launch again, to train from {start} on"
    assert all("checkpoints/4 cannot be read" in world.log(rank) for rank in (0, 1))
    assert all(advice in world.log(rank) for rank in (0, 1))
    for folder in checkpoint_folders(run):
        if int(folder.name) >= 4:
            shutil.rmtree(folder)
    assert start_ranks(run, ranks=2, restart=2).statuses() == [0, 0]
    assert events(run, "started")[-1]["resumed_step"] == step
    assert [line["step"] for line in read_metrics(run) if "loss" in line] == list(range(1, 9))
