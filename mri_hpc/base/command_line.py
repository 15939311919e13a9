"""A command line as a frozen dataclass: each field is an option, or is typed without a name.

argparse tells options from values and lays out --help. Its own words about mistakes differ from one Python to
the next: all that can be wrong is said here. tyro said it in boxes that only regular expressions could read.
cyclopts refuses in one line, but draws --help with rich: 2.1 times as long as tyro takes for a whole
``status --help``, of which this takes 0.76 (processor time, medians side by side, n = 5 and 9; 2026-11-29,
two cores of an AMD EPYC, busy).
"""

import argparse
import dataclasses
import functools
import re
import types
from collections.abc import Iterator, Sequence
from dataclasses import MISSING, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from mri_hpc.base.errors import UsageError
from mri_hpc.base.marks import POSITIONAL, Bare, Mark, Word

METAVARS = {int: "INT", float: "FLOAT", str: "STR", Path: "PATH"}
# In place of a value that is not there: argparse would say so in words of its own.
NO_VALUE = object()


@dataclass(frozen=True, kw_only=True)
class Option:
    """One field of an options object, as it is typed."""

    owner: type
    """The dataclass whose field it is."""
    path: tuple[str, ...]
    """Fields that lead to it from the options object, and itself."""
    hint: Any
    """Its type, without marks."""
    marks: tuple[Any, ...]
    default: Any
    """MISSING where it must be typed."""

    @property
    def key(self) -> str:
        """Key that no other option of the same options object has."""
        return ".".join(self.path)

    @property
    def is_positional(self) -> bool:
        """Tell whether it is typed without a name."""
        return POSITIONAL in self.marks

    @property
    def name(self) -> str:
        """Name as it is typed, such as --batch-size; of a positional: the name of its value."""
        word = self._word.option or self.path[-1].replace("_", "-")
        return self.metavar if self.is_positional else f"--{word}"

    @property
    def metavar(self) -> str:
        """Name of its value, such as INT or adamw|sgd."""
        value = self._word.value or called(self.hint)
        return value if self.bare is None else f"[{value}]"

    @property
    def form(self) -> str:
        """Regular expression of a value that is a text; empty where any will do."""
        return self._word.form

    @property
    def bare(self) -> Any:
        """Value that it has where it is typed without one; None where it needs one."""
        return next((mark.value for mark in self.marks if isinstance(mark, Bare)), None)

    @property
    def is_needed(self) -> bool:
        """Tell whether it must be typed."""
        return self.default is MISSING

    @property
    def is_many(self) -> bool:
        """Tell whether it takes any number of values, none included."""
        return get_origin(self.hint) is tuple

    @property
    def _word(self) -> Word:
        return next((mark for mark in self.marks if isinstance(mark, Word)), Word())


def options_of(options_type: Any, default: Any = None, path: tuple[str, ...] = ()) -> Iterator[Option]:
    """List the options of a dataclass and of those within it, in order.

    `default`, an object of that type, gives the values of those that are not typed.
    """
    hints = _hints(options_type)
    for field in dataclasses.fields(options_type):
        hint, value = hints[field.name], getattr(default, field.name, field.default)
        hint, *marks = get_args(hint) if get_origin(hint) is Annotated else (hint,)
        here = (*path, field.name)
        if isinstance(hint, type) and dataclasses.is_dataclass(hint):
            yield from options_of(hint, None if default is None else value, here)
        else:
            value = () if value is MISSING and get_origin(hint) is tuple else value
            yield Option(owner=options_type, path=here, hint=hint, marks=tuple(marks), default=value)


def read(options_type: Any, options: Sequence[Option], words: Sequence[str]) -> Any:
    """Read the words as an options object.

    Raises UsageError where they do not fit, and what the object itself raises at values that cannot be.
    """
    end = words.index("--") if "--" in words else len(words)
    parser = parser_of(options)
    try:
        found, extra = parser.parse_known_args(_with_dashes(options, words[:end]))
    except argparse.ArgumentError as error:
        # All that is left for argparse to refuse.
        raise UsageError(f"{error.argument_name} takes no value") from None
    for one in options:
        if getattr(found, one.key, None) is NO_VALUE and one.bare is None:
            raise UsageError(f"{one.name} needs a value")
    typed = vars(found) | _positionals(options, extra, words[end + 1 :])
    return _built(options_type, {one.path: _value(one, typed[one.key]) for one in options})


