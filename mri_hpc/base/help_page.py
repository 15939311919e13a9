"""What --help prints: lines as wide as the terminal, and defaults only where the text does not tell them."""

import contextlib
import dataclasses
import functools
import inspect
import itertools
import shutil
import sys
import textwrap
from collections.abc import Iterator
from typing import Annotated, Any, TextIO, cast, get_args, get_type_hints

import tyro

FEWEST_COLUMNS = 40


def num_columns() -> int:
    """How wide lines may be."""
    return max(FEWEST_COLUMNS, shutil.get_terminal_size().columns)


@contextlib.contextmanager
def in_lines(columns: int) -> Iterator[None]:
    """Within it, what is printed is broken between words: tyro leaves long lines as they are."""
    with contextlib.redirect_stdout(cast(TextIO, _InLines(sys.stdout, columns))):
        yield


def described(options_type: Any, example: str, columns: int) -> str:
    """What stands above the options. An example that takes several lines can be copied all the same."""
    lines = textwrap.wrap(
        f"Example: {example}", columns - len(" \\"), subsequent_indent=" " * len("Example: "),
        break_long_words=False, break_on_hyphens=False,
    )  # fmt: skip
    return "\n\n".join([inspect.cleandoc(options_type.__doc__ or ""), " \\\n".join(lines)])


@functools.cache
def make_plain(hint: Any) -> None:
    """Have --help name no default that is None, or that of a switch: the text says more."""
    for part in get_args(hint):
        make_plain(part)
    if not (isinstance(hint, type) and dataclasses.is_dataclass(hint)):
        return
    hints = get_type_hints(hint, include_extras=True)
    for field in dataclasses.fields(hint):
        kind = hints[field.name]
        make_plain(kind)
        if not _holds_options(kind):
            # Of a switch that is off unless it is typed nothing need be said.
            is_switch = tyro.conf.FlagCreatePairsOff in get_args(kind)
            plain = tyro.conf.arg(help_behavior_hint="" if is_switch else _default_in_words)
            hint.__annotations__[field.name] = Annotated[kind, plain]


class _InLines:
    """A stream whose lines are no longer than so many columns."""

    def __init__(self, stream: TextIO, columns: int) -> None:
        self._stream, self._columns = stream, columns

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write text, broken between words."""
        wrap = functools.partial(
            textwrap.wrap, width=self._columns, break_long_words=False, break_on_hyphens=False
        )
        lines = [wrap(line) if len(line) > self._columns else [line] for line in text.split("\n")]
        return self._stream.write("\n".join(itertools.chain(*lines)))


def _holds_options(kind: Any) -> bool:
    """Whether a field is no option by itself, but holds some: a dataclass, or a choice of subcommands."""
    # Types only: what tyro is told of an option is a dataclass object.
    is_one = isinstance(kind, type) and dataclasses.is_dataclass(kind)
    return is_one or any(map(_holds_options, get_args(kind)))


def _default_in_words(default: str) -> str:
    """How --help ends the text of an option."""
    if default in ("None", "", "''"):
        return ""
    return f"(default: {({'True': 'on', 'False': 'off'}).get(default, default)})"
