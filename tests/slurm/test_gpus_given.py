"""In whatever words GPUs are asked for, ranks follow what Slurm gives, and no two of a node take the same."""

import json
from pathlib import Path

import pytest
import torch

from mri_hpc.cluster import rank
from mri_hpc.cluster.choice import scheduler_for
from mri_hpc.cluster.jobs import job_of
from mri_hpc.cluster.launching import Plan, submit_once
from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.place import Place
from mri_hpc.rundir.settings import JobSettings, TrainingSettings, save_settings
from mri_hpc.training.ranks import pick_device

# Settings of a job, the shell's variables, and how many ranks there are to be. A node has two GPUs.
ASKED = {
    "of the shell": ({}, {"SBATCH_GRES": "gpu:2"}, 2),
    "a task": ({"slurm": ("gpus-per-task=1",), "tasks_per_node": 2}, {}, 2),
    "all together": ({"slurm": ("gpus=4",), "nodes": 2}, {}, 4),
    "a node alone": ({"slurm": ("exclusive=",)}, {}, 2),
    "typed": ({"gpus_per_node": 2, "tasks_per_node": 1}, {"SBATCH_GPUS_PER_TASK": "1"}, 1),
}


@pytest.fixture(scope="module")
def seen(slurm, tmp_path_factory):
    """What the ranks of each job saw."""
    folder, found = tmp_path_factory.mktemp("gpus"), {}
    with pytest.MonkeyPatch.context() as monkeypatch:
        for name in ("SLURM_CONF", "MRI_SANDBOX_DIR"):
            monkeypatch.setenv(name, slurm.env[name])
        monkeypatch.setenv("PYTHONPATH", str(Path(__file__).parents[1] / "cluster"))
        monkeypatch.setattr(rank, "RANK_MODULE", "seeing_rank")
        runs = {name: RunDir(folder / name) for name in ASKED}
        for name, (job, variables, _) in ASKED.items():
            with pytest.MonkeyPatch.context() as shell:
                for variable, value in variables.items():
                    shell.setenv(variable, value)
                submit(runs[name], JobSettings(cluster="slurm", **job))
        for name, run in runs.items():
            job_id = job_of(run, 1).job_id
            assert slurm.wait_end(job_id, timeout_s=120) == "COMPLETED", name
            notes = [json.loads(file.read_text()) for file in sorted(run.path.glob("seen*.json"))]
            found[name] = notes
    return found


def submit(run, job):
    run.path.mkdir()
    training = TrainingSettings(snapshot="ab12", schedule_epochs=30)
    save_settings(run, training, job)
    scheduler = scheduler_for(job)
    submit_once(Plan(run=run, training=training, job=job, is_new=False), scheduler, scheduler.sizes(job))


@pytest.mark.parametrize("name", ASKED)
def test_ranks_follow_the_gpus_that_slurm_gives(seen, name, monkeypatch):
    notes = seen[name]
    assert len(notes) == notes[0]["ranks"] == ASKED[name][2], notes
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", lambda _device: None)
    taken = set()
    for note in notes:
        shown = note["gpus"].split(",")
        monkeypatch.setattr(torch.cuda, "device_count", lambda shown=shown: len(shown))
        place = Place(
            rank=note["local_rank"], local_rank=note["local_rank"], world_size=note["ranks"],
            host=note["host"], restart=0, job_id="1",
        )  # fmt: skip
        taken.add((note["host"], shown[pick_device(place).index]))
    assert len(taken) == len(notes), notes
