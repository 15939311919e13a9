"""A drill is judged by what it left: how far it came, whose ranks failed, and whether the bits are equal."""

import json

import pytest

from mri_hpc.base.exit_status import LOST_PEER
from mri_hpc.cluster import slurm
from mri_hpc.cluster.doctor.finding import Level
from mri_hpc.cluster.drill.folder import DrillFolder
from mri_hpc.cluster.drill.judging import judge
from mri_hpc.cluster.drill.probe import Question
from mri_hpc.cluster.drill.rank import NODE
from mri_hpc.cluster.drill.terms import BY
from mri_hpc.cluster.drill.verdict import Preemption
from mri_hpc.cluster.jobs import slurm_job
from mri_hpc.cluster.rank_exits import record_exit
from mri_hpc.rundir.layout import Attempt
from mri_hpc.rundir.provenance import write_provenance

QUESTION = Question(python="/opt/python", token="ab")
FIRST = Attempt(submission=1, restart=0)
STOPPED_AT = 5
# (event, restart, seconds since the start, values)
COURSE = (
    ("starting", 0, 2.0, {}),
    ("started", 0, 8.0, {"ranks": 2, "device": "cpu"}),
    ("first_step", 0, 9.0, {}),
    ("stop_agreed", 0, 10.0, {"step": STOPPED_AT}),
    ("ranks_gone", 0, 11.5, {"status": 75}),
    ("decided", 0, 11.6, {"decision": "again", "cause": "stopped", "reason": "stopped by a signal"}),
    ("starting", 1, 133.5, {}),
    ("started", 1, 140.0, {"ranks": 2, "device": "cpu"}),
    ("first_step", 1, 141.5, {}),
    ("ranks_gone", 1, 160.0, {"status": 0}),
    ("decided", 1, 160.1, {"decision": "finished", "cause": "finished", "reason": "the run is finished"}),
)


@pytest.fixture
def drill(tmp_path, monkeypatch):
    """A drill of two nodes, both of which can start ranks."""
    folder = DrillFolder.beside(tmp_path)
    for run in (folder.run, folder.twin):
        run.path.mkdir(parents=True)
    folder.began.write_text("1000\n")
    folder.seen.write_text("n1 clock 1000\nn2 clock 1000\n- 0 1000 1005 n[1-2]\n")
    monkeypatch.setattr(slurm, "node_names", lambda _nodes: ["n1", "n2"])
    return folder


def leave(drill, events, *, complaint="", differs_from=None, twin_digest="aa", is_done=True):
    """Leave what a drill leaves that came so far."""
    lines = [
        {"time": 1000 + second, "attempt": f"1.{restart}", "event": kind, **values}
        for kind, restart, second, values in events
    ]
    drill.run.events.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    if any(kind == "first_step" for kind, *_ in events):
        drill.signal_note.write_text(json.dumps({"time": 1009.5, "complaint": complaint}))
    for run, digest in ((drill.run, "aa"), (drill.twin, twin_digest)):
        is_off = run == drill.twin and differs_from is not None
        losses = {step: 1 / step + (is_off and step >= differs_from) for step in range(1, 13)}
        run.metrics.write_text(
            "".join(json.dumps({"step": step, "loss": loss}) + "\n" for step, loss in losses.items())
        )
        if is_done:
            write_provenance(run, {"weights_digest": digest})
            run.mark_done()


def found(drill):
    """What it is judged as: (level, words) of each finding, and the nodes to leave out."""
    judged = judge(drill, QUESTION, job=slurm_job("7", "beta"))
    return [(one.level, one.says) for one in judged.findings], judged.bad_nodes


def problems(drill):
    findings, bad = found(drill)
    return [words for level, words in findings if level is Level.PROBLEM], bad


def log_of(drill, rank, node, *lines, restart=0, status=None):
    attempt = Attempt(submission=1, restart=restart)
    drill.run.claim_attempt(attempt)
    first = NODE.format(rank=rank, node=node)
    drill.run.rank_log(attempt, rank).write_text("\n".join([first, *lines]) + "\n")
    if status is not None:
        record_exit(drill.run, attempt, rank, status)


