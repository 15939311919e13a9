"""Persons: which ids are of one person, though they are not the same text.

Tables are made by hand and by spreadsheets: patient 007 of one is 7 or 7.0 in the next, and a Mac writes the
letters of a name otherwise than Windows does. Ids are compared, and stored, in the Unicode form NFC; those
that then still differ in their writing alone are a doubt, which only who knows the patients can end.
"""

import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

ONE_FRACTION = re.compile(r"([^.]*\d)\.0+")
"""A number that a spreadsheet wrote with decimals; not the parts of a UID."""
SPACES = re.compile(r"(?<!\d)\s+|\s+(?!\d)")
"""Those that part no two numbers."""
LEADING_ZEROS = re.compile(r"(?<!\d)0+(?=\d)")


@dataclass(frozen=True, kw_only=True)
class Mention:
    """A patient's id, and where it was met."""

    patient: str
    """The id as given."""
    where: str
    """For people; names no person."""
    label: str = ""
    """Class that the patient is said to have there; empty where unknown."""


@dataclass(frozen=True, kw_only=True)
class Alike:
    """Two ids that may be of one person."""

    first: Mention
    second: Mention

    @property
    def differ_in(self) -> str:
        """Say in what their writing differs."""
        a, b = self.first.patient, self.second.patient
        return next((what for what, plain in WRITINGS.items() if plain(a) == plain(b)), "their writing")

    @property
    def is_one(self) -> bool:
        """Tell whether they are the same letters, which two systems write otherwise."""
        return nfc(self.first.patient) == nfc(self.second.patient)


def nfc(text: str) -> str:
    """Return a text in the Unicode form in which ids, and paths, are compared."""
    return text if text.isascii() else unicodedata.normalize("NFC", text)


def writings(text: str) -> list[str]:
    """List a text, then as other systems may write it: for looking up names of any age."""
    return list(dict.fromkeys([text, nfc(text), unicodedata.normalize("NFD", text)]))


def plainest(patient: str) -> str:
    """Return what an id has in common with all other writings of it."""
    for plain in WRITINGS.values():
        patient = plain(patient)
    return patient


def find_alike(new: Iterable[Mention], known: Mapping[str, str]) -> list[Alike]:
    """Find new ids that differ from others in their writing alone.

    new: each id once or more; known: ids that were stored before, each with where. A new id stands beside
    each known one of its writing, else beside the first of the new ones. Ids that were stored beside one
    another are no doubt any more.
    """
    mentions: dict[str, Mention] = {}
    for mention in new:
        if mention.patient not in known:
            mentions.setdefault(mention.patient, mention)
    alike: dict[str, list[Mention]] = defaultdict(list)
    for mention in mentions.values():
        alike[plainest(mention.patient)].append(mention)
    stored: dict[str, list[Mention]] = defaultdict(list)
    for patient, where in sorted(known.items()) if alike else ():
        if (plain := plainest(patient)) in alike:
            stored[plain].append(Mention(patient=patient, where=where))
    return [
        Alike(first=first, second=second)
        for plain, (earliest, *later) in alike.items()
        for firsts, seconds in [(stored[plain], [earliest, *later]) if stored[plain] else ([earliest], later)]
        for second in seconds
        for first in firsts
    ]


def shown(doubts: Sequence[Alike]) -> str:
    """Write some of the doubts for people."""
    examples = [
        f"{one.second.where} and {one.first.where} (they differ in {one.differ_in})"
        for one in doubts[:EXAMPLES]
    ]
    more = f", and {len(doubts) - EXAMPLES} more" if len(doubts) > EXAMPLES else ""
    return "; ".join(examples) + more


EXAMPLES = 3

WRITINGS: Mapping[str, Callable[[str], str]] = {
    "Unicode form": lambda text: text if text.isascii() else unicodedata.normalize("NFKC", text),
    "spaces": lambda text: SPACES.sub("", text.strip()),
    "case": str.casefold,
    "'.0'": lambda text: ONE_FRACTION.sub(r"\1", text) if ONE_FRACTION.fullmatch(text) else text,
    "leading zeros": lambda text: LEADING_ZEROS.sub("", text),
}
"""Ways to write an id, each with what makes all of them one; applied one after the other."""
