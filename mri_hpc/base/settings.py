"""Settings: frozen dataclasses that are loaded, saved and compared."""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from mri_hpc.base.atomic import replace_bytes
from mri_hpc.base.documents import with_format, without_format
from mri_hpc.base.errors import UserError

T = TypeVar("T")

FORMAT = 1
ALWAYS_COUNTS = object()
"""Mark of a field of 0.1.0, which has no neutral value: it counts whatever it is."""

IN_WORDS = {int: "a whole number", float: "a number", str: "a text in quotes", bool: "true or false"}


def identity(default: Any, *, neutral: Any = ALWAYS_COUNTS) -> Any:
    """Declare a field that makes the run the one it is: another value is another run.

    neutral: for a field that 0.1.0 had not, the value that means "as before this field existed", whatever the
    default is. A run of before reads as that, and only other values change the digest.
    """
    return dataclasses.field(default=default, metadata={"kind": "identity", "neutral": neutral})


def operation(default: Any) -> Any:
    """Declare a field of how a run is operated: it may differ from one attempt to the next."""
    return dataclasses.field(default=default, metadata={"kind": "operation"})


def identity_of(settings: Any) -> dict[str, Any]:
    """Return the identity fields of a settings object, by name."""
    fields = dataclasses.fields(settings)
    return {f.name: getattr(settings, f.name) for f in fields if f.metadata["kind"] == "identity"}


def identity_digest(settings: Any) -> str:
    """Return the hex digest of the identity: equal for two settings exactly if they are of the same run.

    Fields of 0.1.0 always count, later ones where they are not neutral: new fields leave old names alone.
    """
    neutral = {f.name: f.metadata.get("neutral") for f in dataclasses.fields(settings)}
    hashed = {
        name: value
        for name, value in identity_of(settings).items()
        if neutral[name] is ALWAYS_COUNTS or value != neutral[name]
    }
    return hashlib.sha256(json.dumps(hashed, sort_keys=True).encode()).hexdigest()


def differences(saved: Any, wanted: Any) -> dict[str, tuple[Any, Any]]:
    """Return the fields in which two settings objects of one type differ: name → (saved, wanted)."""
    pairs = {f.name: (getattr(saved, f.name), getattr(wanted, f.name)) for f in dataclasses.fields(saved)}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def save_tables(path: Path, tables: Mapping[str, Any]) -> None:
    """Write settings objects as the tables of one TOML file. A field that is None is left out."""
    # Here and below: most commands, and every help page, need none of it.
    import tomli_w

    document = {name: _without_none(dataclasses.asdict(value)) for name, value in tables.items()}
    replace_bytes(path, tomli_w.dumps(with_format(FORMAT, document)).encode())


def load_table(path: Path, table: str, settings_type: type[T]) -> T:
    """Read one table of a TOML file as a settings object; refuse an unknown key, naming the nearest.

    A key that is not there means what it meant when the file was written: that there was no such field yet,
    or None, which is not written; never today's default, but for what says only how a run is operated.

    Raises UserError where the file cannot be read or is of a newer format, a key is unknown, or a value is
    missing or none for its field.
    """
    import tomllib

    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
        document = without_format(document, of=path, reads=FORMAT)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist") from None
    except ValueError as error:
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
    absent = {
        f.name: _absent(f, hints[f.name], path, table)
        for f in dataclasses.fields(settings_type)  # type: ignore[arg-type]
        if f.name not in values
    }
    try:
        return settings_type(**absent, **{name: _as_tuple(value) for name, value in values.items()})
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def nearest(word: str, known: Iterable[str]) -> str:
    """Return ``; did you mean 'x'?``, or nothing where no known word is near."""
    import difflib

    close = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {close[0]!r}?" if close else ""


def _absent(field: dataclasses.Field[Any], hint: Any, path: Path, table: str) -> Any:
    """Return the value that a key means which a saved file does not hold."""
    neutral = field.metadata.get("neutral")
    if type(None) in get_args(hint):
        assert neutral in (None, ALWAYS_COUNTS), f"{field.name}: None is not written, so it must be neutral"
        return None
    if field.metadata["kind"] == "operation":
        return field.default
    if neutral is ALWAYS_COUNTS:
        raise UserError(f"{path}: {field.name} is missing in [{table}]; restore it from a backup")
    return neutral


def _fits(value: Any, hint: Any) -> bool:
    """Tell whether a value as TOML gives it is of a field's type."""
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
    """Return in words the values that a field may have."""
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
