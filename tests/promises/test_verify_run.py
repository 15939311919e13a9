"""verify-run does steps of a run again: it finds what differs, names it, and leaves no trace."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from mri_hpc import replaying, verify_run
from mri_hpc.base.settings import save_tables
from mri_hpc.cohort.splits import TRAIN, split_by
from mri_hpc.rundir.interval import Interval, read_record
from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.manifests import MANIFEST, read_manifest
from mri_hpc.rundir.place import Place
from mri_hpc.rundir.replay import Comparison, Difference, Outcome, Replayed
from mri_hpc.rundir.settings import load_job, load_training
from mri_hpc.storage.disk.chunk_file import read_header
from mri_hpc.storage.reading import reader
from mri_hpc.storage.store import Store
from mri_hpc.store import main as store_command
from mri_hpc.training.checkpoint import WEIGHTS, _file_digest
from mri_hpc.training.model import weights_digest

SETTINGS = {
    "model": "shufflenet_v2_x0_5", "checkpoint_interval_s": 0.0, "checkpoint_keep": 20, "epochs": 2,
}  # fmt: skip


@pytest.fixture(scope="module")
def recorded(tmp_path_factory, picture_store, nursery):
    """Gives a copy of a finished run of one rank, of its own store."""
    made = {}

    def get(start_ranks, new_run):
        if not made:
            run = new_run("recorded", **SETTINGS)
            assert start_ranks(run, ranks=1).statuses() == [0]
            made["run"] = Path(shutil.copytree(run.path, tmp_path_factory.mktemp("recorded") / "run"))
        return made["run"]

    return get


@pytest.fixture
def run(recorded, start_ranks, new_run, tmp_path, picture_store):
    """A run with a store of its own, so that either may be changed."""
    found = RunDir(tmp_path / "copied")
    shutil.copytree(recorded(start_ranks, new_run), found.path)
    store = shutil.copytree(picture_store, tmp_path / "store")
    save_tables(
        found.settings,
        {"training": replace(load_training(found), store=str(store)), "job": load_job(found)},
    )
    return found


@pytest.fixture
def here(monkeypatch, tmp_path):
    """Ranks are this process, which need not import torch again; what they set is taken back."""

    def run_ranks(folder, _interval, _asked, *, ranks, threads):
        assert ranks == 1
        replaying.do_again(folder, Place(), threads=threads)
        return 0, 0

    monkeypatch.setattr(verify_run, "_run_ranks", run_ranks)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(False)
    assert not list(tmp_path.glob("mri-hpc-replay-*"))


def verified(run, capsys, *words, start="2", steps="5"):
    """Status of the command, and what it printed."""
    status = verify_run.main([str(run.path), "--from-step", start, "--steps", steps, *words])
    return status, capsys.readouterr()


def contents(folder):
    """Every file below a folder, with its time and bytes."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in files}


def test_two_ranks_in_processes_of_their_own_come_to_the_same_bits_and_leave_no_trace(
    new_run, start_ranks, picture_store, tmp_path
):
    run = new_run(**SETTINGS)
    assert start_ranks(run, ranks=2).statuses() == [0, 0]
    before, scratch = contents(run.path) | contents(picture_store), tmp_path / "scratch"
    scratch.mkdir()
    words = [sys.executable, "-m", "mri_hpc.verify_run", str(run.path), "--from-step", "2", "--steps", "5"]
    environment = {**os.environ, "TMPDIR": str(scratch)}
    ran = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert f"steps 3 to 7 of {run.path}, done again by 2 ranks of 1 thread" in ran.stdout
    assert "after step 4: samples" in ran.stdout
    assert ran.stdout.endswith("equal to the bit over 5 steps, weights equal 5 times\n")
    assert contents(run.path) | contents(picture_store) == before
    assert not list(scratch.iterdir())


def test_where_nothing_differs_each_figure_is_equal_and_no_test_patient_was_looked_at(run, here, capsys):
    store = Store.open(Path(load_training(run).store))
    # Tests before this one may have looked.
    before = store.test_looks()
    status, printed = verified(run, capsys, "--json")
    found = json.loads(printed.out)
    assert (status, found["outcome"], found["num_steps"], found["first"]) == (0, "equal", 5, None)
    kept = read_record(run).manifests
    assert found["weights"] == {str(step): kept[step].weights_digest for step in range(3, 8)}
    assert found["samples"] == {str(step): kept[step].progress.samples_digest for step in range(3, 8)}
    assert found["is_promised"] is True
    assert store.test_looks() == before


def tamper(run, step):
    """Change one weight of a checkpoint, and all that says what its bytes were."""
    folder = run.checkpoints / str(step)
    weights = safetensors.torch.load_file(folder / WEIGHTS)
    name = next(name for name, tensor in sorted(weights.items()) if tensor.dim() == 4)
    weights[name].view(-1)[0] += 0.5
    safetensors.torch.save_file(weights, folder / WEIGHTS)
    manifest = read_manifest(folder)
    sealed = replace(
        manifest,
        weights_digest=weights_digest(weights),
        files={**manifest.files, WEIGHTS: _file_digest(folder / WEIGHTS)},
    )
    (folder / MANIFEST).write_bytes(sealed.to_json())


def test_a_changed_weight_in_the_checkpoint_shows_in_the_loss_of_the_first_step(run, here, capsys):
    tamper(run, 2)
    status, printed = verified(run, capsys)
    assert status == 2
    assert "first difference: step 3, loss: " in printed.out
    assert "DIFFERS over 5 steps" in printed.out
    assert "no condition differs; see whether the images are sound: mri-hpc store verify" in printed.err