def test_a_drill_that_came_through_is_fine_and_says_what_a_preemption_costs(drill):
    leave(drill, COURSE)
    judged = judge(drill, QUESTION, job=slurm_job("7", "beta"))
    assert {one.level for one in judged.findings} == {Level.FINE}
    assert judged.bad_nodes == ()
    assert judged.preemption == Preemption(stop_s=1.5, held_s=122.0, start_s=8.0)
    assert judged.preemption.whole_s == 131.5
    assert "alike in two process groups over 12 steps" in judged.findings[-1].says


@pytest.mark.parametrize(
    ("differs_from", "twin_digest", "says"),
    [
        (STOPPED_AT, "bb", f"two process groups differ from step {STOPPED_AT} on"),
        (STOPPED_AT + 1, "bb", "resumed, it differs from a twin that nothing interrupted"),
        (None, "bb", "resumed, it differs from a twin that nothing interrupted"),
    ],
)
def test_bits_that_differ_are_said_with_what_they_differ_by(drill, differs_from, twin_digest, says):
    leave(drill, COURSE, differs_from=differs_from, twin_digest=twin_digest)
    findings, _ = found(drill)
    assert findings[-1][0] is Level.NOTE
    assert says in findings[-1][1]


def test_what_changed_between_the_attempts_is_named_where_the_bits_differ(drill):
    changed = ("changed", 1, 139.0, {"condition": "device", "before": "A100", "now": "H100"})
    leave(drill, [*COURSE[:7], changed, *COURSE[7:]], differs_from=STOPPED_AT + 1)
    assert "; what changed: device: a resumed run" in found(drill)[0][-1][1]


def test_a_job_that_left_no_word_is_laid_to_the_node_on_which_its_script_started(drill, monkeypatch):
    known = {("7", "beta"): "n1"}
    monkeypatch.setattr(slurm, "first_node", lambda *job: known[job])
    drill.seen.unlink()
    [words], bad = problems(drill)
    assert (words.startswith("n1, on which the job's script starts, could not ask"), bad) == (True, ("n1",))
    drill.began.unlink()
    [words], bad = problems(drill)
    assert (f"does not see {drill.path.parent}" in words, bad) == (True, ("n1",))


def test_a_node_that_cannot_start_ranks_is_left_out_and_one_fault_of_all_nodes_is_none_of_theirs(drill):
    drill.seen.write_text("n1 clock 1000\nn2 clock 1000\nn2 no-python\n- 3 1000 1005 n[1-2]\n")
    assert problems(drill) == (["n2: it has no /opt/python, the python of the job"], ("n2",))
    drill.seen.write_text("n1 clock 1000\nn1 no-python\nn2 clock 1000\nn2 no-python\n- 3 1000 1005 n[1-2]\n")
    assert problems(drill) == (["n1, n2: it has no /opt/python, the python of the job"], ())


def test_ranks_that_do_not_meet_are_said_by_node_and_the_node_that_cannot_reach_the_first_is_left_out(drill):
    crash = ("decided", 0, 60.0, {"decision": "again", "cause": "crash", "reason": "crashed with status 70"})
    leave(drill, [COURSE[0], crash], is_done=False)
    log_of(drill, 0, "n1", "hung: waited 40 s for all 2 ranks", status=70)
    log_of(drill, 1, "n2", "hung: waited 40 s for rank 0 to answer at n1:4000", status=70)
    words, bad = problems(drill)
    assert words == [
        "n1: hung: waited 40 s for all 2 ranks", "n2: hung: waited 40 s for rank 0 to answer at n1:4000",
    ]  # fmt: skip
    assert bad == ("n2",)


def test_the_first_node_is_left_out_where_all_others_wait_for_it_in_vain(drill):
    crash = ("decided", 0, 60.0, {"decision": "again", "cause": "crash", "reason": "crashed with status 70"})
    leave(drill, [COURSE[0], crash], is_done=False)
    for rank in range(4):
        log_of(drill, rank, f"n{rank + 1}", "hung", status=70)
    assert problems(drill)[1] == ("n1",)


