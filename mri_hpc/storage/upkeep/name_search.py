"""A search of files for names: every file byte by byte, and how it is called, in one pass for all names.

Four bytes of each spelling are looked up for all places of a block at once; where they stand, the spelling is
compared. So the time hardly depends on how many names there are.
"""

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mri_hpc.storage.disk.number_ranges import Range, number_ranges
from mri_hpc.storage.upkeep.wanted_names import LEAST_AMONG_NUMBERS, LOWER, WantedName

BLOCK_BYTES = 2**22
WORD = 4
MULTIPLIER = np.uint32(2654435761)
"""Spreads words over a table: the golden ratio of 32 bits, as Knuth has it."""
MASK = "***"

Shown = Callable[[Sequence[Path]], Iterable[Path]]


@dataclass(frozen=True, kw_only=True)
class FoundName:
    """One name in one file."""

    line: int
    """In the file of names."""
    file: str
    """Path below the folder; names in it are masked."""
    offset: int | None
    """Byte where it first stands; None: the file is called so."""


@dataclass(frozen=True, kw_only=True)
class NameSearch:
    """The outcome of a search."""

    found: tuple[FoundName, ...]
    files: int
    bytes: int


def search_folder(
    folder: Path, names: Sequence[WantedName], *, passed_over: Sequence[Path] = (), progress: Shown
) -> NameSearch:
    """Search all files below a folder for names, and what they are called, but for folders passed over."""
    everywhere = _Spellings([name for name in names if name.letters >= LEAST_AMONG_NUMBERS])
    in_text = _Spellings([name for name in names if name.letters < LEAST_AMONG_NUMBERS])
    found: list[FoundName] = []
    files, num_bytes = 0, 0
    for path in progress(list(_paths(folder, passed_over))):
        hits: dict[int, int | None] = dict.fromkeys(_in_name(path, (everywhere, in_text)))
        if path.is_file():
            try:
                size, in_file = _search_file(path, everywhere, in_text)
            except FileNotFoundError:
                # What has gone meanwhile holds nothing any more.
                continue
            files, num_bytes = files + 1, num_bytes + size
            hits = {**in_file, **hits}
        shown = _masked(path.relative_to(folder), names, (everywhere, in_text)) if hits else ""
        found += (FoundName(line=line, file=shown, offset=offset) for line, offset in hits.items())
    found.sort(key=lambda one: (one.line, one.file))
    return NameSearch(found=tuple(found), files=files, bytes=num_bytes)


class NameMask:
    """Writes texts without any of some names, as `search_folder` would find them."""

    def __init__(self, names: Sequence[WantedName]) -> None:
        self._names = names
        self._searched = (_Spellings(names),)

    def masked(self, text: str) -> str:
        """Return the text with *** in place of each name."""
        return _without(text.encode(errors="replace"), self._names, self._searched).decode(errors="replace")


def _in_name(path: Path, searched: Iterable["_Spellings"]) -> Iterator[int]:
    """Yield the names by which a file is called, or to which a link leads."""
    called = os.fsencode(path.name)
    if path.is_symlink():
        called += b"\0" + os.fsencode(path.readlink())
    for spellings in searched:
        yield from (line for line, _offset in spellings.find(called.translate(LOWER)))


