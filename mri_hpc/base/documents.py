"""JSON documents that outlive a command: each has its format in it, and may gain fields."""

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from mri_hpc.base.errors import NewerFormat

T = TypeVar("T")

FORMAT = "format"


def with_format(number: int, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values with the number of their format."""
    return {FORMAT: number, **values}


def parse(document: bytes | str) -> dict[str, Any]:
    """Return the values of a document; ValueError where it is no JSON object."""
    # Not msgspec's own parser: a loss that is no number is written as NaN.
    try:
        values = json.loads(document)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(values, dict):
        raise ValueError("no JSON object")
    return values


def parse_lines(lines: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield the values of each line that is a JSON object; others, as where one was cut, are left out."""
    # All in one, in half of the time: many runs have many lines. One cut line makes no document of the whole.
    try:
        together = json.loads(f"[{','.join(lines)}]")
    except (ValueError, RecursionError):
        together = []
    if len(together) == len(lines):
        yield from (values for values in together if isinstance(values, dict))
        return
    for line in lines:
        with contextlib.suppress(ValueError):
            yield parse(line)


def without_format(values: Mapping[str, Any], *, of: Path, reads: int) -> dict[str, Any]:
    """Return the values but for the format, which is 1 where a document has none, as in 0.1.0.

    of: the file, to be named. reads: the newest format that is known. NewerFormat where it is newer.
    """
    found = values.get(FORMAT, 1)
    if type(found) is not int or found < 1:
        raise ValueError(f"format is {found!r}")
    refuse_newer(of, found, reads=reads)
    rest = dict(values)
    rest.pop(FORMAT, None)
    return rest


def refuse_newer(path: Path, found: int, *, reads: int) -> None:
    """Raise NewerFormat where a file has a newer format than this version knows."""
    if found > reads:
        raise NewerFormat(f"{path} has format {found}, this version reads up to {reads}: use a newer mri_hpc")


def plain(values: Any) -> Any:
    """Return a dataclass as plain values: as `asdict`, which looks at long sequences one by one."""
    # As below.
    import msgspec

    return msgspec.to_builtins(values)


def convert(values: Any, kind: type[T]) -> T:
    """Return plain values as an object of a dataclass; fields that it does not know are left out.

    ValueError where a value is missing, or is none for its field, which the message names.
    """
    # Not for whoever decides on the end of a job: it takes as long as all of that.
    import msgspec

    try:
        return msgspec.convert(values, kind)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from None


def skim(document: bytes, kind: type[T]) -> T:
    """Read the fields of a dataclass out of a document, and nothing else: its format and checksum neither.

    Many times as fast as reading the whole; for tables that people look at. ValueError where it is damaged.
    """
    import msgspec

    try:
        return msgspec.json.decode(document, type=kind)
    except msgspec.DecodeError as error:
        raise ValueError(str(error)) from None