def parser_of(options: Sequence[Option]) -> argparse.ArgumentParser:
    """Make the parser that tells options from values: texts by key, None if not typed. It leaves all else."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for one in options:
        if one.is_positional:
            continue
        if one.hint is bool:
            parser.add_argument(one.name, dest=one.key, action="store_const", const=True)
            if Mark.OFF not in one.marks:
                parser.add_argument(f"--no-{one.name[2:]}", dest=one.key, action="store_const", const=False)
        elif one.is_many:
            parser.add_argument(one.name, dest=one.key, nargs="*")
        else:
            parser.add_argument(one.name, dest=one.key, nargs="?", const=NO_VALUE)
    return parser


def _with_dashes(options: Sequence[Option], words: Sequence[str]) -> list[str]:
    """Write options as documented, --batch-size for --batch_size, and numbers below 0 beside theirs."""
    takes_one = {one.name for one in options if one.hint is not bool and not one.is_many}
    found: list[str] = []
    for word in words:
        name, is_given, value = word.partition("=")
        if word.startswith("--"):
            found.append(name.replace("_", "-") + is_given + value)
        elif found and found[-1] in takes_one and _is_number(word):
            # argparse takes -1e-3 for an option.
            found[-1] += f"={word}"
        else:
            found.append(word)
    return found


def called(hint: Any) -> str:
    """Name the values of a type: INT, adamw|sgd, INT|auto, [PATH ...]."""
    if get_origin(hint) is Literal:
        return "|".join(map(str, get_args(hint)))
    if get_origin(hint) is tuple:
        return f"[{called(get_args(hint)[0])} ...]"
    parts = [part for part in get_args(hint) if part is not type(None)]
    return "|".join(map(called, parts)) if parts else METAVARS[hint]


def _positionals(
    options: Sequence[Option], extra: Sequence[str], after: Sequence[str]
) -> dict[str, str | list[str] | None]:
    """Deal out the words typed without a name, by key; UsageError at one too many, or an unknown option."""
    positionals = [one for one in options if one.is_positional]
    found: dict[str, Any] = {one.key: None for one in positionals}
    unknown: list[str] = []
    is_after_unknown = False
    for number, word in enumerate([*extra, *after]):
        is_option = number < len(extra) and word.startswith("-") and not _is_number(word) and word != "-"
        positional = next((one for one in positionals if one.is_many or found[one.key] is None), None)
        # What follows an option that is none was meant as its value.
        if is_option or is_after_unknown or positional is None:
            unknown.append(word)
        elif positional.is_many:
            found[positional.key] = [*(found[positional.key] or ()), word]
        else:
            found[positional.key] = word
        is_after_unknown = is_option
    if unknown:
        raise UsageError(f"unrecognized options: {', '.join(unknown)}{_meant(unknown[0], options)}")
    return found


def _meant(word: str, options: Sequence[Option]) -> str:
    """Name the option that was meant, for the end of a line; empty where none is near."""
    import difflib

    # Without dashes, which make all options look alike.
    names = {one.name[2:]: one.name for one in options if not one.is_positional}
    close = difflib.get_close_matches(word.partition("=")[0].lstrip("-"), names, n=1)
    return f"; did you mean {names[close[0]]}?" if close and word.startswith("-") else ""


def _value(option: Option, typed: Any) -> Any:
    """Return the value of an option from its text or texts; UsageError with its description for MISSING."""
    if isinstance(typed, bool):
        return typed
    if typed is NO_VALUE:
        return option.bare
    if typed is not None:
        try:
            value = converted(typed, option.hint)
            if option.form and isinstance(value, str) and not re.fullmatch(option.form, value):
                raise ValueError(typed)
            return value
        except ValueError:
            raise UsageError(
                f"{option.name} takes {option.metavar.replace('|', ', ')}, found {typed!r}"
            ) from None
    if option.is_needed:
        from mri_hpc.base.help_page import texts_of

        text = texts_of(option.owner)[option.path[-1]].rstrip(".")
        kind = "" if option.is_positional else f" {option.metavar}"
        raise UsageError(f"{option.name}{kind} is missing: {text[:1].lower()}{text[1:]}")
    return option.default


def converted(typed: str | list[str], hint: Any) -> Any:
    """Convert typed text to a value of a type; ValueError where it is none. None cannot be typed."""
    parts = get_args(hint)
    if isinstance(typed, list):
        return tuple(converted(one, parts[0]) for one in typed)
    if get_origin(hint) is Literal:
        by_text = {str(part): part for part in parts}
        if typed not in by_text:
            raise ValueError(typed)
        return by_text[typed]
    if get_origin(hint) not in (Union, types.UnionType):
        return hint(typed)
    for part in parts:
        if part is not type(None):
            try:
                return converted(typed, part)
            except ValueError:
                continue
    raise ValueError(typed)


def _built(options_type: Any, values: dict[tuple[str, ...], Any], path: tuple[str, ...] = ()) -> Any:
    """Build the options object, from within outwards."""
    return options_type(**{
        field.name: _built(hint, values, (*path, field.name))
        if dataclasses.is_dataclass(hint := _hints(options_type)[field.name])
        else values[*path, field.name]
        for field in dataclasses.fields(options_type)
    })  # fmt: skip


@functools.cache
def _hints(options_type: type) -> dict[str, Any]:
    return get_type_hints(options_type, include_extras=True)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
