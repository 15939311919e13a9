"""A node that cannot carry a rank is named with the reason, before any rank starts."""

import json
import os
import runpy
import subprocess
import sys
from types import SimpleNamespace

import pytest

from mri_hpc.base.atomic import publish_new_bytes
from mri_hpc.cluster.doctor.finding import Level, problem
from mri_hpc.cluster.drill import node
from mri_hpc.cluster.drill.folder import DrillFolder
from mri_hpc.cluster.drill.probe import (
    ANSWER_WITHIN_S,
    CLOCKS_APART_S,
    ON_NODE,
    STOPS,
    Question,
    as_line,
    first_lines,
    judge_nodes,
    read_answers,
)
from mri_hpc.intake.labels.pseudonyms import Pseudonyms, site_key

QUESTION = Question(python="/opt/python", token="ab")
ASKED = 1000


@pytest.fixture
def drill(tmp_path):
    """A drill's folder, in a path with spaces and quotes, with its token."""
    folder = DrillFolder.beside(tmp_path / "it's here")
    folder.ways.mkdir(parents=True)
    publish_new_bytes(folder.token, b"ab")
    return folder


def judged(drill, *lines, nodes=("n1", "n2"), status=0, errors=""):
    """What is said of each node whose job left these lines: (level, says) of each finding."""
    last = f"- {status} {ASKED} {ASKED + 20} {','.join(nodes)}"
    drill.seen.write_text("".join(f"{line}\n" for line in (*lines, last)))
    drill.seen_errors.write_text(errors)
    found = judge_nodes(read_answers(drill), nodes, QUESTION)
    return {name: [(one.level, one.says) for one in findings] for name, findings in found.items()}


def test_nodes_that_have_nothing_to_say_are_fine(drill):
    assert judged(drill, "n1 clock 1000", "n2 clock 1001", "n2 ") == {"n1": [], "n2": []}


def test_what_a_node_finds_is_its_own(drill):
    said = as_line(problem("it does not see /store", "share it"))
    assert judged(drill, "n1 clock 1000", "n2 clock 1000", f"n2 {said}")["n2"] == [
        (Level.PROBLEM, "it does not see /store")
    ]


def test_a_node_without_the_python_is_named(drill):
    found = judged(drill, "n1 clock 1000", "n2 clock 1000", "n2 no-python", status=STOPS)
    assert found == {"n1": [], "n2": [(Level.PROBLEM, "it has no /opt/python, the python of the job")]}


def test_a_python_that_dies_is_said_in_its_last_words_and_with_the_limit_that_it_had(drill):
    found = judged(
        drill,
        "n1 clock 1000", "n1 Traceback", "n1 ImportError: libfoo.so.1: cannot open", "n1 died 1 unlimited",
        "n2 clock 1000", "n2 MemoryError", "n2 died 1 500000",
    )  # fmt: skip
    assert found["n1"] == [
        (Level.PROBLEM, "/opt/python cannot work there: ImportError: libfoo.so.1: cannot open")
    ]
    assert "MemoryError; a process may use 500000 kB there (ulimit -v)" in found["n2"][0][1]


def test_a_node_that_says_nothing_is_named_with_the_words_of_srun(drill):
    found = judged(drill, "n1 clock 1000", status=124, errors="srun: error: n2: task 1: launch failed\n")
    assert found["n1"] == []
    [(level, says)] = found["n2"]
    assert (level, f"within {ANSWER_WITHIN_S} s" in says, "launch failed" in says) == (
        Level.PROBLEM, True, True,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("clock", "says"), [(ASKED + 140, "120 s ahead of that of n1"), (ASKED - 120, "120 s behind that of n1")]
)
def test_a_clock_that_is_off_is_found_and_those_that_agree_are_not(drill, clock, says):
    found = judged(
        drill, f"n1 clock {ASKED}", f"n2 clock {clock}", f"n3 clock {ASKED}", nodes=("n1", "n2", "n3")
    )
    assert (found["n1"], found["n3"]) == ([], [])
    [(level, words)] = found["n2"]
    assert (level, says in words) == (Level.NOTE, True)


def test_nodes_that_answer_a_little_late_have_no_clock_that_is_off(drill):
    late = f"n2 clock {ASKED + 20 + CLOCKS_APART_S}"
    assert judged(drill, f"n1 clock {ASKED - CLOCKS_APART_S}", late) == {"n1": [], "n2": []}


def test_an_answer_that_is_not_there_or_not_whole_is_none(drill):
    assert read_answers(drill) is None
    drill.seen.write_text("- 0 100\n")
    assert read_answers(drill) is None


