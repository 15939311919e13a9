"""Sequences: the kinds of series that are told apart, and the choice of those that are taken."""

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

from mri_hpc.base.errors import UserError

T1, T1CE, T2, FLAIR, DWI, ADC = KINDS = ("t1", "t1ce", "t2", "flair", "dwi", "adc")
UNKNOWN = "unknown"
"""Kind of a series of which neither tags nor texts tell one of KINDS."""
WORDS = (*KINDS, UNKNOWN)
EVERY = "all"
"""A choice that takes all series together, said on purpose."""
NO_CHOICE = ""
SLASH = "/"
"""Begins and ends a pattern."""


def one_of(kinds: Collection[str]) -> str:
    """Return the kind of what has several: the only one, else unknown; empty of none."""
    return next(iter(kinds)) if len(kinds) == 1 else UNKNOWN if kinds else ""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """The series that are taken: of some kinds, or such that a pattern finds itself in their description."""

    kinds: frozenset[str] = frozenset()
    pattern: re.Pattern[str] | None = None

    def takes(self, kind: str, descriptions: Sequence[str] = ()) -> bool:
        """Tell whether a series is taken. descriptions: as in its header, or the name of its file."""
        if self.pattern is None:
            return kind in self.kinds
        return any(self.pattern.search(text) for text in descriptions)


def choice_in(text: str) -> Choice | None:
    """Return the choice that a recipe's text means; None where everything is taken."""
    if text in (NO_CHOICE, EVERY):
        return None
    if text.startswith(SLASH):
        return Choice(pattern=re.compile(text[1:-1], re.IGNORECASE))
    return Choice(kinds=frozenset(text.split(",")))


def choice_text(words: Sequence[str]) -> str:
    """Return what was typed as the text of a recipe, the same for the same choice; UserError: it is none."""
    if len(words) == 1 and (words[0] == EVERY or words[0].startswith(SLASH)):
        check_choice(words[0])
        return words[0]
    typed = [part for word in words for part in word.split(",") if part]
    check_choice(",".join(typed) or words[0])
    return ",".join(kind for kind in WORDS if kind in typed)


def check_choice(text: str) -> None:
    """Raise UserError where a text is no choice."""
    if text == EVERY:
        return
    if text.startswith(SLASH):
        _check_pattern(text)
        return
    for word in text.split(","):
        if word not in WORDS:
            raise UserError(
                f"--series takes kinds ({', '.join(WORDS)}), or {EVERY}, or one pattern between slashes, "
                f"such as '/mprage/', that is looked for in the series' description; got {word!r}"
            )


def _check_pattern(text: str) -> None:
    if len(text) < 3 or not text.endswith(SLASH):
        raise UserError(f"--series: a pattern stands between slashes, such as '/mprage/', got {text!r}")
    try:
        re.compile(text[1:-1])
    except re.error as error:
        raise UserError(f"--series {text!r} is no regular expression: {error}") from None
