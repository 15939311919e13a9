"""A command line that does not fit is refused in one line, however wide the terminal is."""

import os
import subprocess
import sys
from dataclasses import dataclass
from typing import Literal

import pytest

from mri_hpc.base.command import parse


@dataclass(frozen=True, kw_only=True)
class Options:
    """Try things."""

    name: str
    """Whom to ask."""
    count: int | None = None
    """How many, of which there are so many that this text takes more than a line."""
    rate: float = 0.5
    """How fast."""
    how: Literal["well", "badly"] = "well"
    """In which way."""


REFUSALS = {
    "--coutn 3": "unrecognized options: --coutn, 3; did you mean --count?",
    "--count many": "--count takes INT, found 'many'",
    "--rate 1,5": "--rate takes FLOAT, found '1,5'",
    "--how wel": "--how takes well, badly, found 'wel'",
    "--count": "--count needs a value",
    "": "--name STR is missing: whom to ask",
}


@pytest.mark.parametrize("columns", [40, 80, 300])
@pytest.mark.parametrize("words", REFUSALS)
def test_what_does_not_fit_is_said_in_one_line(words, columns, monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", str(columns))
    name = [] if not words else ["--name", "x"]
    with pytest.raises(SystemExit) as left:
        parse("mri-hpc try", Options, [*name, *words.split()], example="mri-hpc try --count 2")
    assert left.value.code == 2
    assert capsys.readouterr().err == f"mri-hpc try: {REFUSALS[words]}; see: mri-hpc try --help\n"


def test_help_goes_where_it_went(capsys):
    with pytest.raises(SystemExit) as left:
        parse("mri-hpc try", Options, ["--help"], example="mri-hpc try --count 2")
    assert left.value.code == 0
    assert "How fast." in capsys.readouterr().out


def test_a_terminal_of_plain_letters_gets_the_same_line():
    code = "from mri_hpc.evaluate import main;main(['run', '--splitt', 'test'])"
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "COLUMNS": "60"}
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert ran.stderr == (
        "mri-hpc evaluate: unrecognized options: --splitt, test; did you mean --split?; "
        "see: mri-hpc evaluate --help\n"
    )