def test_nodes_that_do_not_reach_another_are_judged_by_who_is_alone(drill):
    found = judged(
        drill,
        "n1 clock 1000", "n2 clock 1000", "n3 clock 1000",
        "n2 apart n1 10.0.0.1 port 9 by eth0: no answer", "n3 apart n1 no route", "n3 apart gone no route",
        nodes=("n1", "n2", "n3"), status=STOPS,
    )  # fmt: skip
    says = "n2, n3 do not reach it (10.0.0.1 port 9 by eth0: no answer)"
    assert found == {"n1": [(Level.PROBLEM, says)], "n2": [], "n3": []}


# The shell's part


def asked_in_shell(python, *words, variables="", **more):
    environment = {**os.environ, "SLURMD_NODENAME": "n7", **more}
    ran = subprocess.run(
        ["sh", "-c", ON_NODE, "look", variables, str(python), *words],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return ran.returncode, ran.stdout.splitlines()


def program(path, script):
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return path


def test_the_shell_names_the_node_before_each_line_and_gives_on_the_status(tmp_path):
    python = program(tmp_path / "it's python", 'echo "$2"; echo two; exit 3')
    status, lines = asked_in_shell(python, "-m", "a word")
    assert (status, lines[1:]) == (STOPS, ["n7 a word", "n7 two"])
    assert lines[0].startswith("n7 clock ")


def test_the_shell_says_that_a_python_is_not_there_or_died(tmp_path):
    status, lines = asked_in_shell(tmp_path / "nowhere")
    assert (status, lines[1:]) == (STOPS, ["n7 no-python"])
    status, lines = asked_in_shell(program(tmp_path / "python", "echo oh >&2; exit 127"))
    assert (status, lines[1]) == (STOPS, "n7 oh")
    assert lines[2].startswith("n7 died 127 ")


def test_the_shell_says_which_variables_do_not_come_to_it_and_why_is_said_once(drill, tmp_path):
    python = program(tmp_path / "python", "exit 0")
    _, lines = asked_in_shell(python, variables="MRI_GONE MRI_HERE NCCL_GONE", MRI_HERE="")
    assert lines[1:3] == ["n7 lacks MRI_GONE", "n7 lacks NCCL_GONE"]
    [(level, says)] = judged(drill, *lines[1:], nodes=("n7",))["n7"]
    assert (level, says.startswith("jobs do not get MRI_GONE,NCCL_GONE of your shell there")) == (
        Level.NOTE, True,
    )  # fmt: skip


def test_the_lines_of_the_batch_script_leave_the_answers_and_stop_where_a_node_cannot(drill, tmp_path):
    python = program(tmp_path / "python", "exit 3")
    (tmp_path / "bin").mkdir()
    program(tmp_path / "bin" / "srun", 'while [ "$1" != sh ]; do shift; done; SLURMD_NODENAME=n1 exec "$@"')
    script = "\n".join([*first_lines(drill, Question(python=str(python), token="ab")), "echo ranks"])
    environment = {
        **os.environ, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}",
        "SLURM_JOB_NUM_NODES": "1", "SLURM_JOB_NODELIST": "n1",
    }  # fmt: skip

    def run(**more):
        return subprocess.run(
            ["bash", "-c", script], env={**environment, **more}, capture_output=True, text=True, check=False
        )

    assert (run().returncode, run().stdout) == (1, "")
    answers = read_answers(drill)
    assert (answers.nodes, answers.status) == ("n1", STOPS)
    # It was asked when the job first started.
    assert run(SLURM_RESTART_COUNT="1").stdout == "ranks\n"
    program(python, "exit 0")
    assert run().stdout == "ranks\n"


# The python's part


def looked(drill, monkeypatch, *, token="ab", store="", key="", gpus=0, torch="[0, null, []]", **environment):
    """What this machine finds of itself, but for limits and network: (level, says)."""
    monkeypatch.setattr(node, "ASK_TORCH", f"print({torch!r})")
    monkeypatch.setattr(node, "CHECKS", ())
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    found = node.look(drill, token=token, store=store, key=key, gpus=gpus)
    return [(one.level, one.says) for one in found]


def test_a_node_that_sees_the_same_folder_finds_nothing_and_leaves_nothing(drill, monkeypatch):
    before = sorted(drill.path.iterdir())
    assert looked(drill, monkeypatch) == []
    assert sorted(drill.path.iterdir()) == before


def test_a_folder_that_is_not_there_or_another_one_of_the_same_name_is_a_problem(drill, monkeypatch):
    [(level, says)] = looked(drill, monkeypatch, token="of the login node")
    assert (level, says.endswith("where the runs are, is another folder there")) == (Level.PROBLEM, True)
    [(level, says)] = looked(DrillFolder.beside(drill.path / "nowhere"), monkeypatch)
    assert (level, says.startswith("it does not see ")) == (Level.PROBLEM, True)


