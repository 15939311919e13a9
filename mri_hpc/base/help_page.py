"""The pages of --help: the options that matter, or all of them, in lines as wide as the terminal."""

import argparse
import ast
import functools
import inspect
import shutil
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from mri_hpc.base.command_line import Option
from mri_hpc.base.marks import OFTEN, Mark

FEWEST_COLUMNS = 40
COLUMNS_OF_NAMES = 30
ALWAYS = (
    (("-h", "--help"), "Show this, and do nothing."),
    (("--help-all",), "Show all options."),
    (("--version",), "Show the version."),
)


def page_of_command(
    name: str, options_type: type, options: Sequence[Option], *, example: str, with_all: bool
) -> str:
    """Write the page about a command; without `with_all` only the options that matter most, where some do."""
    is_short = not with_all and any(OFTEN in one.marks for one in options)
    positionals = "".join(f" {one.name}" for one in options if one.is_positional)
    parser = _page(f"{name}{positionals} [OPTIONS]", inspect.cleandoc(options_type.__doc__ or ""), example)
    groups: dict[type, Any] = {}
    for one in options:
        if OFTEN in one.marks or not is_short:
            if one.owner not in groups:
                title = inspect.cleandoc(one.owner.__doc__ or "").rstrip(".")
                groups[one.owner] = parser.add_argument_group(
                    "options" if one.owner is options_type else title
                )
            _show(groups[one.owner], one)
    group = parser.add_argument_group("always")
    for flags, text in ALWAYS:
        group.add_argument(*flags, action="store_true", help=text)
    hidden = sum(OFTEN not in one.marks for one in options) if is_short else 0
    return parser.format_help() + (f"\n{hidden} more options: {name} --help-all\n" if hidden else "")


def page_of_actions(name: str, outcome: str, actions: Mapping[str, type], *, example: str) -> str:
    """Write the page about a command that has actions."""
    parser = _page(f"{name} ACTION [OPTIONS]", outcome, example)
    group = parser.add_argument_group("actions")
    for action, options_type in actions.items():
        first = inspect.cleandoc(options_type.__doc__ or "").split("\n\n")[0]
        group.add_argument(action, metavar=action, help=_plain(first))
    return parser.format_help() + f"\n{name} ACTION --help explains one.\n"


@functools.cache
def texts_of(options_type: type) -> Mapping[str, str]:
    """Read the docstrings under the fields of a dataclass, one line each."""
    (body,) = ast.parse(textwrap.dedent(inspect.getsource(options_type))).body
    assert isinstance(body, ast.ClassDef)
    found = {}
    for field, text in zip(body.body, body.body[1:], strict=False):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            assert isinstance(text, ast.Expr) and isinstance(text.value, ast.Constant)
            found[field.target.id] = " ".join(str(text.value.value).split())
    return found


def _page(usage: str, outcome: str, example: str) -> argparse.ArgumentParser:
    """Make a page without its options. An example that takes several lines can be copied all the same."""
    columns = max(FEWEST_COLUMNS, shutil.get_terminal_size().columns)
    wrap = functools.partial(textwrap.wrap, break_long_words=False, break_on_hyphens=False)
    paragraphs = ["\n".join(wrap(part, columns)) for part in outcome.split("\n\n")]
    lines = wrap(f"Example: {example}", columns - len(" \\"), subsequent_indent=" " * len("Example: "))
    return argparse.ArgumentParser(
        usage=usage, description="\n\n".join([*paragraphs, " \\\n".join(lines)]), add_help=False,
        formatter_class=functools.partial(_Layout, max_help_position=COLUMNS_OF_NAMES, width=columns),
    )  # fmt: skip


def _show(group: Any, option: Option) -> None:
    """Add an option to a group of a page."""
    text = _plain(texts_of(option.owner)[option.path[-1]] + _default_in_words(option))
    if option.hint is bool:
        negative = [] if Mark.OFF in option.marks else [f"--no-{option.name[2:]}"]
        group.add_argument(option.name, *negative, action="store_true", help=text)
    else:
        group.add_argument(option.name, metavar=option.metavar, help=text)


def _default_in_words(option: Option) -> str:
    """Write the end of an option's text: its default; empty where the text says more, or it must be typed."""
    if (
        option.default in (None, "", ())
        or option.is_positional
        or Mark.OFF in option.marks
        or option.is_needed
    ):
        return ""
    if isinstance(option.default, bool):
        return " (default: on)" if option.default else " (default: off)"
    shown = option.default if isinstance(option.default, tuple) else (option.default,)
    return f" (default: {' '.join(map(str, shown))})"


def _plain(text: str) -> str:
    """Escape text, so that argparse fills nothing in."""
    return text.replace("%", "%%")


class _Layout(argparse.RawDescriptionHelpFormatter):
    """Lines of options that break between words only."""

    def _split_lines(self, text: str, width: int) -> list[str]:
        return textwrap.wrap(text, width, break_long_words=False, break_on_hyphens=False)
