"""Paths that a job's nodes do not see, and clocks that differ, by the answers of their shells."""

import os
import subprocess

import pytest

from mri_hpc.cluster.node_answers import NodeAnswers, clock_words, parse, question_lines, unseen_words

# Stands in for srun: two nodes, one after the other, the second with a clock two minutes ahead.
SRUN = """#!/bin/sh
while [ "$1" != sh ]; do shift; done
for node in n1 n2; do SLURMD_NODENAME=$node "$@"; done | sed "s/^node n2 .*/node n2 $AHEAD/"
"""


@pytest.fixture
def asked(tmp_path):
    """Run the lines of a batch script, with a stand-in for srun; returns what the variable holds then."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "srun").write_text(SRUN)
    (tmp_path / "bin" / "srun").chmod(0o755)

    def ask(paths, **environment):
        script = "\n".join([*question_lines(paths), 'printf %s "$MRI_NODES"'])
        path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
        return subprocess.run(
            ["bash", "-c", script], env={"PATH": path, "SLURM_JOB_NUM_NODES": "2", **environment},
            capture_output=True, text=True, check=True,
        ).stdout  # fmt: skip

    return ask


def test_every_node_says_which_paths_it_does_not_see_whatever_they_are_called(asked, tmp_path):
    here, gone = tmp_path / "it's here", tmp_path / "not 'here'  $HOME"
    here.mkdir()
    answers = parse(asked([str(here), str(gone)], AHEAD="0"))
    assert answers.unseen == {"n1": (str(gone),), "n2": (str(gone),)}
    assert answers.silent == ()


def test_a_clock_that_differs_is_told_from_those_that_were_only_read_later(asked):
    assert parse(asked([], AHEAD="4000000000")).clocks["n2"] > 1e9
    assert set(parse(asked([], AHEAD="1.5")).clocks) == {"n2"}
    slow = "asked 100.0\nnode n1 100.1\nend n1\nnode n2 118\nend n2\ntold 119"
    assert parse(slow).clocks == {}
    off = "asked 100.0\nnode n1 100.1\nnode n2 221.5\nnode n3 40.2\nnode n4 103.9\ntold 101.5"
    assert parse(off).clocks == {"n2": 120.0, "n3": -59.8}


def test_a_node_that_began_to_answer_and_did_not_end_hangs(asked):
    assert parse("asked 1\nnode n1 1\nend n1\nnode n2 1\ntold 61").silent == ("n2",)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "asked 5",
        "asked 5\n\ntold 6",
        "srun: error: x\nnode\nunseen n1\nnode n1 %N\nend n1",
        "told x\nasked y",
    ],
)
def test_answers_that_did_not_come_or_that_no_date_understands_say_nothing(text):
    assert parse(text) == NodeAnswers()


def test_a_clock_is_described_by_node():
    assert clock_words("n2", 120.4) == "n2 is 120 s ahead"
    assert clock_words("n2", -61.0) == "n2 is 61 s behind"


def test_nodes_that_do_not_see_the_same_are_named_together():
    words = unseen_words({"n2": ("/a", "/b"), "n3": ("/a", "/b"), "n4": ("/c",)}, {"/a": "the run /r"})
    assert words.startswith("nodes n2, n3 do not see the run /r, nor /b; node n4 does not see /c: all nodes")
    assert words.endswith("--slurm exclude=n2,n3,n4")
