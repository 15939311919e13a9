"""The two exceptions of the project; anything else that escapes is a bug."""


class UserError(Exception):
    """Something the user can mend. The message says what, where, what was found, what to do next.

    Caught in ``base.command`` alone: one line on stderr, exit status 2.
    """


class BadSource(Exception):
    """A source that cannot become a sample. The message is the reason, fit to be counted and shared:
    no path and no identifier in it.

    Caught in the one loop over sources: the source is listed as rejected and the work goes on.
    """