def test_a_checkpoint_whose_bytes_have_changed_is_named_and_nothing_is_done_again(run, here, capsys):
    weights = run.checkpoints / "2" / WEIGHTS
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    status, printed = verified(run, capsys)
    assert status == 2
    assert f"checkpoint 2 is damaged ({WEIGHTS}: its bytes are not those that were written)" in printed.out


def test_a_changed_image_shows_in_the_loss_of_the_step_that_sees_it_and_not_in_the_samples(
    run, here, capsys, monkeypatch
):
    settings = load_training(run)
    snapshot = Store(Path(settings.store)).resolve()
    row = np.flatnonzero(split_by(snapshot, settings) == TRAIN)[0]
    [chunk] = (Path(settings.store) / "chunks").rglob("[!.]*.h5")
    size = int(np.prod(snapshot.image_shape))
    data, at = bytearray(chunk.read_bytes()), read_header(chunk).offset + size * int(snapshot.row[row])
    data[at : at + size] = bytes(255 - value for value in data[at : at + size])
    chunk.write_bytes(data)
    # Reading looks at the checksum of one image of each batch: it is another one.
    monkeypatch.setattr(reader, "is_sound", lambda _data, _crc: True)
    # The whole second epoch, in which each image is seen once.
    status, printed = verified(run, capsys, "--json", start="4", steps="4")
    first = json.loads(printed.out)["first"]
    assert (status, first["quantity"]) == (2, "loss")
    kept = read_record(run).manifests
    samples = json.loads(printed.out)["samples"]
    assert samples == {str(step): kept[step].progress.samples_digest for step in range(5, 9)}


def test_another_number_of_threads_is_named_and_equal_bits_are_not_promised(run, here, capsys):
    status, printed = verified(run, capsys, "--threads", "2", "--json", steps="1")
    found = json.loads(printed.out)
    # Whether so small a network adds up otherwise is left to torch.
    assert (status, found["is_promised"], found["outcome"] in ("equal", "close")) == (0, False, True)
    assert found["conditions_that_differ"] == {"threads": {"before": 1, "now": 2}}


def test_a_run_that_would_end_before_by_its_settings_as_they_are_now_is_not_called_equal(run, here, capsys):
    shorter = replace(load_training(run), epochs=1)
    save_tables(run.settings, {"training": shorter, "job": load_job(run)})
    status, printed = verified(run, capsys, start="4", steps="2")
    assert status == 2
    assert "first difference: step 5, steps: 6 recorded, 4 now" in printed.out
    assert "as its settings are now, training ends after step 4: choose another --from-step" in printed.err


def test_the_last_line_says_how_sure_the_answer_is_and_those_before_it_what_differs():
    interval = Interval(run="runs/a", start=40, end=90, kept=(60,), conditions={})
    replayed = Replayed(
        samples={60: "5d1c09b2e7aa" + "0" * 52}, weights={60: "0f3e6a1b44c8" + "0" * 52},
        changed={"threads": (1, 2)},
    )  # fmt: skip
    compared = Comparison(
        outcome=Outcome.CLOSE, num_steps=50, is_promised=False, first_loss_off=8e-8, largest_loss_off=3.1e-6,
        first=Difference(step=41, quantity="gradient_norm", recorded=1.5, now=1.25),
    )  # fmt: skip
    assert verify_run.lines_of(interval, replayed, compared, ranks=2, threads=2) == [
        "steps 41 to 90 of runs/a, done again by 2 ranks of 2 threads",
        "  after step 60: samples 5d1c09b2e7aa, weights 0f3e6a1b44c8",
        "  first difference: step 41, gradient norm: 1.5 recorded, 1.25 now",
        "  conditions that differ: threads 1, now 2",
        "losses within 3.1e-06 over 50 steps (the first within 8.0e-08): conditions differ, so that equal "
        "bits are not promised",
    ]
    undetermined = replace(compared, outcome=Outcome.DIFFERS)
    same = replace(replayed, changed={}, weights={}, samples={})
    *_, losses_alone, _, last = verify_run.lines_of(interval, same, undetermined, ranks=1, threads=1)
    assert losses_alone == "  losses alone: the next kept checkpoint is more --steps on, or there is none"
    assert last == (
        "DIFFERS over 50 steps: losses by up to 3.1e-06, the first by 8.0e-08: not deterministic, so that "
        "equal bits are not promised"
    )


def test_a_store_without_the_images_is_said_in_one_line(run, here, capsys):
    store = Path(load_training(run).store)
    shutil.move(store, store.with_name("elsewhere"))
    status, printed = verified(run, capsys)
    assert (status, printed.out) == (2, "")
    assert printed.err.count("\n") == 1
    assert "cannot be done again" in printed.err


def test_a_snapshot_of_which_a_patient_was_retracted_since_is_refused_in_one_line(run, here, capsys):
    store = load_training(run).store
    assert store_command(["retract", store, "--patient", "p000", "--yes"]) == 0
    capsys.readouterr()
    status, printed = verified(run, capsys)
    assert (status, printed.out, printed.err.count("\n")) == (2, "", 1)
    assert "cannot be done again" in printed.err
    assert "have been retracted" in printed.err


def test_a_command_that_is_asked_to_end_takes_its_folder_away_first(run, tmp_path, wait_for):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    words = [sys.executable, "-m", "mri_hpc.verify_run", str(run.path)]
    with subprocess.Popen(words, env={**os.environ, "TMPDIR": str(scratch)}) as process:
        wait_for(lambda: list(scratch.glob("*/attempts")), what="a replay")
        process.send_signal(signal.SIGTERM)
    assert process.returncode == -signal.SIGTERM
    assert not list(scratch.iterdir())
