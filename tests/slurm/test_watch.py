"""A chain of jobs on a real Slurm: one at a time, until three have failed in a row, or it is stopped."""

import json
import sys

import pytest

FAILING = ("--every", "1s", "--slurm", "time=00:05:00")


@pytest.fixture
def watch(slurm, tmp_path):
    """Calls mri-hpc watch, or status, in a folder whose source holds no image at all; what it printed."""
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / "note.png").write_text("no picture")
    own = {"HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path / "config")}

    def call(command, *words):
        ran = slurm.run(
            [sys.executable, "-m", f"mri_hpc.{command}", *words], cwd=tmp_path, env={**slurm.env, **own}
        )
        return ran.stdout

    return call


def waiting_and_working(slurm):
    """The jobs of chains that wait, and those that work."""
    form = ["squeue", "--noheader", "--format=%j %T"]
    states = [line.split() for line in slurm.run(form).stdout.splitlines()]
    own = [state for name, state in states if name.startswith("mri-watch-")]
    return own.count("PENDING"), len(own) - own.count("PENDING")


def test_a_chain_submits_its_successor_one_at_a_time_and_ends_after_three_failures_or_when_stopped(
    slurm, watch, tmp_path
):
    watch("watch", "raw", "--chain", "watch/slow", *("--every", "1d"))
    watch("watch", "raw", *FAILING)
    assert "nothing was submitted" in watch("watch", "raw", *FAILING)
    links, most = tmp_path / "watch" / "raw" / "links", [0, 0]

    def has_ended():
        found = [*waiting_and_working(slurm)]
        most[:] = [max(pair) for pair in zip(most, found, strict=True)]
        return (links / "000003.json").exists()

    slurm.wait_until(has_ended, what=lambda: watch("status", "watch/raw"), timeout_s=240)
    # Of the two chains together.
    assert max(most) <= 2
    third = json.loads((links / "000003.json").read_text())
    assert third["state"] == "failed" and third["is_of_job"]
    assert third["ended_because"].startswith("3 links in a row have failed: ")
    assert "next  none: 3 links in a row have failed" in watch("status", "watch/raw")
    assert len([*(tmp_path / "watch" / "raw" / "jobs").iterdir()]) == 3

    slow = tmp_path / "watch" / "slow"
    slurm.wait_until((slow / "jobs" / "000002.json").exists, what="its second job", timeout_s=120)
    assert "no sooner than" in watch("status", "watch/slow")
    assert "was taken out of the queue" in watch("watch", "raw", "--chain", "watch/slow", "--stop")
    assert watch("status", "watch/slow").endswith("next  none: watch/slow/stop is there\n")
    slurm.wait_until(lambda: sum(waiting_and_working(slurm)) == 0, what="an empty queue")
