"""--help of every command reads well in a narrow terminal and in a wide one."""

import importlib
import re
import shlex

import pytest

from mri_hpc.__main__ import COMMANDS

ACTIONS = {
    "store": importlib.import_module("mri_hpc.store").ACTIONS,
    "weights": ("fetch", "list"),
    "models": ("list", "add", "promote", "rollback", "show"),
}
PAGES = [[command] for command in COMMANDS]
PAGES += [[command, action] for command, actions in ACTIONS.items() for action in actions]


@pytest.fixture
def help_of(monkeypatch, capsys):
    """What a command prints for --help, or another option, in a terminal of so many columns."""

    def ask(columns, command, *words, option="--help"):
        monkeypatch.setenv("COLUMNS", str(columns))
        assert importlib.import_module(f"mri_hpc.{command.replace('-', '_')}").main([*words, option]) == 0
        return capsys.readouterr().out

    return ask


@pytest.fixture(params=[80, 120])
def pages(request, help_of):
    """(columns, command line, page with all options) of every command and action."""
    return [
        (request.param, " ".join(words), help_of(request.param, *words, option="--help-all"))
        for words in PAGES
    ]


def test_no_line_is_wider_than_the_terminal(pages):
    for columns, command, page in pages:
        assert max(map(len, page.splitlines())) <= columns, command


def test_nothing_is_said_of_a_default_that_the_text_explains(pages):
    for _columns, command, page in pages:
        page = " ".join(page.split())
        assert not re.search(r"\bNone\b|MISSING|%%", page), command
        assert not re.search(r"\(default: (''|True|False)?\)", page), command


def test_every_page_has_an_example_of_its_own_command(pages):
    for _columns, command, page in pages:
        example = page[page.index("Example: ") :].split("\n\n")[0].replace("\\\n", " ")
        words = shlex.split(example)[1:]
        # A rank is started by torchrun.
        wanted = ["torchrun"] if command == "train" else ["mri-hpc", *command.split()]
        assert words[: len(wanted)] == wanted, example


def test_every_option_of_every_page_has_its_text(pages):
    for _columns, command, page in pages:
        lines = page[page.index("Example: ") :].splitlines()
        for line, following in zip(lines, [*lines[1:], ""], strict=True):
            if line.startswith("  -") and "  " not in line.strip():
                assert following.startswith(" " * 20), f"{command}: {line}"


def test_values_are_named_by_their_kind_and_defaults_in_words(help_of):
    page = " ".join(help_of(120, "launch", option="--help-all").split())
    assert "--run PATH Folder of the run; by default runs/MODEL-DIGITS, so that" in page
    meant = "--no-augment Turn, scale and shift training images, and change their contrast, at random."
    assert f"{meant} (default: on)" in page
    assert "--accumulate INT Parts into which each rank cuts" in page
    assert "does not fit into memory. (default: 1)" in page
    assert "--warmup-epochs FLOAT Epochs of linear warm-up; afterwards the rate follows a cosine, or" in page
    assert "is held until the decay. (default: 1.0)" in page
    assert "--batch-size INT|auto" in page
    assert "--slurm [STR ...]" in page
    # A switch that is off unless it is typed.
    follows = "--wait Follow the run until it ends; status 0 only if it is finished, or at Ctrl-C, which ends"
    assert f"{follows} this alone. --dry-run" in page


def test_an_example_that_takes_several_lines_can_be_copied(help_of):
    page = help_of(60, "preprocess")
    lines = page[page.index("Example: ") :].split("\n\n")[0].splitlines()
    assert len(lines) > 1
    assert all(line.endswith(" \\") for line in lines[:-1])
    assert not lines[-1].endswith("\\")


def test_help_of_an_existing_run_shows_its_settings(help_of, make_run):
    page = " ".join(help_of(120, "launch", "--run", str(make_run().path), option="--help-all").split())
    assert "Seed of weights, order, augmentation and dropout. (default: 7)" in page


def options(page):
    return set(re.findall(r"^  --([a-z-]+)", page, re.MULTILINE)) - {"help-all", "version"}


def test_launch_shows_the_options_that_matter_and_says_where_the_others_are(help_of):
    page = help_of(120, "launch")
    assert {"run", "wait", "store", "model", "epochs", "nodes", "partition", "batch-size"} <= options(page)
    assert 10 <= len(options(page)) <= 18
    hidden = len(options(help_of(120, "launch", option="--help-all"))) - len(options(page))
    assert f"\n{hidden} more options: mri-hpc launch --help-all\n" in page


def test_preprocess_shows_the_options_that_matter_and_says_where_the_others_are(help_of):
    page = help_of(120, "preprocess")
    assert {"source", "store", "labels", "size", "site", "patient-pattern", "accept"} <= options(page)
    assert len(options(page)) <= 12
    hidden = len(options(help_of(120, "preprocess", option="--help-all"))) - len(options(page))
    assert f"\n{hidden} more options: mri-hpc preprocess --help-all\n" in page


def test_watch_shows_the_options_that_matter_and_says_where_the_others_are(help_of):
    page = help_of(120, "watch")
    assert {"store", "preprocess", "launch", "accept", "every", "max-gpu-hours", "stop"} <= options(page)
    assert "PATH" in page.partition("options:")[2]
    assert len(options(page)) <= 12
    hidden = len(options(help_of(120, "watch", option="--help-all"))) - len(options(page))
    assert f"\n{hidden} more options: mri-hpc watch --help-all\n" in page


def test_doctor_hides_the_options_of_a_job_alone(help_of):
    page, whole = (options(help_of(120, "doctor", option=option)) for option in ("--help", "--help-all"))
    assert {"only", "json", "bundle", "fix", "drill", "yes", "run"} <= page
    assert len(page) <= 12
    assert {"account", "mem-gb"} <= whole - page


WITH_FEW = [words for words in PAGES if words[0] not in ("launch", "preprocess", "doctor", "watch")]


@pytest.mark.parametrize("words", WITH_FEW, ids=" ".join)
def test_other_commands_have_no_more_options_than_fit_on_a_screen(words, help_of):
    assert len(options(help_of(80, *words))) <= 12
    assert help_of(80, *words) == help_of(80, *words, option="--help-all")


def test_launch_has_all_options_that_scripts_of_users_rely_on(help_of):
    promised = {
        "store", "run", "nodes", "tasks-per-node", "gpus-per-node", "cpus-per-task", "mem-gb", "cluster",
        "partition", "account", "qos", "constraint", "time-limit-min", "slurm", "wait", "dry-run", "cancel",
        "model", "weights", "epochs", "batch-size", "lr", "seed", "patience", "min-improvement",
        "deterministic", "val-fold", "test-fold", "precision", "continue-from",
    }  # fmt: skip
    assert promised <= options(help_of(120, "launch", option="--help-all"))
