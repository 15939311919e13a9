"""A drill is followed until it is over or hopeless, and its job ends in its two minutes."""

import json
import os
import signal

import pytest

from mri_hpc.base.errors import UserError
from mri_hpc.cluster.drill import course, rank, trial
from mri_hpc.cluster.drill.course import Course
from mri_hpc.cluster.drill.folder import DrillFolder
from mri_hpc.cluster.drill.probe import Question
from mri_hpc.cluster.drill.terms import BY
from mri_hpc.cluster.jobs import publish_job, slurm_job
from mri_hpc.cluster.scheduler import Phase, Sizes, Standing
from mri_hpc.rundir.layout import Attempt
from mri_hpc.rundir.ledger import Kind, read_events, record
from mri_hpc.rundir.settings import JobSettings, TrainingSettings, load_training, save_settings

FIRST, SECOND = Attempt(submission=1, restart=0), Attempt(submission=1, restart=1)
QUESTION = Question(python="/opt/python", token="ab")
NODES = "n1 clock 1000\nn2 clock 1000\n"
LAST = "- {status} 1000 1005 n[1-2]\n"


@pytest.fixture
def drill(tmp_path, monkeypatch):
    folder = DrillFolder.beside(tmp_path)
    for run in (folder.run, folder.twin):
        run.path.mkdir(parents=True)
    monkeypatch.setattr(course.slurm, "node_names", lambda _nodes: ["n1", "n2"])
    return folder


@pytest.fixture
def followed(drill, monkeypatch):
    """Follow a drill of which these things happen, one a look; what was said, and whether it was ended."""
    ended = []
    monkeypatch.setattr(course, "end_job", lambda run: ended.append(run) or "cancelled")

    def follow(*happenings, phase=Phase.RUNNING):
        todo, lines = list(happenings), []
        monkeypatch.setattr(course, "standing_of", lambda _job: Standing(phase=phase, wait="others go first"))
        monkeypatch.setattr(course, "SETTLES_S", 0.0 if phase is Phase.GONE else 60.0)
        monkeypatch.setattr(course.time, "sleep", lambda _s: todo.pop(0)())
        Course(drill=drill, question=QUESTION, job=slurm_job("7"), say=lines.append).follow()
        assert todo == []
        return lines, bool(ended)

    follow.ended = ended
    return follow


def decide(drill, cause, decision="again", attempt=FIRST):
    return lambda: record(drill.run, attempt, Kind.DECIDED, decision=decision, cause=cause, reason="")


def test_it_is_followed_to_the_end_of_the_twin_and_to_the_last_word_of_the_job(drill, followed):
    lines, is_ended = followed(
        lambda: drill.began.write_text("1000\n"),
        lambda: drill.seen.write_text(NODES + LAST.format(status=0)),
        lambda: record(drill.run, FIRST, Kind.FIRST_STEP),
        lambda: record(drill.run, FIRST, Kind.STOP_AGREED, step=3),
        decide(drill, "stopped"),
        drill.twin.mark_done,
        decide(drill, "finished", decision="finished", attempt=SECOND),
    )
    assert lines[0] == "the job waits: others go first"
    assert lines[1:3] == [
        "every node is asked what it sees",
        "all nodes can start ranks: they meet, and train",
    ]
    assert lines[-1] == "the job is requeued, and waits to start again"
    assert not is_ended


def test_what_nodes_have_found_is_said_once_and_long_before_the_end(drill, followed):
    answers = f"{NODES}n1 lacks MRI_KEY_FILE\nn2 lacks MRI_KEY_FILE\n"
    lines, _ = followed(
        lambda: drill.seen.write_text(answers + LAST.format(status=0)),
        lambda: record(drill.run, FIRST, Kind.FIRST_STEP),
        drill.twin.mark_done,
        decide(drill, "finished", decision="finished"),
    )
    assert [line for line in lines if "MRI_KEY_FILE" in line] == [lines[1]]
    # The report in the end names all nodes.
    assert lines[1].startswith("n1: jobs do not get MRI_KEY_FILE of your shell there")


def test_what_a_node_has_found_is_said_while_others_are_still_asked(drill, followed):
    python = "it has no /opt/python, the python of the job"
    lines, _ = followed(
        lambda: drill.began.write_text("1000\n"),
        lambda: drill.seen_so_far.write_text('n1 clock 1000\nn2 clock 1000\nn2 no-python\nn1 {"level": "no'),
        lambda: drill.seen.write_text(f"{NODES}n2 no-python\n{LAST.format(status=3)}"),
    )
    assert lines == ["the job waits: others go first", "every node is asked what it sees", f"n2: {python}"]


def test_it_is_over_where_a_node_cannot_start_ranks_and_nobody_has_to_end_the_job(drill, followed):
    _, is_ended = followed(lambda: drill.seen.write_text(NODES + LAST.format(status=3)))
    assert not is_ended


