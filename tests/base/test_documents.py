"""A document may gain fields, is read strictly, and is refused by name where its format is newer."""

from dataclasses import dataclass
from pathlib import Path

import pytest

from mri_hpc.base.documents import convert, parse, parse_lines, with_format, without_format
from mri_hpc.base.errors import UserError

HERE = Path("job.json")


@dataclass(frozen=True, kw_only=True)
class Part:
    size: int


@dataclass(frozen=True, kw_only=True)
class Whole:
    name: str
    parts: tuple[Part, ...] = ()


WHOLE_LINES = ['{"step": 1}', '{"step": 2, "loss": [0.5]}']


@pytest.mark.parametrize(
    "odd", ['{"step": 3, "lo', "", "7", '{"step": 4}, {"step": 5}', "[" * 100_000, '{"step": [6', "\0\0\0"]
)
@pytest.mark.parametrize("place", [0, 1, 2])
def test_a_line_that_is_no_document_takes_no_other_with_it(odd, place):
    lines = [*WHOLE_LINES[:place], odd, *WHOLE_LINES[place:]]
    assert list(parse_lines(lines)) == [{"step": 1}, {"step": 2, "loss": [0.5]}]


def test_a_document_without_a_format_is_of_the_first():
    assert without_format({"name": "a"}, of=HERE, reads=1) == {"name": "a"}
    assert without_format(with_format(2, {"name": "a"}), of=HERE, reads=2) == {"name": "a"}


def test_a_newer_format_is_refused_by_name_before_anything_else_is_looked_at():
    with pytest.raises(UserError, match=r"^job\.json has format 3, this version reads up to 2: use a "):
        without_format({"format": 3, "nothing": "known"}, of=HERE, reads=2)


@pytest.mark.parametrize("found", [0, "1", 1.0, True, None])
def test_a_format_that_is_no_number_is_damage(found):
    with pytest.raises(ValueError, match="format is"):
        without_format({"format": found}, of=HERE, reads=1)


def test_fields_that_came_later_are_left_out_at_any_depth():
    values = {"name": "a", "colour": 1, "parts": [{"size": 2, "weight": 3}]}
    assert convert(values, Whole) == Whole(name="a", parts=(Part(size=2),))


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({}, "missing required field `name`"),
        ({"name": 1}, r"Expected `str`, got `int` - at `\$\.name`"),
        ({"name": "a", "parts": [{"size": "2"}]}, r"Expected `int`, got `str` - at `\$\.parts\[0\]\.size`"),
        ({"name": "a", "parts": [{"size": True}]}, "Expected `int`, got `bool`"),
    ],
)
def test_a_value_that_is_missing_or_none_for_its_field_is_named(values, says):
    with pytest.raises(ValueError, match=says):
        convert(values, Whole)


def test_only_an_object_is_a_document_and_it_may_hold_what_is_no_number():
    assert str(parse('{"loss": NaN}')["loss"]) == "nan"
    for document in ("[]", "1", "{", b"\xff", "[" * 1_000_000):
        with pytest.raises(ValueError, match=r"."):
            parse(document)
