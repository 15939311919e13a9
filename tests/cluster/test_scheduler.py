"""The seam: whoever runs jobs is asked through one protocol, also a scheduler that nobody knew before."""

import json

import pytest

from mri_hpc import launch, status
from mri_hpc.base.errors import UserError
from mri_hpc.base.stop_flag import StopRequest
from mri_hpc.cluster import choice
from mri_hpc.cluster.choice import kill_time_of, name_of, phase_of
from mri_hpc.cluster.jobs import Job, job_of
from mri_hpc.cluster.scheduler import Phase, Scheduler, Sizes, Standing
from mri_hpc.rundir.ledger import Kind, read_events


class Ferry(Scheduler):
    """Takes every job, and lets none begin."""

    def __init__(self):
        self.waits, self.told = True, []

    def sizes(self, settings):
        return Sizes(nodes=settings.nodes, ranks_per_node=3, gpus_per_node=0)

    def where(self, sizes):
        return f"{sizes.nodes} boat(s)"

    def describe(self, run, submission, settings, sizes):
        return f"row {run.path.name} {submission} with {sizes.ranks}"

    def submit(self, run, submission, settings, sizes):
        return Job(cluster="local", job_id="7")

    def name(self, job):
        return f"crossing {job.job_id}"

    def ask_about(self, jobs):
        pass

    def standing(self, job, age_s=0.0):
        if self.waits:
            return Standing(phase=Phase.PENDING, wait="the tide")
        return Standing(phase=Phase.GONE, end="NODE_FAIL")

    def is_out_of_reach(self, job):
        return False

    def past_end(self, job, restart):
        return ""

    def cancel(self, job):
        self.told.append(job.job_id)
        self.waits = False

    def kill_time(self, environment, request):
        return request.received_s + 3


@pytest.fixture
def ferry(monkeypatch):
    scheduler = Ferry()
    monkeypatch.setattr(choice, "SCHEDULERS", {"local": scheduler})
    return scheduler


def test_a_run_is_launched_shown_and_cancelled_by_what_the_scheduler_answers(ferry, planned_run, capsys):
    run = planned_run(name="run")
    words = ["--run", str(run.path), "--cluster", "local", "--nodes", "2"]
    assert launch.main([*words, "--dry-run"]) == 0
    assert capsys.readouterr().out == "row run 1 with 6\n"
    assert launch.main(words) == 0
    assert "crossing 7, 6 rank(s) on 2 boat(s), no GPU" in capsys.readouterr().out
    assert job_of(run, 1) == Job(cluster="local", job_id="7")
    assert status.main([str(run.path), "--json"]) == 0
    seen = json.loads(capsys.readouterr().out)
    assert (seen["state"], seen["reason"]) == ("pending", "the tide")
    assert launch.main(["--run", str(run.path), "--cancel"]) == 0
    assert "crossing 7 cancelled" in capsys.readouterr().out
    assert ferry.told == ["7"]
    assert read_events(run)[-1].kind == Kind.CANCELLED


def test_how_a_job_ended_is_told_in_the_schedulers_words(ferry, planned_run, capsys):
    run = planned_run(name="run")
    assert launch.main(["--run", str(run.path), "--cluster", "local"]) == 0
    ferry.waits = False
    capsys.readouterr()
    assert status.main([str(run.path), "--json"]) == 0
    seen = json.loads(capsys.readouterr().out)
    assert (seen["state"], seen["reason"]) == (
        "stopped", "crossing 7 ended as NODE_FAIL before it could say why: launch again to resume",
    )  # fmt: skip


def test_too_few_images_a_rank_are_refused_by_the_sizes_that_the_scheduler_gives(ferry, planned_run, capsys):
    run = planned_run(name="run")
    assert launch.main(["--run", str(run.path), "--cluster", "local", "--nodes", "20"]) == 2
    assert "--batch-size 64 gives 60 ranks less than 2 images each" in capsys.readouterr().err


def test_a_submission_that_failed_has_no_scheduler_and_is_gone(ferry):
    job = Job(cluster="", failure="no room")
    assert (name_of(job), phase_of(job)) == ("nothing (no room)", Phase.GONE)


def test_a_rank_outside_of_slurm_asks_the_scheduler_of_this_machine_when_it_is_killed(ferry):
    assert kill_time_of({})(StopRequest(signal_name="SIGTERM", received_s=5.0)) == 8.0


def test_whoever_asks_for_slurm_never_gets_this_machine(monkeypatch):
    def away():
        raise UserError("Slurm is configured here but does not answer")

    monkeypatch.setattr("mri_hpc.cluster.slurm.controller_answers", away)
    with pytest.raises(UserError, match="does not answer"):
        choice.scheduler_for(launch.JobSettings(cluster="auto"))
    assert isinstance(choice.scheduler_for(launch.JobSettings(cluster="slurm")), choice.Slurm)
    assert isinstance(choice.scheduler_for(launch.JobSettings(cluster="local")), choice.ThisMachine)
