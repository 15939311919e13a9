"""Of an array the last task tells of all: one account, wherever tasks are killed, however often run again."""

import json
import multiprocessing
import os
import random
import signal
import sys

import pytest

import mri_hpc.account as account_module
from mri_hpc import preprocess
from mri_hpc.testing.file_operations import FileOperations

TASKS = 4
FORK = multiprocessing.get_context("fork")


def start(place, task, restart, output, *, dies_at=0, dies_before_telling=False):
    """A task of the array as a real process; its output goes to a file. dies_at: as in FileOperations."""
    source, store = place / "raw", place / "store"

    def die(*_arguments, **_named):
        os.kill(os.getpid(), signal.SIGKILL)

    def work():
        place = {
            "ARRAY_JOB_ID": "77", "ARRAY_TASK_ID": task, "ARRAY_TASK_COUNT": TASKS, "RESTART_COUNT": restart,
            "ARRAY_TASK_MIN": 0, "ARRAY_TASK_MAX": TASKS - 1,
        }  # fmt: skip
        os.environ.update({f"SLURM_{name}": str(value) for name, value in place.items()})
        with output.open("w", encoding="utf-8") as sys.stdout:
            if dies_at:
                FileOperations(store, dies_at).install()
            if dies_before_telling:
                account_module.account_of = die
            words = ["--source", source, "--store", store, "--size", "16", "--chunk-images", "4", "--json"]
            status = preprocess.main([*map(str, words)])
        sys.exit(status)

    process = FORK.Process(target=work)
    process.start()
    return process


@pytest.fixture
def place(tmp_path, make_pictures, monkeypatch):
    """Where the array reads and writes."""
    monkeypatch.setenv("MRI_KEY_FILE", str(tmp_path / "site.key"))
    make_pictures(tmp_path / "raw", 40)
    return tmp_path


def accounts(outputs):
    """The accounts in what tasks printed before they ended."""
    printed = (output.read_text() for output in outputs if output.exists())
    return [found for text in printed if text and (found := json.loads(text)["account"])]


def run_until_done(place, chance, most):
    """Run all tasks at once, and those that were killed again; return their outputs and how many died."""
    outputs, killed, turns = [], 0, 0
    waiting = dict.fromkeys(range(TASKS), 0)
    while waiting:
        turns += 1
        started = {}
        for task, restart in waiting.items():
            outputs.append(place / f"{task}.{restart}.out")
            # There has to be an end.
            dies_at = chance.randint(1, most) if turns < 4 else 0
            started[task] = start(place, task, restart, outputs[-1], dies_at=dies_at)
        for process in started.values():
            process.join()
        assert {process.exitcode for process in started.values()} <= {0, -signal.SIGKILL}
        waiting = {task: waiting[task] + 1 for task, process in started.items() if process.exitcode}
        killed += len(waiting)
    return outputs, killed


@pytest.mark.parametrize("seed", range(2))
def test_tasks_at_once_that_are_killed_and_requeued_tell_of_all_exactly_once(place, seed):
    outputs, killed = run_until_done(place, random.Random(seed), 60)
    assert killed >= TASKS
    (account,) = accounts(outputs)
    assert account["images"] == 40
    tally = account["tally"]
    assert tally["stored"] + tally["already_there"] == 40


def test_a_task_that_is_killed_between_being_the_last_and_telling_tells_when_it_is_run_again(place):
    outputs = [place / f"{number}.out" for number in range(TASKS + 1)]
    for task in range(TASKS):
        is_last = task == TASKS - 1
        process = start(place, task, 0, outputs[task], dies_before_telling=is_last)
        process.join()
        assert process.exitcode == (-signal.SIGKILL if is_last else 0)
    assert accounts(outputs) == []
    start(place, TASKS - 1, 1, outputs[-1]).join()
    (account,) = accounts(outputs)
    assert (account["images"], account["tally"]["stored"]) == (40, 40)
