"""The walk over a little-endian DICOM file, from element to element, past all that is not wanted.

It takes a tenth of the time of the general way, and is left for that where it does not know how to go on.
"""

import functools
import struct

from mri_hpc.intake.decoding.dicom.elements import (
    ALLOWED,
    BIG_ENDIAN,
    DEFLATED,
    DICM,
    IMPLICIT,
    LONG,
    PREAMBLE_BYTES,
    SEQUENCES,
    SHORT,
    UNDEFINED,
    WANTED,
    Elements,
    Tag,
    private_values,
)
from mri_hpc.intake.decoding.dicom.runs import HEAD_BYTES, MOST_ELEMENTS, Element, Runs

NO_LENGTH = b"\xff\xff\xff\xff"
ITEM, ITEM_END, SEQUENCE_END = 0xFFFEE000, 0xFFFEE00D, 0xFFFEE0DD
MOST_NESTED = 16
LAST_GROUP_OF_IDS = 0x20
PIXELS = int(Tag.PIXELS)
# Without a word about the syntax it has to be guessed.
NOT_PLAIN = ("", BIG_ENDIAN, DEFLATED)
MOST_KEPT = 2**12
"""Bytes of a sequence of codes that is kept in memory to be known again."""

_RUNS: dict[tuple[bool, int], Runs] = {}
"""By whether heads have types, and by the last group of the walk."""


class NotPlain(Exception):
    """The walk does not know its way: pydicom is to be asked."""


def walk(data: bytes) -> Elements:
    """Read a little-endian file without functional groups; raises NotPlain for any other."""
    try:
        syntax, place = _plain_meta_of(data)
        found, place, length = _walk_elements(data, place, is_explicit=syntax != IMPLICIT)
        if any(tag in found for tag in SEQUENCES):
            raise NotPlain
        codes = _codes(found.get(Tag.DEIDENTIFICATION_CODES, b""), is_explicit=syntax != IMPLICIT)
    except (struct.error, IndexError):
        raise NotPlain from None
    is_encapsulated = length >= 0 and data[place - 4 : place] == NO_LENGTH
    if is_encapsulated:
        length = _items_length(data, place)
    return Elements(
        syntax=syntax,
        is_big_endian=False,
        values={tag: value for tag, value in found.items() if tag in ALLOWED},
        private=private_values(found),
        codes=codes,
        pixels=memoryview(data)[place : place + length] if length >= 0 else None,
        is_encapsulated=is_encapsulated,
    )


def walk_to_ids(start: bytes) -> Elements:
    """Read the ids, and all before them, in the first bytes of a file; NotPlain where more are needed."""
    try:
        syntax, place = _plain_meta_of(start)
        found, place, length = _walk_elements(
            start, place, is_explicit=syntax != IMPLICIT, last_group=LAST_GROUP_OF_IDS
        )
    except (struct.error, IndexError):
        raise NotPlain from None
    if length < 0 and place >= len(start):
        raise NotPlain
    return Elements(syntax=syntax, is_big_endian=False, values=found, private={})


def meta_of(data: bytes) -> tuple[str, int]:
    """Read the transfer syntax of a file, and the place where the data set begins; NotPlain: not told."""
    if data[PREAMBLE_BYTES : PREAMBLE_BYTES + 4] != DICM:
        raise NotPlain
    try:
        meta, place, _length = _walk_elements(data, PREAMBLE_BYTES + 4, is_explicit=True, last_group=2)
    except (struct.error, IndexError):
        raise NotPlain from None
    return meta.get(Tag.SYNTAX, b"").rstrip(b"\0 ").decode("ascii", "replace"), place


def _plain_meta_of(data: bytes) -> tuple[str, int]:
    syntax, place = meta_of(data)
    if syntax in NOT_PLAIN:
        raise NotPlain
    return syntax, place


def _codes(sequence: bytes, *, is_explicit: bool) -> tuple[str, ...]:
    """Read the code of each item of a sequence."""
    read = _codes_again if len(sequence) <= MOST_KEPT else _codes_in
    return read(sequence, is_explicit=is_explicit)


def _codes_in(sequence: bytes, *, is_explicit: bool) -> tuple[str, ...]:
    items = _items(sequence, is_explicit=is_explicit, last_group=8)
    return tuple(item.get(Tag.CODE_VALUE, b"").rstrip(b"\0 ").decode("ascii", "replace") for item in items)


# The files of a series name the same.
_codes_again = functools.lru_cache(maxsize=64)(_codes_in)


def items_of(sequence: bytes, syntax: str) -> list[dict[int, bytes]]:
    """Read the items of a sequence of a plain file, as far as their places; none where it is damaged."""
    try:
        return _items(sequence, is_explicit=syntax != IMPLICIT, last_group=LAST_GROUP_OF_IDS)
    except (NotPlain, struct.error, IndexError):
        return []


