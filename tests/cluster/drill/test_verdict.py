"""The verdict of a drill is kept beside the runs, and launch says where none covers its job."""

import dataclasses
import json
import shlex

import pytest

from mri_hpc.base.errors import UserError
from mri_hpc.cluster.doctor.finding import fine, problem
from mri_hpc.cluster.drill import command, drilling
from mri_hpc.cluster.drill.terms import LIMIT_MIN, cost_of, job_of_drill
from mri_hpc.cluster.drill.verdict import (
    FILE,
    DrillVerdict,
    Preemption,
    Shape,
    keep,
    kept_verdicts,
    lack_of_drill,
    shape_of,
)
from mri_hpc.cluster.launching import Plan
from mri_hpc.cluster.scheduler import Sizes
from mri_hpc.cluster.submission import job_python
from mri_hpc.doctor import main
from mri_hpc.launch import _drill_lines
from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.settings import JobSettings, TrainingSettings, save_settings

SHAPE = Shape(partition="gpu", nodes=2, gpus_per_node=1, python="/opt/python")
VERDICT = DrillVerdict(
    shape=SHAPE, time=1000.0, job_id="7", findings=(fine("ranks have met"),), bad_nodes=("n3",),
    preemption=Preemption(stop_s=1.0, held_s=121.0, start_s=9.0),
)  # fmt: skip


def changed(**values):
    return dataclasses.replace(SHAPE, **values)


def test_a_verdict_is_read_as_it_was_kept_and_a_newer_one_of_its_shape_takes_its_place(tmp_path):
    assert kept_verdicts(tmp_path) == []
    keep(tmp_path, VERDICT)
    other = dataclasses.replace(VERDICT, shape=changed(nodes=1))
    keep(tmp_path, other)
    newer = dataclasses.replace(VERDICT, time=2000.0)
    keep(tmp_path, newer)
    assert kept_verdicts(tmp_path) == [other, newer]
    assert json.loads((tmp_path / FILE).read_text())["format"] == 1


@pytest.mark.parametrize(
    ("shape", "is_covered"),
    [
        (SHAPE, True),
        (changed(nodes=8, gpus_per_node=4), True),
        (changed(nodes=1), True),
        (changed(partition="other"), False),
        (changed(python="/other/python"), False),
    ],
)
def test_a_drill_covers_jobs_whose_network_and_gpus_it_has_tried(tmp_path, shape, is_covered):
    keep(tmp_path, VERDICT)
    assert (lack_of_drill(tmp_path, shape) == "") is is_covered


def test_a_drill_of_one_node_without_gpus_has_tried_neither_network_nor_gpus(tmp_path):
    keep(tmp_path, dataclasses.replace(VERDICT, shape=changed(nodes=1, gpus_per_node=0)))
    assert lack_of_drill(tmp_path, changed(nodes=1, gpus_per_node=0)) == ""
    for shape in (changed(nodes=2, gpus_per_node=0), changed(nodes=1)):
        assert lack_of_drill(tmp_path, shape).startswith("none yet: ")


def test_of_drills_that_cover_a_job_the_newest_counts(tmp_path):
    bad = dataclasses.replace(
        VERDICT, shape=changed(nodes=3), time=2000.0, findings=(problem("n2: no store", ""),)
    )
    keep(tmp_path, bad)
    keep(tmp_path, VERDICT)
    assert lack_of_drill(tmp_path, SHAPE) == "the last one found: n2: no store"


def test_a_file_that_is_damaged_or_newer_is_said_and_stops_no_launch(tmp_path):
    (tmp_path / FILE).write_text("{")
    assert "is damaged" in lack_of_drill(tmp_path, SHAPE)
    (tmp_path / FILE).write_text('{"format": 99, "drills": []}')
    assert "use a newer mri_hpc" in lack_of_drill(tmp_path, SHAPE)
    with pytest.raises(UserError, match="has format 99"):
        keep(tmp_path, VERDICT)


def test_launch_names_the_drill_where_none_has_tried_such_a_job(tmp_path, cluster):
    sizes = Sizes(nodes=2, ranks_per_node=1, gpus_per_node=0)
    run = RunDir(tmp_path / "runs" / "it's one")
    plan = Plan(run=run, training=TrainingSettings(), job=JobSettings(), is_new=False)
    [line] = _drill_lines(plan, Cluster(), sizes)
    assert line == (
        """  drill   python -m mri_hpc.doctor --drill --run 'runs/it'"'"'s one'  # none yet: """
        "does such a job come back after a preemption here?"
    )
    run.path.mkdir(parents=True)
    shape = shape_of(sizes, partition=None, python=job_python())
    keep(run.path.parent, dataclasses.replace(VERDICT, shape=shape))
    assert _drill_lines(plan, Cluster(), sizes) == []


# What a drill asks for


def test_a_drill_asks_for_what_the_run_asks_for_but_for_two_minutes_only():
    run = JobSettings(nodes=2, gpus_per_node=4, partition="gpu", account="x", mem_gb=8.0, slurm=("nice=5",))
    job = job_of_drill(run)
    assert job.time_limit_min == LIMIT_MIN
    assert dataclasses.replace(job, time_limit_min=240, signal_ahead_s=90) == run
    with pytest.raises(UserError, match="--drill is a job of Slurm"):
        job_of_drill(JobSettings(cluster="local"))


def test_the_cost_is_said_in_hours_of_what_is_asked_for():
    of_gpus = cost_of(Sizes(nodes=2, ranks_per_node=4, gpus_per_node=4), partition="gpu")
    assert of_gpus.startswith("2 node(s) of partition gpu with 4 GPU(s) each for at most 2 minutes, 0.27 GPU")
    without = cost_of(Sizes(nodes=3, ranks_per_node=1, gpus_per_node=0), partition="")
    assert without.startswith("3 node(s) for at most 2 minutes, 0.10 node hours")


