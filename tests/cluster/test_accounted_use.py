"""What sacct says of the use of a job's ranks."""

import pytest

from mri_hpc.cluster import slurm
from mri_hpc.cluster.accounted_use import parse_uses, record_use, seconds_of
from mri_hpc.cluster.drill.folder import DrillFolder
from mri_hpc.cluster.drill.probe import Question, first_lines
from mri_hpc.cluster.node_answers import question_lines
from mri_hpc.rundir.layout import Attempt, RunDir
from mri_hpc.rundir.ledger import read_events
from mri_hpc.rundir.use import Use, uses_of

# A job that was requeued: two runs, of which the first has a step of the site's own before the ranks.
SAID = """\
7|60|03:10.500|8||2||
7.batch|60|00:02.000|4|1|1|20000K|
7.extern|60|00:00.001|8|2|2|0|
7.0|2|00:00.100|8|2|2|1000K|
7.1|50|03:08.000|8|4|2|1048576K|cpu=00:00:47,gres/gpumem=900M,gres/gpuutil=35,mem=1G
7|30|01:00:00|8||2||
7.batch|30|00:02.000|4|1|1|20000K|
7.0|25|00:50.000|8|4|2||
"""


def test_the_ranks_of_each_run_of_a_job_are_found():
    assert parse_uses(SAID, 0) == {
        "seconds": 50.0, "cores_used": 0.94, "cores": 2.0, "memory_bytes": 2 * 2**30, "gpu_busy": 0.35,
    }  # fmt: skip
    assert parse_uses(SAID, 1) == {"seconds": 25.0, "cores_used": 0.5, "cores": 2.0}


def test_a_step_that_asked_the_nodes_is_not_taken_for_the_ranks_that_never_began():
    asked = f"7|60|03:10|8||2||||train\n7.0|2|00:00.100|8|2|2|1000K||{slurm.QUESTION_STEP}\n"
    assert parse_uses(asked, 0) == {}
    ranks = "7.1|50|01:40.000|8|2|2|1000000K||python\n"
    assert parse_uses(asked + ranks, 0)["seconds"] == 50


def test_each_step_that_asks_the_nodes_says_so_by_its_name(tmp_path):
    drill = first_lines(DrillFolder(tmp_path), Question(python="python", token="ab"))
    for lines in (question_lines(["/a"]), drill):
        assert "\n".join(lines).count(f" srun --job-name={slurm.QUESTION_STEP} ") == 1
    assert "JobName" in slurm.USE_FIELDS


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param("7|60|03:10|8||2||\n", id="no step"),
        pytest.param("7|60|03:10|8||2||\n7.batch|60|00:02.000|4|1|1|9K|\n", id="no step of ranks"),
        pytest.param("7|60|0|8||2||\n7.0|50|00:00:00|8|4|2||\n", id="a site that counts nothing"),
        pytest.param("7|1|\n7.0|\n", id="cut short"),
        pytest.param("sacct: error", id="a complaint"),
    ],
)
def test_what_the_accounting_does_not_know_is_nothing(text):
    assert parse_uses(text, 0) == {}
    assert parse_uses(SAID, 2) == {}


def test_times_of_the_accounting_have_days_or_fractions():
    assert seconds_of("00:02.500") == 2.5
    assert seconds_of("1-01:00:01") == 90001
    assert seconds_of("") is None


def test_it_is_recorded_with_what_the_job_may_use_and_nothing_where_it_is_unknown(tmp_path, monkeypatch):
    run, attempt = RunDir(tmp_path), Attempt(submission=1, restart=1)
    monkeypatch.setenv("SLURM_MEM_PER_NODE", "2048")
    monkeypatch.setattr(slurm, "past_uses", lambda job_id: SAID if job_id == "7" else "")
    record_use(run, attempt, "8")
    assert read_events(run) == []
    record_use(run, attempt, "7")
    assert uses_of(read_events(run)) == (
        Use(attempt="1.1", seconds=25.0, cores_used=0.5, cores=2.0, memory_limit_bytes=2**31, is_of_job=True),
    )


@pytest.mark.parametrize(
    ("said", "found"),
    [
        ({"SLURM_MEM_PER_NODE": "1024"}, 2**30),
        ({"SLURM_MEM_PER_CPU": "512", "SLURM_CPUS_ON_NODE": "4"}, 2**31),
        ({"SLURM_MEM_PER_GPU": "1024", "SLURM_GPUS_ON_NODE": "2"}, 2**31),
        ({"SLURM_MEM_PER_NODE": "0"}, None),
        ({"SLURM_MEM_PER_CPU": "512"}, None),
        ({}, None),
    ],
)
def test_what_a_job_may_use_of_a_node_is_in_its_environment(said, found):
    assert slurm.memory_of_node(said) == found
