"""--help of every command reads well in a narrow terminal and in a wide one."""

import contextlib
import importlib
import io
import itertools
import re

import pytest

from mri_hpc.__main__ import COMMANDS

FIRST = "show this help message and exit"


@pytest.fixture
def help_of(monkeypatch):
    """What a command prints for --help in a terminal of so many columns."""

    def ask(columns, command, *words):
        monkeypatch.setenv("COLUMNS", str(columns))
        # As a terminal: with frames, which tyro leaves out where the encoding is not named so.
        screen = io.TextIOWrapper(io.BytesIO(), encoding="utf-8")
        with contextlib.redirect_stdout(screen), pytest.raises(SystemExit) as left:
            importlib.import_module(f"mri_hpc.{command}").main([*words, "--help"])
        assert left.value.code == 0
        screen.seek(0)
        return screen.read()

    return ask


@pytest.fixture(params=[80, 120])
def pages(request, help_of):
    """(columns, command line, help) of every command and subcommand."""
    found = []
    for command in COMMANDS:
        page = help_of(request.param, command)
        found.append((request.param, command, page))
        for choice in re.findall(r"^│   • (\S+)", page, re.MULTILINE):
            found.append((request.param, f"{command} {choice}", help_of(request.param, command, choice)))
    assert len(found) > len(COMMANDS)
    return found


def test_no_line_is_wider_than_the_terminal(pages):
    for columns, command, page in pages:
        assert max(map(len, page.splitlines())) <= columns, command


def test_nothing_is_said_of_a_default_that_the_text_explains(pages):
    for _columns, command, page in pages:
        page = " ".join(page.replace("│", " ").split())
        assert not re.search(r"\bNone\b", page), command
        assert not re.search(r"\(default: (''|True|False)?\)", page), command


def test_lines_break_only_where_the_next_word_does_not_fit(pages):
    for columns, command, page in pages:
        for line, word in lines_and_next_words(page):
            # tyro keeps the line ends of the source: there the text of an option stands in one line.
            assert len(line) + 1 + len(word) > columns - 4, f"{command}: {line!r} breaks before {word!r}"


def lines_and_next_words(page):
    """Lines of options that go on in the next line, and the first word of that."""
    inner = [line[2:-2].rstrip() if line.startswith("│") else "" for line in page.splitlines()]
    column = next((line.index(FIRST) for line in inner if FIRST in line), 0)
    for line, following in itertools.pairwise(inner):
        is_option_alone = line.startswith(("-", "[")) and line[column - 2 : column] != "  "
        goes_on = following and not following[:column].strip() and line[column:].strip()
        if goes_on and not is_option_alone:
            yield line, following.split()[0]


def test_values_are_named_by_their_kind_and_defaults_in_words(help_of):
    page = " ".join(help_of(120, "launch").replace("│", " ").split())
    assert "--run PATH Folder of the run; by default runs/MODEL-DIGITS, so that" in page
    assert "--no-augment Flip, rotate, scale and shift training images at random. (default: on)" in page
    assert (
        "--warmup-epochs FLOAT Epochs of linear warm-up; afterwards the rate follows a cosine. (default: 1.0)"
        in page
    )
    assert "--slurm [STR [STR ...]]" in page
    # A switch that is off unless it is typed.
    assert "--wait Follow the run until it ends; exit status 0 only if it is finished. --dry-run" in page


def test_an_example_that_takes_several_lines_can_be_copied(help_of):
    page = help_of(60, "preprocess")
    lines = page[page.index("Example: ") :].split("\n\n")[0].splitlines()
    assert len(lines) > 1
    assert all(line.endswith(" \\") for line in lines[:-1])
    assert not lines[-1].endswith("\\")


def test_help_of_an_existing_run_shows_its_settings(help_of, make_run):
    page = " ".join(help_of(120, "launch", "--run", str(make_run().path)).replace("│", " ").split())
    assert "Seed of weights, order, augmentation and dropout. (default: 7)" in page


def test_launch_has_all_options_that_scripts_of_users_rely_on(help_of):
    page = help_of(120, "launch")
    shown = set(re.findall(r"^│ --([a-z-]+)", page, re.MULTILINE))
    promised = {
        "store", "run", "nodes", "tasks-per-node", "gpus-per-node", "cpus-per-task", "mem-gb", "cluster",
        "partition", "account", "qos", "constraint", "time-limit-min", "slurm", "wait", "dry-run", "cancel",
        "model", "weights", "epochs", "batch-size", "lr", "seed", "patience", "min-improvement",
        "deterministic", "val-fold", "test-fold", "precision", "continue-from",
    }  # fmt: skip
    assert promised <= shown
