"""What is said of a field of options beside its type: how it is typed, and where --help shows it."""

import enum
from dataclasses import dataclass
from typing import Annotated


class Mark(enum.Enum):
    """What is said of a field beside its type, in Annotated."""

    PLACE = enum.auto()
    """It is typed without a name, in its place."""
    OFTEN = enum.auto()
    """--help shows it; where no field has this mark, --help shows them all."""
    OFF = enum.auto()
    """A switch that is off unless it is typed: there is no --no-NAME."""


@dataclass(frozen=True, kw_only=True)
class Word:
    """How a field, or its value, is called on the command line."""

    option: str = ""
    """Without the dashes; by default the name of the field."""
    value: str = ""
    """By default its type."""


PLACE, OFTEN = Mark.PLACE, Mark.OFTEN
Flag = Annotated[bool, Mark.OFF]