def _items(sequence: bytes, *, is_explicit: bool, last_group: int) -> list[dict[int, bytes]]:
    items, place = [], 0
    while place + 8 <= len(sequence):
        group, element, length = struct.unpack_from("<HHI", sequence, place)
        if group << 16 | element != ITEM:
            break
        place += 8
        end = _past_item(sequence, place, is_explicit, 0) if length == UNDEFINED else place + length
        item, _place, _length = _walk_elements(
            sequence[place:end], 0, is_explicit=is_explicit, last_group=last_group
        )
        items.append(item)
        place = end
    return items


def _items_length(data: bytes, place: int) -> int:
    """Return the length of encapsulated pixels but for the mark at their end, which may be missing."""
    try:
        return _past_sequence(data, place, True, 0) - 8 - place
    except (NotPlain, struct.error):
        return len(data) - place


def _walk_elements(
    data: bytes, place: int, *, is_explicit: bool, last_group: int = 0xFFFF
) -> tuple[dict[int, bytes], int, int]:
    """Walk from `place` to the pixels, or until a group has ended.

    Returns the wanted values, where it stopped (where pixels begin), and the length of pixels, -1 for none.
    """
    found: dict[int, bytes] = {}
    runs = _RUNS.setdefault((is_explicit, last_group), Runs())
    while place < len(data):
        run = runs.at(data, place)
        if run is None:
            place, length = _walk_new(data, place, found, runs, is_explicit, last_group)
            if length is not None:
                return found, place, length
            continue
        for tag, start, behind in run.wanted:
            found[tag] = data[place + start : place + behind]
        place += run.num_bytes
    return found, place, -1


def _walk_new(
    data: bytes, place: int, found: dict[int, bytes], runs: Runs, is_explicit: bool, last_group: int
) -> tuple[int, int | None]:
    """Walk over elements that are no known run, as many as make one, which is known from then on.

    found: wanted values, added to. Returns where it stopped, and the length of pixels; None: there is more.
    """
    met: list[Element] = []
    length: int | None = None
    while place < len(data) and len(met) < MOST_ELEMENTS and length is None:
        tag, start, num_bytes = _head_at(data, place, is_explicit, last_group)
        if tag >> 16 > last_group:
            length = -1
        elif tag == PIXELS:
            place, length = start, (len(data) - start if num_bytes == UNDEFINED else num_bytes)
        elif num_bytes == UNDEFINED:
            place = _past_sequence(data, start, is_explicit, 0)
            if tag in WANTED:
                found[tag] = data[start : place - 8]
            break
        else:
            behind = start + num_bytes
            if behind > len(data):
                raise NotPlain
            if tag in WANTED:
                found[tag] = data[start:behind]
            met.append(Element(head=data[place:start], num_bytes=behind - place, tag=tag))
            place = behind
    runs.add(met)
    return place, length


def _head_at(data: bytes, place: int, is_explicit: bool, last_group: int) -> tuple[int, int, int]:
    """Read the head of an element: its tag, where its value begins, and the length of that."""
    start = place + HEAD_BYTES
    if not is_explicit:
        group, element, length = struct.unpack_from("<HHI", data, place)
        return group << 16 | element, start, length
    group, element, kind, length = struct.unpack_from("<HH2sH", data, place)
    if kind in LONG:
        (length,) = struct.unpack_from("<I", data, start)
        start += 4
    elif kind not in SHORT and group <= last_group:
        raise NotPlain
    return group << 16 | element, start, length


def _past_sequence(data: bytes, place: int, is_explicit: bool, depth: int) -> int:
    """Return the place behind a sequence without a length that begins at `place`."""
    if depth > MOST_NESTED:
        raise NotPlain
    while True:
        group, element, length = struct.unpack_from("<HHI", data, place)
        place += 8
        tag = group << 16 | element
        if tag == SEQUENCE_END:
            return place
        if tag != ITEM:
            raise NotPlain
        place = place + length if length != UNDEFINED else _past_item(data, place, is_explicit, depth)


def _past_item(data: bytes, place: int, is_explicit: bool, depth: int) -> int:
    while True:
        group, element = struct.unpack_from("<HH", data, place)
        if group << 16 | element == ITEM_END:
            return place + 8
        kind = data[place + 4 : place + 6]
        if not is_explicit:
            (length,) = struct.unpack_from("<I", data, place + 4)
            place += 8
        elif kind in LONG:
            (length,) = struct.unpack_from("<I", data, place + 8)
            place += 12
        elif kind in SHORT:
            (length,) = struct.unpack_from("<H", data, place + 6)
            place += 8
        else:
            raise NotPlain
        # Within one of unknown kind and length elements are implicit.
        if length == UNDEFINED:
            place = _past_sequence(data, place, is_explicit and kind != b"UN", depth + 1)
        else:
            place += length