def test_a_folder_that_cannot_be_written_is_a_problem(drill, monkeypatch):
    def refuse(path, _data):
        raise OSError(30, "Read-only file system", str(path))

    monkeypatch.setattr(node, "publish_new_bytes", refuse)
    [(level, says)] = looked(drill, monkeypatch)
    assert (level, "cannot write where the runs are: Read-only file system" in says) == (Level.PROBLEM, True)


def test_a_store_that_is_not_seen_is_a_problem_and_one_that_is_none(drill, monkeypatch, tmp_path):
    [(level, says)] = looked(drill, monkeypatch, store=str(tmp_path / "store"))
    assert (level, says) == (Level.PROBLEM, f"it does not see the store {tmp_path / 'store'}")
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "recipe.json").touch()
    assert looked(drill, monkeypatch, store=str(tmp_path / "store")) == []


def test_another_key_than_that_of_the_login_node_is_said_and_none_is_made(drill, monkeypatch, tmp_path):
    path, other = tmp_path / "a.key", tmp_path / "b.key"
    ours = Pseudonyms(site_key(path)).fingerprint()
    assert looked(drill, monkeypatch, key=ours, MRI_KEY_FILE=str(path)) == []
    [(level, says)] = looked(drill, monkeypatch, key=ours, MRI_KEY_FILE=str(other))
    assert (level, "does not see the site's key" in says, other.exists()) == (Level.NOTE, True, False)
    site_key(other)
    [(_level, says)] = looked(drill, monkeypatch, key=ours, MRI_KEY_FILE=str(other))
    assert "has another site's key" in says


@pytest.mark.parametrize(
    ("torch", "says"),
    [
        ('[0, "12.8", []]', "Slurm gives it 2 GPU(s), and torch finds 0 there"),
        ("[0, null, []]", "torch finds 0 there, and is one without CUDA"),
        ('[2, "12.8", ["GPU 1: CUDA error: uncorrectable ECC error"]]', "GPU 1: CUDA error: uncorrectable"),
        ('[2, "12.8", []]', ""),
    ],
)
def test_gpus_that_do_not_work_are_a_problem(drill, monkeypatch, torch, says):
    found = looked(drill, monkeypatch, gpus=2, torch=torch)
    assert [level for level, _ in found] == [Level.PROBLEM] * bool(says)
    assert says in "".join(words for _, words in found)


@pytest.mark.parametrize(("parts", "levels"), [("MIG-a,MIG-b", []), ("MIG-a", [Level.PROBLEM])])
def test_of_parts_of_gpus_as_many_count_as_are_given(drill, monkeypatch, parts, levels):
    """CUDA shows a process the first alone, whatever there is."""
    found = looked(drill, monkeypatch, gpus=2, torch='[1, "12.8", []]', CUDA_VISIBLE_DEVICES=parts)
    assert [level for level, _ in found] == levels


def test_a_torch_that_cannot_be_imported_is_said_in_its_last_words(drill, monkeypatch):
    monkeypatch.setattr(node, "CHECKS", ())
    monkeypatch.setattr(node, "ASK_TORCH", "raise ImportError('libcudart.so.12: cannot open')")
    [found] = node.look(drill, token="ab", store="", key="", gpus=0)
    assert found.says.endswith("ImportError: libcudart.so.12: cannot open")


def test_what_a_node_prints_is_what_is_read_and_its_status_says_whether_ranks_may_start(
    drill, monkeypatch, capsys
):
    monkeypatch.setattr(node, "ASK_TORCH", "print('[0, null, []]')")
    monkeypatch.setattr(node, "CHECKS", ())
    assert node.main([str(drill.path), "ab", "", "", "0", "", ""]) == 0
    assert node.main([str(drill.path), "other", "", "", "1", "", ""]) == STOPS
    lines = [f"n1 {line}" for line in capsys.readouterr().out.splitlines()]
    assert [level for level, _ in judged(drill, *lines, nodes=("n1",))["n1"]] == [Level.PROBLEM] * 2


def test_what_is_asked_of_torch_tries_each_gpu_and_names_those_that_fail(monkeypatch, capsys, tmp_path):
    class Ones:
        def __matmul__(self, _other):
            return self

        def sum(self):
            return 512.0**3

    def ones(*_shape, device):
        if device == "cuda:1":
            raise RuntimeError("CUDA error: no kernel image\nfor this device")
        return Ones()

    cuda = SimpleNamespace(device_count=lambda: 2)
    torch = SimpleNamespace(ones=ones, cuda=cuda, version=SimpleNamespace(cuda="13.0"))
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "torchvision", SimpleNamespace())
    (tmp_path / "ask.py").write_text(node.ASK_TORCH)
    runpy.run_path(str(tmp_path / "ask.py"))
    assert json.loads(capsys.readouterr().out) == [2, "13.0", ["GPU 1: CUDA error: no kernel image"]]
