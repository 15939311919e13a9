"""The one error that the sandbox shows to its user."""


class SandboxError(Exception):
    """Something the user can fix: one line that says what, where, and what to do next."""