def _paths(folder: Path, passed_over: Sequence[Path]) -> Iterator[Path]:
    """Yield files, links and folders; what links lead to as well, each folder once."""

    def fail(error: OSError) -> None:
        if not isinstance(error, FileNotFoundError):
            raise error

    seen = set()
    for parent, folders, files in os.walk(folder, onerror=fail, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen:
            folders[:] = []
            continue
        seen.add(real)
        folders[:] = sorted(name for name in folders if Path(parent, name) not in passed_over)
        yield from (Path(parent, name) for name in sorted([*files, *folders]))


def _search_file(path: Path, everywhere: "_Spellings", in_text: "_Spellings") -> tuple[int, dict[int, int]]:
    """Return the size of a file, and where the names in it first stand, by line of the names."""
    hits: dict[int, int] = {}
    ranges = number_ranges(path) if in_text.longest else []
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        for spellings, parts in ((everywhere, [Range(0, size)]), (in_text, _between(ranges, size))):
            for part in parts if spellings.longest else ():
                for line, offset in _search_part(file.fileno(), part, spellings):
                    hits[line] = min(hits.get(line, offset), offset)
    return size, hits


def _search_part(descriptor: int, part: Range, spellings: "_Spellings") -> Iterator[tuple[int, int]]:
    """Yield names and where they stand, block by block; each block begins with the end of the one before."""
    start = part.start
    while start < part.end:
        block = os.pread(descriptor, min(BLOCK_BYTES + spellings.longest, part.end - start), start)
        for line, offset in spellings.find(block.translate(LOWER)):
            yield line, start + offset
        start += BLOCK_BYTES


def _between(ranges: Sequence[Range], size: int) -> Iterator[Range]:
    """Yield what lies outside of ranges that are in order."""
    end = 0
    for taken in ranges:
        if taken.start > end:
            yield Range(end, taken.start)
        end = max(end, taken.end)
    if end < size:
        yield Range(end, size)


class _Spellings:
    """All spellings of some names, to be found at once."""

    def __init__(self, names: Sequence[WantedName]) -> None:
        forms = [(form, name.line) for name in names for form in name.forms]
        self.longest = max((len(form) for form, _line in forms), default=0)
        shortest = min((len(form) for form, _line in forms), default=0)
        # A spelling of seven bytes and more holds one word whole wherever it stands.
        self._steps = range(1) if shortest >= 2 * WORD - 1 else range(WORD)
        self._wanted: dict[int, list[tuple[int, bytes, int]]] = defaultdict(list)
        for form, line in forms:
            # By their ends: ids begin alike.
            last = len(form) - WORD
            for place in range(last - WORD + 1 if len(self._steps) == 1 else last, last + 1):
                self._wanted[int.from_bytes(form[place : place + WORD], "little")].append((place, form, line))
        self._words = np.array(sorted(self._wanted), np.uint32)
        bits = max(16, (64 * len(self._words)).bit_length())
        self._shift = np.uint32(32 - min(bits, 24))
        self._table = np.zeros(1 << int(32 - self._shift), bool)
        self._table[self._places(self._words)] = True

    def find(self, block: bytes) -> Iterator[tuple[int, int]]:
        """Yield line and offset of each name in a block, in which letters are small ones."""
        for step in self._steps if self.longest else ():
            if len(block) < step + WORD:
                return
            words = np.frombuffer(block, "<u4", (len(block) - step) // WORD, offset=step)
            likely = np.flatnonzero(self._table[self._places(words)])
            at = np.searchsorted(self._words, words[likely]).clip(max=len(self._words) - 1)
            likely = likely[self._words[at] == words[likely]]
            for row in likely.tolist():
                for place, form, line in self._wanted[int(words[row])]:
                    start = row * WORD + step - place
                    if start >= 0 and block.startswith(form, start):
                        yield line, start

    def _places(self, words: np.ndarray) -> np.ndarray:
        return (words * MULTIPLIER) >> self._shift


def _masked(path: Path, names: Sequence[WantedName], searched: Iterable["_Spellings"]) -> str:
    """Write a path without the names in it."""
    text = _without(os.fsencode(path), names, searched)
    # A line stays one line.
    return "".join(c if c.isprintable() else "\ufffd" for c in text.decode(errors="replace"))


def _without(text: bytes, names: Sequence[WantedName], searched: Iterable["_Spellings"]) -> bytes:
    lines = {line for spellings in searched for line, _offset in spellings.find(text.translate(LOWER))}
    # The longest first: what is left of a name that begins as another one would tell it.
    forms = {form for name in names if name.line in lines for form in name.forms}
    for form in sorted(forms, key=len, reverse=True):
        while (at := text.translate(LOWER).find(form)) >= 0:
            text = text[:at] + MASK.encode() + text[at + len(form) :]
    return text