# The command


class Cluster:
    """A scheduler that takes no jobs."""

    is_queue = True

    def sizes(self, settings):
        return Sizes(nodes=settings.nodes, ranks_per_node=1, gpus_per_node=0)


@pytest.fixture
def cluster(monkeypatch, tmp_path):
    monkeypatch.setattr(drilling, "scheduler_for", lambda _job: Cluster())
    monkeypatch.setattr(drilling, "job_python", lambda: "/opt/python")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SBATCH_PARTITION", raising=False)


def test_without_yes_a_drill_says_its_cost_and_the_line_to_type_and_submits_nothing(
    cluster, tmp_path, capsys
):
    assert main(["--drill", "--nodes", "2", "--partition", "gpu"]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.startswith(
        "mri-hpc doctor: a drill asks for 2 node(s) of partition gpu for at most 2 min"
    )
    assert told.err.endswith("To submit it: mri-hpc doctor --drill --nodes 2 --partition gpu --yes\n")
    assert told.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def of_site(tmp_path, monkeypatch):
    """A site file that sets a partition, a python, and a ceiling on nodes; returns that python."""
    python = tmp_path / "site" / "python"
    python.parent.mkdir()
    python.touch(mode=0o755)
    (tmp_path / "site" / "site.toml").write_text(
        f'[defaults]\npartition = "of_site"\n[ceilings]\nnodes = 4\n[variables]\nMRI_PYTHON = "{python}"\n'
    )
    # So that it is as it was after the test.
    monkeypatch.setenv("MRI_PYTHON", "")
    monkeypatch.delenv("MRI_PYTHON")
    monkeypatch.setenv("MRI_SITE", str(tmp_path / "site" / "site.toml"))
    return python


def test_a_drill_takes_from_the_site_file_what_launch_takes(cluster, of_site, monkeypatch, capsys):
    drilled = []
    monkeypatch.setattr(drilling, "job_python", job_python)
    monkeypatch.setattr(command, "run_drill", lambda drill, _say: drilled.append(drill.shape) or VERDICT)
    assert main(["--drill", "--yes"]) == 0
    assert main(["--drill", "--partition", "typed", "--yes"]) == 0
    assert [(shape.partition, shape.python) for shape in drilled] == [
        ("of_site", str(of_site)), ("typed", str(of_site)),
    ]  # fmt: skip
    capsys.readouterr()
    assert main(["--drill", "--nodes", "5"]) == 2
    assert "--nodes 5 is above the 4 that" in capsys.readouterr().err
    # What the site sets is not taken for typed where nothing is drilled.
    assert main(["--list"]) == 0


def test_a_drill_of_a_run_has_the_settings_of_its_job(cluster, tmp_path, capsys):
    run = RunDir(tmp_path / "runs" / "a")
    run.path.mkdir(parents=True)
    save_settings(run, TrainingSettings(), JobSettings(nodes=3, partition="saved"))
    assert main(["--drill", "--run", str(run.path)]) == 2
    assert "a drill asks for 3 node(s) of partition saved" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--yes"], "--yes goes with --bundle RUN, --fix or --drill"),
        (["--nodes", "2"], "those of a drill: give --drill"),
    ],
)
def test_options_of_a_drill_mean_nothing_without_one(words, says, capsys):
    assert main(words) == 2
    assert says in capsys.readouterr().err


def test_a_drill_without_slurm_is_refused(cluster, monkeypatch, capsys):
    monkeypatch.setattr(Cluster, "is_queue", False)
    assert main(["--drill"]) == 2
    assert "no Slurm answers here" in capsys.readouterr().err


def test_a_drill_prints_what_it_found_the_cost_of_a_preemption_and_what_to_leave_out(
    cluster, monkeypatch, capsys
):
    bad = dataclasses.replace(VERDICT, findings=(fine("fine"), problem("n3: no store", "share it")))

    def run_drill(drill, say):
        say("submitted: Slurm job 7")
        return bad

    monkeypatch.setattr(command, "run_drill", run_drill)
    assert main(["--drill", "--slurm", "nice=5", "--yes"]) == 2
    told = capsys.readouterr()
    assert "  ...     submitted: Slurm job 7\n  ok      fine\n  NOT OK  n3: no store\n" in told.out
    assert "a preemption costs 131 s here: 1 s to save (a small network), 121 s until Slurm" in told.out
    assert (
        "without n3: mri-hpc doctor --drill --slurm exclude=n3 nice=5 --yes; launch takes the same --slurm"
        in told.out
    )
    assert told.err.startswith("mri-hpc doctor: the drill has found 1 problem, the first: n3: no store")
    monkeypatch.setattr(command, "run_drill", lambda drill, say: VERDICT)
    assert main(["--drill", "--yes", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["preemption"]["held_s"] == 121.0


@pytest.mark.parametrize(
    ("typed", "line"),
    [
        (["--nodes", "2", "--yes"], "--nodes 2 --slurm exclude=n1 --yes"),
        (["--slurm", "exclude=n[2,4]", "nice=5", "--nodes", "2"],
         "--nodes 2 --slurm exclude=n[2,4],n1 nice=5 --yes"),
        (["--slurm=exclude=n2", "--nodes", "2"], "--nodes 2 --slurm exclude=n2,n1 --yes"),
        # Of several the last counts.
        (["--slurm", "nice=5", "--slurm", "exclude=n2"], "--slurm exclude=n2,n1 --yes"),
    ],
)  # fmt: skip
def test_nodes_to_leave_out_come_to_those_that_are_left_out_already(typed, line):
    assert shlex.split(command.line_without("n1", typed)) == line.split()
