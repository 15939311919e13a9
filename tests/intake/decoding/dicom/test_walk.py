"""The walk: runs of elements that were met in other files change nothing but the time that it takes."""

import random
import struct

import pytest

from mri_hpc.intake.decoding.dicom import walk as walking
from mri_hpc.intake.decoding.dicom.elements import EXPLICIT, IMPLICIT, LONG, Tag
from mri_hpc.intake.decoding.dicom.runs import MOST_ELEMENTS, MOST_LIKE, MOST_STARTS, Element, Runs
from mri_hpc.intake.decoding.dicom.walk import NotPlain, walk, walk_to_ids

PIXELS = 0x7FE00010
SYNTAXES = (EXPLICIT, IMPLICIT)


@pytest.fixture(autouse=True)
def _nothing_is_known(monkeypatch):
    monkeypatch.setattr(walking, "_RUNS", {})


def element(tag, kind, value, syntax=EXPLICIT):
    value += b"\0" * (len(value) % 2)
    place = struct.pack("<HH", tag >> 16, tag & 0xFFFF)
    if syntax == IMPLICIT:
        return place + struct.pack("<I", len(value)) + value
    head = kind + (b"\0\0" + struct.pack("<I", len(value)) if kind in LONG else struct.pack("<H", len(value)))
    return place + head + value


def slice_of(number, syntax=EXPLICIT, **values):
    """Write a file: elements that are wanted and such that are not, of short types and of long ones."""
    elements = {
        Tag.INSTANCE: (b"UI", b"1.2." + str(number).encode()),
        0x00080070: (b"LO", b"SIEMENS"),
        **{0x00090010 + at: (b"LO", b"private %d" % at) for at in range(20)},
        Tag.PATIENT_ID: (b"LO", b"P%d" % number),
        Tag.ECHO_TIME: (b"DS", b"4.6"),
        Tag.SERIES: (b"UI", b"1.2.3"),
        Tag.POSITION: (b"DS", b"-10\\%d\\3" % number),
        Tag.ROWS: (b"US", struct.pack("<H", 2)),
        Tag.COLUMNS: (b"US", struct.pack("<H", 3)),
        **{0x00290010 + at: (b"OB", b"x" * (100 + at)) for at in range(14)},
    } | {int(tag): value for tag, value in values.get("others", {}).items()}
    meta = element(Tag.SYNTAX, b"UI", syntax.encode())
    body = b"".join(element(tag, *elements[tag], syntax) for tag in sorted(elements))
    return b"\0" * 128 + b"DICM" + meta + body + element(PIXELS, b"OW", bytes(12), syntax)


def outcome(read, data):
    try:
        found = read(data)
    except NotPlain:
        return NotPlain
    return found.values, found.private, found.codes, found.pixels, found.syntax


def alone(read, data, monkeypatch):
    """Return what is read of a file by whoever has seen no other one."""
    with monkeypatch.context() as context:
        context.setattr(walking, "_RUNS", {})
        return outcome(read, data)


@pytest.mark.parametrize("syntax", SYNTAXES)
@pytest.mark.parametrize("read", [walk, walk_to_ids])
def test_files_of_a_series_are_read_as_if_each_were_the_first(syntax, read, monkeypatch):
    for number in (1, 2, 10, 99, 100, 12345, 3):
        data = slice_of(number, syntax)
        assert outcome(read, data) == alone(read, data, monkeypatch)
        assert outcome(read, data)[0][Tag.PATIENT_ID].rstrip(b"\0") == b"P%d" % number


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_a_damaged_file_after_whole_ones_is_read_as_if_it_were_the_first(syntax, monkeypatch):
    dice, whole = random.Random(0), slice_of(7, syntax)
    walk(whole)
    walk_to_ids(whole)
    differ = 0
    for _ in range(400):
        data = bytearray(whole)
        at = dice.randrange(132, len(data))
        if dice.random() < 0.3:
            del data[at:]
        elif dice.random() < 0.5:
            data[at] = dice.randrange(256)
        else:
            data[at : at + dice.randrange(3)] = dice.randbytes(dice.randrange(5))
        for read in (walk, walk_to_ids):
            found = outcome(read, bytes(data))
            assert found == alone(read, bytes(data), monkeypatch)
            differ += found != outcome(read, whole)
    assert differ > 100


@pytest.mark.parametrize(
    "others",
    [
        {Tag.ECHO_TIME: (b"LO", b"4.6")},
        {Tag.ECHO_TIME: (b"DS", b"4.61 ")},
        {0x0009001D: (b"UN", b"private 9")},
        {Tag.INVERSION_TIME: (b"DS", b"900")},
        {0x00290014: (b"OB", b"x" * 302)},
    ],
)
def test_an_element_of_another_type_length_or_place_is_found_amid_a_known_run(others, monkeypatch):
    walk(slice_of(1))
    data = slice_of(1, others=others)
    found = outcome(walk, data)
    assert found == alone(walk, data, monkeypatch)
    assert found[0].get(Tag.INVERSION_TIME, b"900\0") == b"900\0"
    assert len(found[0][Tag.ROWS]) == 2


def test_no_value_of_a_file_is_kept(monkeypatch):
    heads = []
    monkeypatch.setattr(Runs, "add", lambda runs, elements: heads.extend(elements))
    walk(slice_of(1, others={0x00100010: (b"PN", b"Planted^Name")}))
    assert len(heads) > 40
    assert max(len(one.head) for one in heads) == 12
    assert b"Plan" not in b"".join(one.head for one in heads)


def test_the_next_file_of_a_series_takes_few_heads_that_are_read_one_by_one(monkeypatch):
    for number in (1, 10):
        walk(slice_of(number))
    read = []
    head_at = walking._head_at
    monkeypatch.setattr(walking, "_head_at", lambda *place: read.append(place) or head_at(*place))
    walk(slice_of(2))
    # That of the syntax, where its group ends, and where pixels begin.
    assert len(read) <= 3


def test_runs_that_are_kept_are_bounded():
    runs = Runs()

    def met(tag, length):
        return [
            Element(tag=tag, head=struct.pack("<HH2sH", tag, at, b"LO", length), num_bytes=8 + length)
            for at in range(MOST_ELEMENTS)
        ]

    for length in range(3 * MOST_LIKE):
        runs.add([*met(1, 4)[:1], *met(1, length)[1:]])
    assert [len(like) for like in runs._by_head.values()] == [MOST_LIKE]
    for tag in range(3 * MOST_STARTS):
        runs.add(met(tag, 2))
        assert len(runs._by_head) <= MOST_STARTS
