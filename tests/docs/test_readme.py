"""What the README says exists: commands, options, paths, settings, messages."""

import ast
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

from mri_hpc.__main__ import COMMANDS
from tests.docs.settings_table import TABLES, table

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")
# Shell blocks only: a line of a layout or of Python is no command.
LINES = [line.split("#")[0].strip() for line in README.splitlines()]
CALLS = sorted({line for line in LINES if re.match(r"(python -m mri_hpc\.|mri-hpc )", line)})
SECTIONS = re.findall(r"^## (.+)$", README, re.MULTILINE)
MESSAGES = re.findall(r"^\*\*`(.+)`\*\*$", README, re.MULTILINE)


@cache
def help_of(*words: str) -> str:
    ran = subprocess.run(
        [sys.executable, "-m", "mri_hpc", *words, "--help-all"], capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@cache
def texts_of_the_code() -> list[str]:
    """Every text in the code, with … where a value is filled in."""
    trees = [ast.parse(file.read_text(encoding="utf-8")) for file in (ROOT / "mri_hpc").rglob("*.py")]
    return [text_of(node) for tree in trees for node in ast.walk(tree) if isinstance(node, ast.expr)]


def text_of(node: ast.expr) -> str:
    if isinstance(node, ast.Constant):
        return str(node.value)
    if isinstance(node, ast.JoinedStr):
        return "".join(text_of(part) if isinstance(part, ast.Constant) else "…" for part in node.values)
    return ""


@pytest.mark.parametrize("call", CALLS)
def test_every_command_and_option_of_the_readme_exists(call):
    command = re.search(r"mri_hpc\.(\w+)|mri-hpc (\w+)", call)
    words = [command.group(1) or command.group(2)]
    assert words[0] in COMMANDS
    if words[0] in ("store", "weights"):
        words.append(re.search(rf"{words[0]} ([\w-]+)", call).group(1))
    for option in re.findall(r"\s(--[a-z-]+)", call):
        assert option in help_of(*words), f"{call}: {' '.join(words)} has no {option}"


def test_the_readme_shows_calls():
    assert len(CALLS) > 5


@pytest.mark.parametrize("path", sorted(set(re.findall(r"\b(?:tools|hpc|tests)/[\w./-]*\w", README))))
def test_every_path_of_the_readme_exists(path):
    assert (ROOT / path).exists()


def test_the_sections_come_in_the_order_in_which_a_newcomer_needs_them():
    assert SECTIONS == [
        "One minute on a laptop", "On your cluster", "What happens on preemption", "What lies on disk",
        "Settings", "The promises", "Troubleshooting", "Developing",
    ]  # fmt: skip


@pytest.mark.parametrize("title", TABLES)
def test_the_settings_are_those_of_the_code(title):
    wanted = table(TABLES[title])
    assert wanted in README, f"python -m tests.docs.settings_table prints:\n{wanted}"


@pytest.mark.parametrize("message", MESSAGES)
def test_every_message_of_the_troubleshooting_is_one_that_the_code_says(message):
    assert any(message.strip("… ") in text for text in texts_of_the_code())


def test_the_troubleshooting_has_messages():
    assert len(MESSAGES) >= 12
