"""Nodes of a job: a number, or as many as the queue gives between two."""

from dataclasses import dataclass

from mri_hpc.base.errors import UserError


@dataclass(frozen=True, kw_only=True)
class NodeRange:
    """The least and the most nodes that each attempt of a run may have."""

    least: int
    most: int

    @classmethod
    def parse(cls, typed: int | str) -> "NodeRange":
        """Read a number, or LOW-HIGH; UserError where it is neither."""
        low, dash, high = str(typed).partition("-")
        if isinstance(typed, str) and not (dash and low.isdecimal() and high.isdecimal()):
            raise UserError(f"--nodes takes a number, or LOW-HIGH such as 1-4, got {typed!r}")
        least, most = (int(low), int(high)) if isinstance(typed, str) else (typed, typed)
        if least < 1:
            raise UserError(f"--nodes must be at least 1, got {typed}")
        if most < least:
            raise UserError(f"--nodes {typed} ends before it begins: give LOW-HIGH such as {most}-{least}")
        return cls(least=least, most=most)

    def within(self, number: int) -> int:
        """Return the number, or the end of the range that is nearest to it."""
        return min(self.most, max(self.least, number))