def test_no_node_is_left_out_for_ranks_whose_logs_do_not_name_theirs(drill):
    crash = ("decided", 0, 60.0, {"decision": "again", "cause": "crash", "reason": "crashed with status 70"})
    leave(drill, [COURSE[0], crash], is_done=False)
    for rank in range(2):
        log_of(drill, rank, "n1", status=70)
        drill.run.rank_log(FIRST, rank).unlink()
    assert problems(drill)[1] == ()
    # Nor where all others wait for such a one.
    for rank in (1, 2):
        log_of(drill, rank, f"n{rank + 1}", "hung", status=70)
    assert problems(drill)[1] == ()


def test_a_rank_that_only_lost_another_is_not_the_one_that_failed(drill):
    crash = ("decided", 1, 142.0, {"decision": "again", "cause": "crash", "reason": "crashed with status 1"})
    leave(drill, [*COURSE[:9], crash], is_done=False)
    log_of(drill, 0, "n1", "Connection closed by peer", restart=1, status=LOST_PEER)
    log_of(drill, 1, "n2", "CUDA error: uncorrectable ECC error", restart=1, status=1)
    assert problems(drill) == (["n2: CUDA error: uncorrectable ECC error"], ("n2",))


def test_ranks_that_were_ended_while_they_waited_say_for_what(drill):
    stopped = ("decided", 0, 60.0, {"decision": "again", "cause": "stopped", "reason": "stopped"})
    leave(drill, [COURSE[0], stopped, ("cancelled", 1, 130.0, {"by": BY})], is_done=False)
    log_of(drill, 1, "n2", "told to stop by SIGUSR2 while waiting for rank 0 to answer at n1:4000")
    words, _ = problems(drill)
    assert words[1:] == ["n2: told to stop by SIGUSR2 while waiting for rank 0 to answer at n1:4000"]


def test_what_the_batch_script_refuses_is_said_in_its_own_words(drill):
    reason = "scontrol is on the PATH of neither the job's shell nor its python"
    refused = ("decided", 0, 3.0, {"decision": "give_up", "cause": "user_error", "reason": reason})
    leave(drill, [refused], is_done=False)
    assert problems(drill) == ([reason], ())


def test_a_requeue_that_slurm_refuses_is_a_problem(drill):
    reason = "Slurm refused to requeue job 7: Requested operation is presently disabled"
    refused = ("decided", 0, 11.9, {"decision": "give_up", "cause": "stopped", "reason": reason})
    leave(drill, [*COURSE[:6], refused], is_done=False)
    assert problems(drill)[0] == [reason]


def test_a_signal_that_did_not_come_is_a_problem_though_the_rest_was_played(drill):
    leave(drill, COURSE, complaint="nothing had come after 15 s")
    [words], bad = problems(drill)
    assert (words.endswith("did not reach the ranks: nothing had come after 15 s"), bad) == (True, ())


def test_a_twin_that_was_not_done_in_time_leaves_the_bits_open_and_is_no_problem(drill):
    leave(drill, COURSE)
    drill.twin.done.unlink()
    findings, bad = found(drill)
    assert (findings[-1][0], bad) == (Level.NOTE, ())
    assert findings[-1][1].startswith("its twin was not done within the job's 2 minutes")


def test_two_minutes_that_were_too_few_are_said(drill):
    over = ("cancelled", 1, 142.0, {"by": BY})
    leave(drill, [*COURSE[:9], over], is_done=False)
    [words], _ = problems(drill)
    assert "had had its 2 minutes before the end" in words


def test_a_drill_that_just_stops_says_where_to_look(drill):
    leave(drill, COURSE[:1], is_done=False)
    [words], _ = problems(drill)
    assert words == "the ranks took no step, and nothing says why"
    leave(drill, COURSE[:6], is_done=False)
    assert problems(drill)[0] == ["the job did not come back, and nothing says why"]
    drill.run.submitit.mkdir()
    (drill.run.submitit / "7_0_log.out").write_text("...\nslurmstepd: error: *** JOB 7 CANCELLED\n")
    assert problems(drill)[0] == [
        "the job did not come back; its job's last words: slurmstepd: error: *** JOB 7 CANCELLED"
    ]
    drill.run.submitit.rename(drill.path / "away")
    leave(drill, COURSE[:9], is_done=False)
    assert problems(drill)[0] == ["it was not finished, and nothing says why"]
