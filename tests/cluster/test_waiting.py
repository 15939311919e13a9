"""What a job waits for is said in plain words, with what to type where it would wait for ever."""

import pytest

from mri_hpc.cluster.slurm_answers import JobState, parse_job
from mri_hpc.cluster.waiting import plain

TYPED = {
    "launch_failed_requeued_held": "scontrol release 7",
    "JobHeldUser": "scontrol release 7",
    "job_requeued_in_held_state": "scontrol release 7",
    "PartitionTimeLimit": "smaller --time-limit-min",
    "PartitionNodeLimit": "fewer --nodes",
    "DependencyNeverSatisfied": "cancel it",
    "QOSMaxWallDurationPerJobLimit": "smaller --time-limit-min",
    "QOSMaxCpuPerJobLimit": "again with less",
    "AssocMaxNodePerJobLimit": "again with less",
    "AssocGrpCPUMinutesLimit": "hours are used up",
    "AssocGrpGRES": "when other jobs of yours end",
    "QOSMaxJobsPerUserLimit": "when other jobs of yours end",
    "ReqNodeNotAvail": "sinfo -R",
    "ReqNodeNotAvail,_UnavailableNodes:n[1-3]": "sinfo -R",
    "ReqNodeNotAvail,_Reserved_for_maintenance": "smaller --time-limit-min",
    "ReqNodeNotAvail,_May_be_reserved_for_other_job": "smaller --time-limit-min",
    "Nodes_required_for_job_are_DOWN,_DRAINED_or_reserved": "sinfo -R",
    "Reservation": "scontrol show reservation",
    "InvalidQOS": "--account or --qos",
    "BadConstraints": "--constraint",
}


@pytest.mark.parametrize(("reason", "typed"), TYPED.items())
def test_what_holds_a_job_up_is_said_with_what_to_type_and_slurms_own_word(reason, typed):
    told = plain("7", JobState(state="PENDING", reason=reason))
    assert typed in told
    assert told.endswith(f"(Slurm: {reason})")


@pytest.mark.parametrize("state", ["REQUEUE_HOLD", "SPECIAL_EXIT"])
def test_a_job_that_slurm_holds_by_its_state_can_be_let_go(state):
    assert plain("7", JobState(state=state)) == f"it is held; let it go: scontrol release 7 (Slurm: {state})"


def test_a_job_of_another_cluster_is_let_go_there():
    there = "let it go: scontrol --clusters=beta release 7 (Slurm: JobHeldUser)"
    assert plain("7", JobState(state="PENDING", reason="JobHeldUser"), "beta").endswith(there)


def test_a_word_that_is_new_is_shown_as_slurm_says_it():
    assert plain("7", JobState(state="PENDING", reason="SomethingNew")) == "Slurm: SomethingNew"
    assert plain("7", JobState(state="SUSPENDED")) == "Slurm: SUSPENDED"


def test_the_start_that_slurm_expects_is_said_while_a_job_waits(monkeypatch):
    monkeypatch.setenv("TZ", "UTC")
    text = "JobId=7 JobState=PENDING Reason=Priority RunTime=00:00:00 StartTime=1795411108 EndTime=1795412908"
    job = parse_job(text, now=1795411000.0)
    assert plain("7", job).endswith("(Slurm: Priority); expected to start 2026-11-23 05:18")
    assert parse_job(text.replace("PENDING", "RUNNING"), now=1795411000.0).start_s is None
    assert parse_job(text, now=1795411200.0).start_s is None