@pytest.mark.parametrize(("cause", "decision"), [("crash", "again"), ("user_error", "give_up")])
def test_a_crash_is_not_tried_again(drill, followed, cause, decision):
    _, is_ended = followed(
        lambda: drill.seen.write_text(NODES + LAST.format(status=0)), decide(drill, cause, decision)
    )
    assert is_ended


def test_ranks_that_took_no_step_are_not_started_again(drill, followed):
    _, is_ended = followed(
        lambda: drill.seen.write_text(NODES + LAST.format(status=0)), decide(drill, "stopped")
    )
    assert is_ended


def test_it_is_over_where_slurm_has_the_job_no_more(followed):
    assert followed(phase=Phase.GONE) == ([], True)


def interrupt():
    raise KeyboardInterrupt


def test_ctrl_c_ends_the_job(drill, followed):
    with pytest.raises(KeyboardInterrupt):
        followed(interrupt)
    assert followed.ended == [drill.run]


def test_ctrl_c_while_the_last_words_are_waited_for_ends_the_job_as_well(drill, followed):
    with pytest.raises(KeyboardInterrupt):
        followed(decide(drill, "crash"), interrupt)
    assert followed.ended == [drill.run]


# The ranks' part


@pytest.fixture
def sent(monkeypatch):
    """Signals that a rank has sent to itself."""
    numbers = []
    monkeypatch.setattr(rank.os, "kill", lambda _pid, number: numbers.append(number))
    return numbers


def test_a_signal_that_slurm_does_not_send_is_noted_and_the_rest_is_played(drill, sent, monkeypatch):
    drill.run.metrics.write_text("".join(f'{{"step": {step}, "loss": 1.0}}\n' for step in range(rank.STEPS)))
    monkeypatch.setattr(rank.slurm, "tell_ranks", lambda _job, _number: "Access denied")
    rank._interrupt(drill, FIRST)
    assert json.loads(drill.signal_note.read_text())["complaint"] == "Access denied"
    assert sent == [signal.SIGUSR2]


def test_a_signal_that_came_is_noted_without_complaint(drill, sent, monkeypatch):
    drill.run.metrics.write_text("".join(f'{{"step": {step}, "loss": 1.0}}\n' for step in range(rank.STEPS)))
    monkeypatch.setattr(
        rank.slurm, "tell_ranks", lambda *_: record(drill.run, FIRST, Kind.STOP_AGREED, step=3) and ""
    )
    rank._interrupt(drill, FIRST)
    assert json.loads(drill.signal_note.read_text())["complaint"] == ""
    assert sent == []


def test_both_attempts_together_have_two_minutes_and_then_the_job_is_cancelled(drill, monkeypatch):
    lines = [
        {"time": 1050.0, "attempt": "1.0", "event": "ranks_gone"},
        {"time": 1200.0, "attempt": "1.1", "event": "starting"},
    ]
    # The clock of its first node is 300 s ahead of the file server's, by which all else is written.
    drill.began.write_text("1300\n")
    os.utime(drill.began, (1000, 1000))
    drill.run.events.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    monkeypatch.setattr(rank.server_clock, "now", lambda _folder: 1210.0)
    slept, cancelled = [], []
    monkeypatch.setattr(rank.time, "sleep", slept.append)
    monkeypatch.setattr(rank.slurm, "cancel", cancelled.append)
    rank._end_in_time(drill, SECOND)
    assert (slept, len(cancelled)) == ([120.0 - 50.0 - 10.0], 1)
    assert read_events(drill.run)[-1].values["by"] == BY


# The run


def test_the_run_and_its_twin_end_alike_soon_after_the_stop(drill):
    save_settings(drill.run, TrainingSettings(snapshot="ab", epochs=trial.ENDLESS), JobSettings())
    drill.run.recipe.write_text("{}")
    trial.shorten(drill)
    trial.shorten(drill)
    assert load_training(drill.run) == load_training(drill.twin)
    assert load_training(drill.run).epochs == trial.MORE_EPOCHS


def test_a_drill_beside_another_is_refused_and_what_one_left_is_removed(drill, monkeypatch):
    drill.run.claim_attempt(FIRST)
    publish_job(drill.run, 1, slurm_job("7", "beta"))
    sizes = Sizes(nodes=1, ranks_per_node=2, gpus_per_node=0)
    monkeypatch.setattr(trial, "phase_of", lambda _job: Phase.RUNNING)
    with pytest.raises(
        UserError, match=r"a drill is under way in .*: Slurm job 7 of .*; .* scancel --clusters=beta 7$"
    ):
        trial.prepare(drill, JobSettings(), sizes)
    monkeypatch.setattr(trial, "phase_of", lambda _job: Phase.GONE)
    plan = trial.prepare(drill, JobSettings(), sizes)
    assert not drill.run.path.exists()
    assert plan.training.batch_size == 2 * trial.IMAGES_A_RANK
    # The store holds what the settings name, for all that a run does with images.
    with_splits = trial.Store.open(drill.store).resolve(plan.training.snapshot)
    assert len(with_splits.key) == 2 * trial.IMAGES_A_RANK * trial.STEPS_AN_EPOCH + 4 * trial.OTHERS_A_CLASS
