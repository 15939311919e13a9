"""A run that follows its store: it can be interrupted, and done again from its ledger alone, to the bit."""

import itertools
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from mri_hpc.base.errors import UserError
from mri_hpc.cohort.kept_twins import kept_twins
from mri_hpc.cohort.newer import refuse_other
from mri_hpc.cohort.splits import TEST, TRAIN, split_of
from mri_hpc.preprocess import main as preprocess
from mri_hpc.rundir.following import adoptions_of, as_list
from mri_hpc.rundir.ledger import read_events
from mri_hpc.rundir.manifests import newest_manifest
from mri_hpc.rundir.place import Place
from mri_hpc.rundir.progress import Progress
from mri_hpc.rundir.provenance import read_provenance
from mri_hpc.rundir.settings import load_job, load_training, save_settings
from mri_hpc.storage.store import Store
from mri_hpc.store import main as store_command
from mri_hpc.training.following import first_progress
from mri_hpc.training.parts import cohort_of
from mri_hpc.training.ranks import Ranks
from tests.harness.results import events, results_of

SIDE = 32
ALONE = Ranks(place=Place(), device=torch.device("cpu"), backend="none", num_hosts=1)
DELIVERED = (range(10), range(10, 14), range(14, 18))
"""Patients of each class, by delivery: the first has some in every split."""
SETTINGS = {
    "model": "shufflenet_v2_x0_5", "snapshot": "follow", "follow": True, "decay_epochs": 1, "patience": 1,
    "batch_size": 16, "epochs": 6, "warmup_epochs": 2.0, "checkpoint_keep": 20,
}  # fmt: skip


def deliver(source: Path, patients, classes=range(3)) -> None:
    """Lay pictures of some patients of each class where they are preprocessed from."""
    for label, patient, part in itertools.product(classes, patients, range(2)):
        folder = source / f"class{label}" / f"p{label}{patient:02d}"
        folder.mkdir(parents=True, exist_ok=True)
        pixels = np.random.default_rng([label, patient, part]).integers(0, 90, (SIDE, SIDE))
        pixels[4 : 12 + 4 * label, 6:20] += 60
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{part}.png")


def adding(folder: Path) -> list[str]:
    return ["--source", str(folder / "raw"), "--store", str(folder / "store"), "--size", str(SIDE),
            "--ids", "as-given"]  # fmt: skip


@pytest.fixture
def growing(tmp_path, new_run):
    """Makes a store with the first delivery, and a run that follows it."""

    def make(name, **settings):
        folder = tmp_path / name
        deliver(folder / "raw", DELIVERED[0])
        assert preprocess(adding(folder)) == 0
        run = new_run(f"{name}-run", **{**SETTINGS, "store": str(folder / "store"), **settings})
        return folder, run

    return make


def arrival(folder: Path, number: int, later: Path | None = None) -> list[str]:
    """A command that adds a delivery to the store: as the task of an array would."""
    if later is None:
        later = folder / f"delivery{number}"
        deliver(later / "raw", DELIVERED[number])
    script = (
        "import shutil, sys; from mri_hpc.preprocess import main; "
        "shutil.copytree(sys.argv[1], sys.argv[2], dirs_exist_ok=True); sys.exit(main(sys.argv[3:]))"
    )
    return ["-c", script, str(later / "raw"), str(folder / "raw"), *adding(folder)]


def finish_following(run, start_ranks, restart, ranks=2):
    save_settings(run, replace(load_training(run), follow=False), load_job(run))
    world = start_ranks(run, ranks=ranks, restart=restart)
    assert world.statuses() == [0] * ranks, world.log()
    assert run.is_finished, world.log()
    return results_of(run)


def adopted(run):
    return {epoch: one.snapshot for epoch, one in adoptions_of(read_events(run)).items()}


