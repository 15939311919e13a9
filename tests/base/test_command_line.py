"""A command line that does not fit is refused in one line, and --help shows what matters."""

import re
from dataclasses import dataclass, field
from typing import Annotated, Literal

import pytest

from mri_hpc.base.command import Action, run_action, run_command
from mri_hpc.base.errors import UserError
from mri_hpc.base.marks import OFTEN, POSITIONAL, Flag, Word


@dataclass(frozen=True, kw_only=True)
class Inner:
    """How it is done."""

    rate: float = 0.5
    """How fast."""
    how: Literal["well", "badly"] | None = None
    """In which way; by default any."""
    tags: tuple[str, ...] = ()
    """More, as KEY=VALUE."""
    careful: bool = True
    """Look twice."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """Try things."""

    name: Annotated[str, OFTEN]
    """Whom to ask."""
    count: int | Literal["all"] | None = None
    """How many, of which there are so many that this text takes more than a line."""
    fast: Annotated[Flag, Word(option="quickly")] = False
    """In a hurry."""
    inner: Inner = field(default_factory=Inner)
    """How."""


@dataclass(frozen=True, kw_only=True)
class Places:
    """Try places."""

    first: Annotated[str, POSITIONAL]
    """What comes first."""
    others: Annotated[tuple[str, ...], POSITIONAL]
    """What else comes."""
    json: Flag = False
    """Print as JSON."""


def outcome(words, options_type=Options, default=None):
    """The options that the words give, or None, and the exit status."""
    found = []
    status = run_command(
        "mri-hpc try", options_type, found.append, words, example="mri-hpc try --count 2",
        default=lambda: default,
    )  # fmt: skip
    return (found[0] if found else None), status


REFUSALS = {
    "--coutn 3": "unrecognized options: --coutn, 3; did you mean --count?",
    "--count many": "--count takes INT, all, found 'many'",
    "--rate 1,5": "--rate takes FLOAT, found '1,5'",
    "--rate None": "--rate takes FLOAT, found 'None'",
    "--how wel": "--how takes well, badly, found 'wel'",
    "--count": "--count needs a value",
    "--count --quickly": "--count needs a value",
    "--count -x": "--count needs a value",
    "--quickly=no": "--quickly takes no value",
    "--no-quickly": "unrecognized options: --no-quickly; did you mean --quickly?",
    "--fast": "unrecognized options: --fast",
    "stray": "unrecognized options: stray",
    "--coun 3": "unrecognized options: --coun, 3; did you mean --count?",
    "": "--name STR is missing: whom to ask",
}


@pytest.mark.parametrize("words", REFUSALS)
def test_what_does_not_fit_is_said_in_one_line(words, capsys):
    name = [] if not words else ["--name", "x"]
    assert outcome([*name, *words.split()]) == (None, 2)
    assert capsys.readouterr().err == f"mri-hpc try: {REFUSALS[words]}; see: mri-hpc try --help\n"


GIVEN = {
    "--count 3": {"count": 3},
    "--count=-3": {"count": -3},
    "--count -3": {"count": -3},
    "--count 1 --count all": {"count": "all"},
    "--quickly --quickly": {"fast": True},
    "--rate -1e-3": {"rate": -0.001},
    "--rate -inf": {"rate": float("-inf")},
    "--no-careful": {"careful": False},
    "--no_careful --careful": {"careful": True},
    "--tags a=b c=d --quickly": {"tags": ("a=b", "c=d"), "fast": True},
    "--tags a=b --tags c=d": {"tags": ("c=d",)},
    "--tags": {"tags": ()},
    "--": {},
}


@pytest.mark.parametrize("words", GIVEN)
def test_what_fits_is_what_was_typed(words):
    found, status = outcome(["--name", "x", *words.split()])
    assert status == 0
    values = {**vars(found), **vars(found.inner)}
    values.pop("inner")
    usual = {"name": "x", "count": None, "fast": False, **vars(Inner())}
    assert values == {**usual, **GIVEN[words]}


def test_what_is_not_typed_is_as_the_default_object_has_it():
    start = Options(name="a", count=7, inner=Inner(rate=3.0, tags=("k=v",), careful=False))
    assert outcome(["--rate", "4"], default=start)[0] == Options(
        name="a", count=7, inner=Inner(rate=4.0, tags=("k=v",), careful=False)
    )


def test_places_stand_anywhere_between_options():
    for words in ("a b c --json", "--json a b c", "a --json b c", "a b --json c", "--json -- a b c"):
        assert outcome(words.split(), Places)[0] == Places(first="a", others=("b", "c"), json=True), words
    assert outcome(["-1"], Places)[0] == Places(first="-1", others=())
    assert outcome(["--", "--json"], Places)[0] == Places(first="--json", others=())


def test_with_json_a_refusal_is_a_document_too(capsys):
    assert outcome(["--json"], Places) == (None, 2)
    printed = capsys.readouterr()
    message = "STR is missing: what comes first; see: mri-hpc try --help"
    assert printed.err == f"mri-hpc try: {message}\n"
    assert printed.out == f'{{\n  "error": {{\n    "kind": "usage",\n    "message": "{message}"\n  }}\n}}\n'


def test_help_shows_what_matters_and_help_all_shows_all(capsys):
    shown = {}
    for word in ("--help", "-h", "--help-all"):
        assert outcome([word]) == (None, 0)
        shown[word] = capsys.readouterr().out
    assert shown["--help"] == shown["-h"]
    assert re.findall(r"^  (--[a-z-]+)", shown["--help"], re.M) == ["--name", "--help-all", "--version"]
    assert "6 more options: mri-hpc try --help-all" in shown["--help"]
    assert "--rate FLOAT" in shown["--help-all"] and "(default: 0.5)" in shown["--help-all"]
    assert "more options" not in shown["--help-all"]
    assert "mri-hpc try --count 2" in shown["--help"]


def test_an_action_is_found_by_its_word_and_another_is_refused(capsys):
    found = []
    actions = {
        "try-it": lambda: Action(options=Places, body=found.append, example="mri-hpc do try-it a"),
        "leave": lambda: Action(options=Places, body=found.append, example="mri-hpc do leave a"),
    }

    def status(*words):
        return run_action("mri-hpc do", "Do it.", actions, words, example="mri-hpc do try-it a")

    assert status("try-it", "a") == status("try_it", "a") == 0
    assert found == [Places(first="a", others=())] * 2
    refused = {
        ("try-itt", "a"): "unrecognized options: try-itt, a; did you mean 'try-it'?; see: mri-hpc do --help",
        (): "expected one of {try-it, leave}; see: mri-hpc do --help",
        ("try-it", "--jsn"): (
            "unrecognized options: --jsn; did you mean --json?; see: mri-hpc do try-it --help"
        ),
    }
    for words, message in refused.items():
        assert status(*words) == 2
        assert capsys.readouterr().err == f"mri-hpc do: {message}\n"
    assert status("--help") == 0
    assert re.findall(r"^  (\S+)  +Try places\.", capsys.readouterr().out, re.M) == ["try-it", "leave"]


def test_what_a_value_cannot_be_is_said_as_the_options_say_it(capsys):
    @dataclass(frozen=True, kw_only=True)
    class Few:
        """Few."""

        count: int = 1
        """How many."""

        def __post_init__(self):
            raise UserError(f"--count must be below 1, got {self.count}")

    assert outcome([], Few) == (None, 2)
    assert capsys.readouterr().err == "mri-hpc try: --count must be below 1, got 1\n"


def test_an_action_that_is_interrupted_before_it_begins_says_so_in_one_line(capsys):
    def interrupted():
        raise KeyboardInterrupt

    assert run_action("mri-hpc do", "Do it.", {"it": interrupted}, ["it"], example="mri-hpc do it") == 130
    assert capsys.readouterr().err == "mri-hpc do: interrupted\n"
