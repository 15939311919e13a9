"""GPU hours that are used up end a chain before a training, or a training well, which goes on with more."""

import shutil
from pathlib import Path

from mri_hpc.base.exit_status import AGAIN
from mri_hpc.chain.commands import Commands, Interrupted, NotOn
from mri_hpc.chain.links import State
from mri_hpc.rundir.ledger import Kind, record
from tests.cli.watch.conftest import FIRST, deliver, last, run_here


def test_gpu_hours_end_a_chain_before_a_training_would_exceed_them(chain, watch, monkeypatch):
    shutil.rmtree("models")
    deliver(Path("raw"), FIRST, 4)
    monkeypatch.setattr("mri_hpc.chain.link.gpu_hours", lambda runs: 3.0 * len(runs))
    status, out, err = watch("--max-gpu-hours", 5)
    assert status == 2
    assert last(chain).model == "raw-1" and "mri-hpc models promote raw-1 " in out, "what was done is said"
    assert (
        "3.00 GPU hours are used, and one more training as the last takes 3.00, of --max-gpu-hours 5" in err
    )
    assert (last(chain).state, len(chain.launched())) == (State.OUT_OF_HOURS, 1)
    assert watch("--max-gpu-hours", 6)[0] == 0


def test_a_training_that_is_waited_for_is_ended_well_where_it_uses_up_the_gpu_hours(
    chain, watch, monkeypatch
):
    deliver(Path("raw"), FIRST, 4)
    used = iter([0.0, 0.0])
    monkeypatch.setattr("mri_hpc.chain.link.gpu_hours", lambda runs: next(used, 5.0))
    status, _out, err = watch("--max-gpu-hours", 5, "--wait")
    assert (status, last(chain).state) == (2, State.OUT_OF_HOURS)
    assert "5.00 GPU hours are used, of --max-gpu-hours 5: nothing more is trained until it is larger" in err
    assert err.endswith("; watch/raw/runs/raw-2 was told to save and end, and goes on then\n")
    [launched, cancelled] = launches(chain, 2)
    assert launched.endswith(" --wait") and cancelled.endswith("raw-2 --cancel")
    assert last(chain).run == str(chain.run(2).path.absolute())
    out = watch("--max-gpu-hours", 50)[1]
    assert out == "link 3: training: watch/raw/runs/raw-2 goes on\n"
    assert launches(chain, 3) == [f"launch --run {chain.run(2).path.absolute()}"]
    record(chain.run(2), chain.run(2).claim_submission(), Kind.CANCELLED, by="a person")
    assert "raw-2 was cancelled: mri-hpc launch --run" in watch("--max-gpu-hours", 50)[2]
    monkeypatch.setattr("mri_hpc.chain.link.is_in_hands", lambda _run: True)
    assert watch("--max-gpu-hours", 5)[0] == 2
    assert (last(chain).state, last(chain).cancelled) == (State.OUT_OF_HOURS, 0), "a person was before it"


def test_a_link_that_is_ended_while_it_ends_a_training_leaves_a_run_that_goes_on(chain, watch, monkeypatch):
    deliver(Path("raw"), FIRST, 4)
    used = iter([0.0, 0.0])
    monkeypatch.setattr("mri_hpc.chain.link.gpu_hours", lambda runs: next(used, 5.0))

    def run(commands, command, words, **more):
        last_line = run_here(commands, command, words, **more)
        if "--cancel" in words:
            raise Interrupted("SIGTERM")
        return last_line

    with monkeypatch.context() as patch:
        patch.setattr(Commands, "run", run)
        assert watch("--max-gpu-hours", 5, "--wait")[0] == AGAIN
    assert watch("--max-gpu-hours", 50)[1] == "link 3: training: watch/raw/runs/raw-2 goes on\n"


def launches(chain, number):
    lines = chain.log(number).read_text().splitlines()
    return [line for line in lines if line.startswith("launch ")]


def test_a_training_that_finishes_as_it_is_ended_is_proposed(chain, watch, monkeypatch):
    deliver(Path("raw"), FIRST, 4)
    used = iter([0.0, 0.0])
    monkeypatch.setattr("mri_hpc.chain.link.gpu_hours", lambda runs: next(used, 5.0))
    typed = []

    def run(commands, command, words, *, why_not_on=lambda: "", **more):
        if why := why_not_on():
            typed.extend(words)
            raise NotOn(why)
        return run_here(commands, command, typed if "--cancel" in words else words, **more)

    monkeypatch.setattr(Commands, "run", run)
    status, out, err = watch("--max-gpu-hours", 5, "--wait")
    assert (status, err) == (0, "") and "raw-2 is proposed" in out


def test_a_run_that_has_stopped_is_not_launched_again_once_the_gpu_hours_are_used_up(
    chain, watch, monkeypatch
):
    deliver(Path("raw"), FIRST, 4)
    monkeypatch.setenv("STANDIN_DIES", "1")
    assert watch()[0] == 2
    monkeypatch.setattr("mri_hpc.chain.link.gpu_hours", lambda runs: 5.0)
    status, _out, err = watch("--max-gpu-hours", 5)
    assert status == 2
    assert "5.00 GPU hours are used, of --max-gpu-hours 5: nothing more is trained" in err
    assert err.endswith("; watch/raw/runs/raw-2 goes on then\n")
    assert not launches(chain, 3)
