"""Names that must not be found, each with all the bytes in which a file may hold it."""

import itertools
import json
import re
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from mri_hpc.base.errors import UserError

LEAST_LETTERS = 4
"""Shorter ones stand in any text by chance. Of other alphabets a letter counts as its bytes of UTF-8."""
LEAST_AMONG_NUMBERS = 8
"""Letters of a name that pixels do not spell by chance: grey values are letters as often as not."""
ENCODINGS = ("utf-8", "utf-16-le", "utf-16-be", "latin-1")
LOWER = bytes(range(256)).lower()
"""Translates a block of bytes to one in which A is a."""
MOST_CASED = 6
DATE = re.compile(r"(\d{4})-(\d\d)-(\d\d)")


@dataclass(frozen=True, kw_only=True)
class WantedName:
    """One name, id or date that must not be found."""

    line: int
    """In the file of names, from 1."""
    letters: int
    forms: tuple[bytes, ...]
    """Spelt in several encodings; letters of ASCII are small ones."""


@dataclass(frozen=True, kw_only=True)
class WantedNames:
    """All names that must not be found."""

    names: tuple[WantedName, ...]
    too_short: tuple[int, ...]
    """Lines of those that are left out."""


def read_wanted(path: Path) -> WantedNames:
    """Read a file of names, one a line; UserError where there is none in it."""
    try:
        texts = path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path} is not UTF-8 ({error.reason} at byte {error.start}): save it as that"
        ) from None
    wanted = wanted_of(texts)
    if not wanted.names:
        raise UserError(
            f"{path} has no name of {LEAST_LETTERS} letters or more: --privacy takes a text with names, ids "
            "and dates, one a line"
        )
    return wanted


def wanted_of(texts: Iterable[str]) -> WantedNames:
    """Spell names, whose lines are counted from 1; those that are too short are named by their lines."""
    lines = [(line, unicodedata.normalize("NFC", text.strip())) for line, text in enumerate(texts, 1)]
    names = [
        WantedName(line=line, letters=_letters(text), forms=tuple(sorted({*forms_of(text)})))
        for line, text in lines
        if _letters(text) >= LEAST_LETTERS
    ]
    short = tuple(line for line, text in lines if 0 < _letters(text) < LEAST_LETTERS)
    return WantedNames(names=tuple(names), too_short=short)


def _letters(text: str) -> int:
    return len(text.encode())


def forms_of(text: str) -> Iterator[bytes]:
    """Spell a name: composed and not, in any case, in each encoding that has its letters, and as in JSON."""
    for writing in _writings(text):
        forms = [writing.encode(encoding) for encoding in ENCODINGS if _has(encoding, writing)]
        forms.append(json.dumps(writing)[1:-1].encode())
        yield from (form.translate(LOWER) for form in forms if len(form) >= LEAST_LETTERS)


def _has(encoding: str, text: str) -> bool:
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def _writings(text: str) -> Iterator[str]:
    texts = [text, "".join(date.groups())] if (date := DATE.fullmatch(text)) else [text]
    if text.isascii():
        # Of these no case is looked at.
        yield from texts
        return
    composed = [unicodedata.normalize("NFC", one) for one in texts]
    for normal in (*composed, *(unicodedata.normalize("NFD", one) for one in texts)):
        yield from (normal.lower(), normal.upper(), normal.title(), normal)
        choices = [(c,) if c.isascii() else tuple({c.lower(), c.upper()}) for c in normal]
        if sum(len(choice) > 1 for choice in choices) <= MOST_CASED:
            yield from map("".join, itertools.product(*choices))
