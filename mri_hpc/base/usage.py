"""What is wrong with a command line, in one line, where tyro draws a box of many."""

import contextlib
import io
import re
import sys
from collections.abc import Iterator

from mri_hpc.base.settings import nearest

RULE = re.compile(r"[\s│|]*[-─]{8,}[\s│|]*")
EDGE = re.compile(r"\s*[╭╰].*[╮╯]\s*")
PARSING = re.compile(r"Error parsing (--[\w-]+): .*?\['?(.*?)'?\]|Error parsing (--[\w-]+): .*'(.*)'")
QUOTED = re.compile(r"'([^']*)'")
NO_VALUE = re.compile(r"Missing value for argument '(.*?)'")
NO_CHOICE = re.compile(r"invalid choice (.*) for argument '(.*?)'\. Expected one of (.*)")
MISSING = re.compile(r"Missing from [\w -]+: ((?:--[\w-]+ )?\S+) (.*)")
MEANT, ACTIONS = "Perhaps you meant:", "Available subcommands: "


@contextlib.contextmanager
def in_one_line(name: str) -> Iterator[None]:
    """Have what refuses the command line of `name` say so in one line on stderr, and exit as it would."""
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            yield
    except SystemExit as left:
        if left.code:
            print(f"{name}: {complaint(said.getvalue())}; see: {name} --help", file=sys.stderr)
        raise
    sys.stderr.write(said.getvalue())


def complaint(box: str) -> str:
    """What a box of tyro's says, without its help texts."""
    head, *rest = _sections(box)
    message = " ".join(head).replace(" (required)", "").rstrip(".")
    details = [line for section in rest for line in section]
    if found := PARSING.search(message):
        option, value = (part for part in found.groups() if part is not None)
        kind = next((line for line in details if line.startswith(f"{option} ")), option)
        return f"{kind.replace(' ', ' takes ', 1)}, found {value!r}"
    if found := NO_VALUE.search(message):
        return f"{found[1]} needs a value"
    if found := NO_CHOICE.search(message):
        choices = ", ".join(QUOTED.findall(found[3]))
        return f"{found[2]} takes {choices}, found {found[1]}"
    if found := MISSING.search(message):
        return f"{found[1]} is missing: {_lower(found[2])}"
    near = details[details.index(MEANT) + 1 :] if MEANT in details else []
    options = [line.split()[0] for line in near if line.startswith("--")]
    if options:
        return f"{_lower(message)}; did you mean {options[0]}?"
    actions = next((line.removeprefix(ACTIONS) for line in details if line.startswith(ACTIONS)), "")
    if actions:
        typed = message.partition(": ")[2].partition(",")[0]
        return f"{_lower(message)}{nearest(typed, actions.split(', ')) or f'; there are: {actions}'}"
    return _lower(message)


def _sections(box: str) -> list[list[str]]:
    """The lines of a box between its rules, without its title.

    The title is in the edge. Where only plain letters can be shown there is no edge, and it comes first.
    """
    sections: list[list[str]] = [[]]
    for line in box.splitlines():
        if RULE.fullmatch(line):
            sections.append([])
        elif not EDGE.fullmatch(line) and (text := line.strip(" │|")):
            sections[-1].append(text)
    if not box.lstrip().startswith("╭"):
        del sections[0]
    return [section for section in sections if section] or [["it cannot be read"]]


def _lower(text: str) -> str:
    return text[:1].lower() + text[1:]
