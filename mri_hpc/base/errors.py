"""The exceptions of the project; anything else that escapes is a bug."""

from typing import ClassVar


class UserError(Exception):
    """An error that the user can fix. The message says what, where, what was found, what to do next.

    Caught in ``base.command`` alone: one line on stderr, exit status 2.
    """

    kind: ClassVar[str] = "user"
    """Word for it that scripts read with --json."""


class UsageError(UserError):
    """A command line that does not fit."""

    kind: ClassVar[str] = "usage"


class Verdict(UserError):
    """All was looked at, and what was found, which is printed already, is not good."""

    kind: ClassVar[str] = "verdict"


class NewerFormat(UserError):
    """A file was written by a newer version than this one."""

    kind: ClassVar[str] = "newer-format"


class StoreDamage(UserError):
    """A file of a store is damaged or missing; caught also where a sound one elsewhere will do."""

    kind: ClassVar[str] = "store-damage"


class ImagesRetracted(UserError):
    """A snapshot holds images that were retracted since; caught where a newer one will do."""

    kind: ClassVar[str] = "images-retracted"


class StoreRaced(UserError):
    """Another process has compacted or removed what this needs; caught where looking again helps."""

    kind: ClassVar[str] = "store-raced"


class BadSource(Exception):
    """A source that cannot become a sample. The message is the reason, fit to be counted and shared:
    no path and no identifier in it.

    Caught in the one loop over sources: the source is listed as rejected and the work goes on.
    """
