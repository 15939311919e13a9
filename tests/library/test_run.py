"""Runs from Python: the same answers as by the command, and one line for each mistake."""

import json
from pathlib import Path

import pytest

from mri_hpc import Run
from mri_hpc.base.errors import UserError
from mri_hpc.predict import main as predict

FINISHED = Path(__file__).parents[1] / "fixtures/v0.1.0/whole/shufflenet_v2_x0_5-f538d417"


@pytest.fixture
def images(tmp_path, make_pictures):
    """A folder of a few images, and one file that is none."""
    folder = tmp_path / "new"
    make_pictures(folder, 3, classes=("p1", "p2"))
    (folder / "notes.txt").write_text("no picture")
    return folder


def test_predicting_from_python_gives_what_the_command_gives(images, capsys):
    refused = []
    answer = Run(FINISHED).predict([images], on_rejected=refused.append)
    assert predict([str(FINISHED), str(images), "--names", "--json"]) == 0
    assert {"run": str(FINISHED), **answer.to_dict()} == json.loads(capsys.readouterr().out)
    assert [bad.path.name for bad in refused] == ["notes.txt"]


def test_one_path_is_that_path_and_not_its_letters(images):
    run = Run(str(FINISHED))
    wanted = run.predict([images]).to_dict()
    assert run.predict(str(images)).to_dict() == run.predict(images).to_dict() == wanted


def test_a_mistyped_choice_is_told_with_those_that_there_are(images):
    with pytest.raises(UserError, match="there is no patient_from 'flie'; did you mean 'file'"):
        Run(FINISHED).predict(images, patient_from="flie")
    with pytest.raises(UserError, match="has no labelled image of the tset split; found: test"):
        Run(FINISHED).evaluate("tset")
