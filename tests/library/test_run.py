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


def without_its_minute(values):
    """What an answer says, but when it was made: another may be of the next minute."""
    return {name: value for name, value in values.items() if name != "made"}


def test_predicting_from_python_gives_what_the_command_gives(images, capsys):
    refused = []
    answer = Run(FINISHED).predict([images], on_rejected=refused.append)
    assert predict([str(FINISHED), str(images), "--names", "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert {"run": str(FINISHED), **without_its_minute(answer.to_dict())} == without_its_minute(printed)
    assert printed["made"].endswith(" UTC")
    assert [bad.path.name for bad in refused] == ["notes.txt"]


def test_one_path_is_that_path_and_not_its_letters(images):
    run = Run(str(FINISHED))
    found = [without_its_minute(run.predict(one).to_dict()) for one in ([images], str(images), images)]
    assert found[0] == found[1] == found[2]


def test_a_mistyped_choice_is_told_with_those_that_there_are(images):
    with pytest.raises(UserError, match="there is no patient_from 'flie'; did you mean 'file'"):
        Run(FINISHED).predict(images, patient_from="flie")
    with pytest.raises(UserError, match="has no labelled image of the tset split; found: test"):
        Run(FINISHED).evaluate("tset")
