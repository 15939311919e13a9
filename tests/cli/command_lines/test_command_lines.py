"""Every command line of version 0.1.0 gives the options that it gave then, or is refused as it was."""

import json
import re
from pathlib import Path

import pytest

from tests.cli.command_lines.freeze import flattened
from tests.cli.command_lines.parsed import make_runs, parsed

FROZEN = json.loads(Path(__file__).with_name("of_0_1_0.json").read_text(encoding="utf-8"))
COMMANDS = sorted({line["typed"][0] for line in FROZEN["lines"]})
# The parser of 0.1.0 took what has its place at one go: no option could stand in the middle of it.
WITH_PLACES = ("predict", "weights")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_line_of_0_1_0_gives_the_same(command, tmp_path, monkeypatch):
    make_runs(tmp_path)
    monkeypatch.chdir(tmp_path)
    others = []
    for line in FROZEN["lines"]:
        if line["typed"][0] == command and (other := difference(line, parsed(line["typed"]))):
            others.append(f"{' '.join(line['typed'])}: {other}")
    assert not others, f"{len(others)} lines\n" + "\n".join(others)


def difference(line, now):
    """What a line gives that is not what it gave, else nothing; a field that is new is no difference."""
    if "like" in line:
        return of_options(line, now)
    before = {name: value for name, value in line.items() if name != "typed"}
    if "; see:" not in line.get("error", ""):
        # What values cannot be is refused in the same words, but for the name --, which argparse passes over.
        return "" if now == before or "=--" in line["typed"][-1] else f"{before} is {now}"
    # How a line that does not fit is refused may be better said.
    if "options" in now and line["typed"][0] in WITH_PLACES:
        return ""
    is_one_line = re.fullmatch(r"mri-hpc [^\n]+; see: mri-hpc [\w -]+ --help", now.get("error", ""))
    return "" if is_one_line and now["status"] == line["status"] else f"{before} is {now}"


def of_options(line, now):
    """Fields with other values than then."""
    if "options" not in now:
        return "" if line["typed"][-1].endswith("=--") else f"accepted, now {now}"
    before, found = FROZEN["firsts"][line["like"]] | line["but"], flattened(now["options"])
    return {name: (value, found.get(name)) for name, value in before.items() if found.get(name) != value}


def test_there_are_lines_of_every_command_that_are_taken_and_that_are_refused():
    for command in COMMANDS:
        lines = [line for line in FROZEN["lines"] if line["typed"][0] == command]
        assert {"like" in line for line in lines} == {True, False}, command
    assert len(FROZEN["lines"]) > 4000
