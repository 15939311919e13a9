"""Marks of fields of options: how they are typed, and where --help shows them."""

import enum
from dataclasses import dataclass
from typing import Annotated


class Mark(enum.Enum):
    """A mark of a field beside its type, in Annotated."""

    POSITIONAL = enum.auto()
    """Mark of a field that is typed without a name: a positional argument."""
    OFTEN = enum.auto()
    """Mark of a field that --help shows; where no field has it, --help shows them all."""
    OFF = enum.auto()
    """Mark of a switch that is off unless it is typed: there is no --no-NAME."""


@dataclass(frozen=True, kw_only=True)
class Bare:
    """Value of a field whose option is typed without one."""

    value: int


@dataclass(frozen=True, kw_only=True)
class Word:
    """Names of a field, and of its value, on the command line."""

    option: str = ""
    """Without the dashes; by default the name of the field."""
    value: str = ""
    """By default its type."""
    form: str = ""
    """Regular expression of a value that is a text; empty: any will do."""


POSITIONAL, OFTEN = Mark.POSITIONAL, Mark.OFTEN
Flag = Annotated[bool, Mark.OFF]