def test_a_following_run_that_is_killed_and_one_that_is_told_its_list_end_in_the_same_bits(
    growing, new_run, start_ranks
):
    folder, whole = growing("whole")
    coming = {0: [["run_in_validation", n, *arrival(folder, n + 1)] for n in range(2)]}
    world = start_ranks(whole, ranks=2, breaks=coming)
    assert world.statuses() == [0, 0], world.log()
    # Each came while an epoch was validated, and was taken up at the start of the next.
    assert list(adopted(whole)) == [0, 1, 2]
    assert [one["images"] for one in events(whole, "adopted")] == sorted(
        {one["images"] for one in events(whole, "adopted")}
    )
    (left,) = events(whole, "caught_up")
    assert not whole.is_finished and newest_manifest(whole).progress.step == left["step"]
    expected = finish_following(whole, start_ranks, restart=1)
    assert read_provenance(whole)["snapshots"] == as_list(adopted(whole))
    assert read_provenance(whole)["snapshot"] == adopted(whole)[2]

    folder, broken = growing("broken")
    stopped = {1: [["signal_in", "training", "SIGTERM", 0]]}
    world = start_ranks(broken, ranks=2, breaks=stopped)
    assert world.statuses() == [75, 75], world.log()
    # After its ledger has it, and before a checkpoint has: the next attempt does not take what came since.
    killed = {0: [["run_in_validation", 0, *arrival(folder, 1)], ["signal_in", "training", "SIGKILL", 4]]}
    world = start_ranks(broken, ranks=2, restart=1, breaks=killed)
    assert world.statuses()[0] == -9
    assert list(adopted(broken)) == [0, 1]
    assert newest_manifest(broken).progress.snapshot == adopted(broken)[0]
    subprocess.run([sys.executable, *arrival(folder, 2)], check=True)
    world = start_ranks(broken, ranks=2, restart=2)
    assert world.statuses() == [0, 0], world.log()
    assert list(adopted(broken)) == [0, 1, 2]
    assert finish_following(broken, start_ranks, restart=3) == expected

    told = new_run("told", **{**SETTINGS, "store": str(folder / "store"), "follow": False,
                              "snapshot": as_list(adopted(broken))})  # fmt: skip
    world = start_ranks(told, ranks=2)
    assert world.statuses() == [0, 0], world.log()
    assert results_of(told) == expected


def test_a_class_that_comes_later_ends_the_following_and_the_run_goes_on_on_what_it_knows(
    growing, start_ranks
):
    folder, run = growing("classes")
    later = folder / "delivery"
    deliver(later / "raw", DELIVERED[1], classes=range(4))
    coming = {0: [["run_in_validation", 0, *arrival(folder, 1, later)]]}
    world = start_ranks(run, ranks=1, breaks=coming)
    assert world.statuses() == [0], world.log()
    assert run.is_finished and list(adopted(run)) == [0]
    (end,) = events(run, "followed")
    assert end == {
        "epoch": 1,
        "reason": "the store's classes are others now (new: class3): a new run learns them",
    }
    assert read_provenance(run)["classes"] == ["class0", "class1", "class2"]


def test_a_following_run_goes_on_without_images_that_were_retracted(growing, start_ranks):
    folder, run = growing("retracted")
    store = str(folder / "store")

    def retract(patient):
        return ["-m", "mri_hpc.store", "retract", store, "--patient", patient, "--yes"]

    # One of training leaves while an epoch is validated; another, whom the next epoch needs, amid that.
    first, second = (snapshot_text(store, TRAIN, n) for n in (0, 1))
    leaving = [["run_in_validation", 0, *retract(first)], ["signal_in", "training", "SIGTERM", 4]]
    world = start_ranks(run, ranks=1, breaks={0: leaving})
    assert world.statuses() == [75], world.log()
    assert (list(adopted(run)), newest_manifest(run).progress.epoch) == ([0, 1], 1)
    assert newest_manifest(run).progress.step_in_epoch
    subprocess.run([sys.executable, *retract(second)], check=True)
    world = start_ranks(run, ranks=1, restart=1)
    assert world.statuses() == [0], world.log()
    # The epoch that cannot be ended is over, and is validated by nobody.
    assert list(adopted(run)) == [0, 1, 2]
    assert [event["epoch"] for event in events(run, "epoch")][:2] == [0, 2]
    forced = Store(folder / "store").resolve(adopted(run)[2])
    names = forced.patient_names.tolist()
    assert not {first.encode(), second.encode()} & {*names}
    # It was looked at for leaks, as one that came would have been.
    assert kept_twins(Store(folder / "store"), forced) is not None


def test_patients_who_turn_out_to_be_one_end_the_following_where_that_moves_a_trained_one_to_test(
    growing,
):
    folder, run = growing("joined")
    store, settings = Store(folder / "store"), load_training(run)
    before = cohort_of(settings, store.resolve())
    trained, tested = (snapshot_text(folder / "store", code, 0) for code in (TRAIN, TEST))
    assert store_command(["same-patient", str(folder / "store"), trained, tested]) == 0
    with pytest.raises(UserError, match="2 images of training would be judged on now"):
        now = cohort_of(settings, store.resolve())
        refuse_other(before.snapshot, before.code, now.snapshot, now.code)
    # A retraction does not force on the run what it would not have adopted.
    other = snapshot_text(folder / "store", TRAIN, 1)
    assert store_command(["retract", str(folder / "store"), "--patient", other, "--yes"]) == 0
    under_way = SimpleNamespace(progress=Progress(epoch=1, step=9, snapshot=before.snapshot.digest))
    with pytest.raises(UserError, match=r"were retracted, and it cannot go on .*; start a new run with: "):
        first_progress(run, settings, under_way, ALONE)


def snapshot_text(store, code, number):
    """The name of some patient of a split."""
    snapshot = Store(Path(store)).resolve()
    rows = np.flatnonzero(split_of(snapshot) == code)
    return sorted({name.decode() for name in snapshot.text("patient", rows).tolist()})[number]
