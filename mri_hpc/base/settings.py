"""Settings: frozen dataclasses that are loaded, saved and compared."""

import dataclasses
import difflib
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import tomli_w

from mri_hpc.base.atomic import replace_bytes
from mri_hpc.base.errors import UserError

T = TypeVar("T")

IN_WORDS = {int: "a whole number", float: "a number", str: "a text in quotes", bool: "true or false"}


def identity(default: Any) -> Any:
    """A field that says *which* run this is: another value is another run."""
    return dataclasses.field(default=default, metadata={"kind": "identity"})


def operation(default: Any) -> Any:
    """A field that says how a run is operated: it may differ from one attempt to the next."""
    return dataclasses.field(default=default, metadata={"kind": "operation"})


def identity_of(settings: Any) -> dict[str, Any]:
    """The identity fields of a settings object, by name."""
    fields = dataclasses.fields(settings)
    return {f.name: getattr(settings, f.name) for f in fields if f.metadata["kind"] == "identity"}


def differences(saved: Any, wanted: Any) -> dict[str, tuple[Any, Any]]:
    """Fields in which two settings objects of one type differ: name → (saved, wanted)."""
    pairs = {f.name: (getattr(saved, f.name), getattr(wanted, f.name)) for f in dataclasses.fields(saved)}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def save_tables(path: Path, tables: Mapping[str, Any]) -> None:
    """Write settings objects as the tables of one TOML file. A field that is None is left out."""
    document = {name: _without_none(dataclasses.asdict(value)) for name, value in tables.items()}
    replace_bytes(path, tomli_w.dumps(document).encode())


def load_table(path: Path, table: str, settings_type: type[T]) -> T:
    """One table of a TOML file as a settings object; an unknown key is refused, naming the nearest.

    Raises UserError where the file cannot be read, a key is unknown, or a value is none for its field.
    """
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"{path} is not a settings file: {error}; restore it from a backup") from None
    values = document.get(table, {})
    if not isinstance(values, dict):
        raise UserError(f"{path} is not a settings file: {table} is no table")
    hints = get_type_hints(settings_type)
    for name, value in values.items():
        if name not in hints:
            raise UserError(f"{path}: unknown setting {name!r} in [{table}]{nearest(name, hints)}")
        if not _fits(value, hints[name]):
            raise UserError(f"{path}: {name} = {value!r} in [{table}] must be {_described(hints[name])}")
    try:
        return settings_type(**{name: _as_tuple(value) for name, value in values.items()})
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def nearest(word: str, known: Iterable[str]) -> str:
    """``; did you mean 'x'?``, or nothing where no known word is near."""
    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _fits(value: Any, hint: Any) -> bool:
    """Whether a value as TOML gives it is of a field's type."""
    kind, parts = get_origin(hint), get_args(hint)
    if kind is Literal:
        return value in parts
    if kind is tuple:
        return isinstance(value, list) and all(_fits(one, parts[0]) for one in value)
    if parts:
        return any(_fits(value, part) for part in parts)
    # By type, not isinstance: to Python, true is an integer.
    return type(value) in ((int, float) if hint is float else (hint,))


def _described(hint: Any) -> str:
    """What a value may be, in words."""
    kind, parts = get_origin(hint), get_args(hint)
    if kind is Literal:
        return ("one of " if len(parts) > 1 else "") + ", ".join(map(repr, parts))
    if kind is tuple:
        return f"a list, each {_described(parts[0])}"
    # None is no value of TOML: the key is left out.
    return " or ".join(_described(part) for part in parts if part is not type(None)) or IN_WORDS[hint]


def _without_none(values: dict[str, Any]) -> dict[str, Any]:
    return {name: list(v) if isinstance(v, tuple) else v for name, v in values.items() if v is not None}


def _as_tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
