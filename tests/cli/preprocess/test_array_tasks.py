"""Shares of the work: arrays, their script, and signals."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mri_hpc.storage.adding import windowed
from mri_hpc.storage.disk.layout import StoreDir
from mri_hpc.storage.snapshot.catalogue import resolve
from tests.cli.preprocess.store_counts import SMALL, counts, info


def as_array_task(monkeypatch, index, *, first=0, last=3, step=1, count=None, job="77"):
    values = {
        "ARRAY_TASK_ID": index,
        "ARRAY_TASK_MIN": first,
        "ARRAY_TASK_MAX": last,
        "ARRAY_TASK_STEP": step,
    }
    values |= {
        "ARRAY_TASK_COUNT": (last - first) // step + 1 if count is None else count,
        "ARRAY_JOB_ID": job,
    }
    for name, value in values.items():
        monkeypatch.setenv(f"SLURM_{name}", str(value))


@pytest.mark.parametrize(("first", "last", "step"), [(0, 3, 1), (1, 7, 1), (10, 16, 2)])
def test_the_tasks_of_an_array_store_everything_once(raw, store, preprocess, monkeypatch, first, last, step):
    # Of seven tasks, one has none of forty images under one key in seventy: this is not such a key.
    key = store.with_name("site.key")
    key.touch(mode=0o600)
    key.write_text("0123456789abcdef" * 4 + "\n")
    stored = []
    for index in range(first, last + 1, step):
        as_array_task(monkeypatch, index, first=first, last=last, step=step)
        stored.append(counts(preprocess(raw, store, *SMALL)[1])[0])
    assert sum(stored) == 40
    assert all(stored)
    assert info(store)["images"] == 40
    assert info(store)["shadowed"] == 0


def test_a_task_run_again_alone_and_an_array_with_holes_miss_nothing(raw, store, preprocess, monkeypatch):
    as_array_task(monkeypatch, 3, first=3, last=3)
    assert counts(preprocess(raw, store, *SMALL)[1]) == (40, 0, 0)
    as_array_task(monkeypatch, 3, first=1, last=7, count=3)
    assert counts(preprocess(raw, store.with_name("other"), *SMALL)[1]) == (40, 0, 0)


def test_a_listing_of_the_job_saves_listing_and_may_be_old(
    raw, store, preprocess, monkeypatch, make_pictures
):
    as_array_task(monkeypatch, 0, last=1)
    preprocess(raw, store, *SMALL)
    sorted(raw.glob("*/*/*.jpg"))[0].unlink()
    make_pictures(raw, 1, first=40)
    monkeypatch.setattr("mri_hpc.intake.files.sources.list_sources", lambda root: pytest.fail("listed again"))
    as_array_task(monkeypatch, 1, last=1)
    preprocess(raw, store, *SMALL)
    monkeypatch.undo()
    monkeypatch.setenv("MRI_KEY_FILE", str(store.with_name("site.key")))
    preprocess(raw, store)
    assert info(store)["images"] in (40, 41)
    fresh = {path.relative_to(raw).as_posix() for path in raw.glob("*/*/*.jpg")}
    assert counts(preprocess(raw, store)[1]) == (0, len(fresh), 0)


def test_a_signal_ends_a_task_between_two_sources_with_status_75(raw, store, preprocess, monkeypatch):
    real = windowed.read_content
    read = []

    def read_and_signal(root, files):
        read.append(files)
        if len(read) == 25:
            os.kill(os.getpid(), signal.SIGTERM)
        return real(root, files)

    monkeypatch.setattr(windowed, "read_content", read_and_signal)
    status, out, err = preprocess(raw, store, *SMALL, "--chunk-images", 10)
    assert status == 75
    assert len(read) == 25
    assert "stopped by SIGTERM after 20 of 40 sources: run it again" in err
    assert out.count("\n") == 1
    assert len(resolve(store)) == 20
    assert counts(preprocess(raw, store)[1]) == (20, 20, 0)


def test_the_array_script_runs_by_plain_bash_with_odd_paths(tmp_path, make_pictures):
    from pathlib import Path

    script = Path(__file__).parents[3] / "hpc" / "slurm" / "preprocess_array.sh"
    raw, store = tmp_path / 'it\'s raw "data"', tmp_path / "the store"
    make_pictures(raw, 6)
    names = sorted(path.relative_to(raw).as_posix() for path in raw.glob("*/*/*.jpg"))
    (tmp_path / "my labels.csv").write_text("path,label\n" + "".join(f"{name},x\n" for name in names))
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("SLURM_", "MRI_"))},
        "MRI_SOURCE": str(raw),
        "MRI_STORE": str(store),
        "MRI_LABELS": str(tmp_path / "my labels.csv"),
        "MRI_PYTHON": sys.executable,
        "MRI_KEY_FILE": str(tmp_path / "key"),
        "PYTHONPATH": str(script.parents[2]),
    }
    done = subprocess.run(
        ["bash", script, "--size", "16"],
        env=environment,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("stored 6, already there 0, rejected 0")
    del environment["MRI_LABELS"]
    again = subprocess.run(
        ["bash", script], env=environment, cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert again.stdout.startswith("stored 0, already there 6")
    assert "6 labels, patients, folds or splits differ" in again.stderr


def test_a_task_that_looks_while_another_makes_the_folders_goes_on(raw, store, preprocess, monkeypatch):
    store.mkdir()
    real, making = Path.iterdir, [StoreDir(store)]

    def made_first(path):
        if path == store and making:
            making.pop().make()
        return real(path)

    monkeypatch.setattr(Path, "iterdir", made_first)
    status, _out, err = preprocess(raw, store, *SMALL)
    assert (status, making) == (0, []), err
