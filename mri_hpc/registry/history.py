"""Decisions about models: one small file each, numbered, and the file that names the current model.

Whoever links a number first has that decision, so that of two promotions at once one is refused. The newest
number says which model is current, and `current` follows it: a promotion that was killed between the two
counts, and the next one puts `current` right.
"""

import datetime
import enum
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

from mri_hpc.base.access import publish_shared, replace_shared, user_name
from mri_hpc.base.documents import convert, with_format, without_format
from mri_hpc.base.errors import UserError
from mri_hpc.base.sealed_json import seal, unseal
from mri_hpc.registry.layout import ModelsDir
from mri_hpc.registry.record import Evidence, Record, check_files, read_record, record_digest

FORMAT = 1


class Kind(enum.StrEnum):
    """Kind of a decision."""

    PROMOTE = "promote"
    ROLLBACK = "rollback"
    RETRACTION = "retraction"
    """Images that models have learnt from were retracted; it makes no model current."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A decision."""

    number: int
    kind: Kind
    name: str = ""
    """Model that is current from here on; empty of a retraction."""
    model_digest: str = ""
    record: str = ""
    """sha256 of its record.json."""
    because: str = ""
    """As a person typed it."""
    who: str = ""
    when: str = ""
    """In UTC, to the minute."""
    evidence: tuple[Evidence, ...] = ()
    """As it was then."""
    gate: tuple[str, ...] = ()
    """Hashes of the gate patients on whom it was compared anew."""
    accepted: tuple[str, ...] = ()
    """Words of what was not met, and accepted."""
    retractions: tuple[str, ...] = ()
    """Commits of retractions that were accepted, or that are noted here."""
    is_automatic: bool = False
    """Promoted by a rule (watch --promote auto), and by no person."""
    models: tuple[str, ...] = ()
    """Of a retraction: names of the models that have learnt from its images."""


@dataclass(frozen=True, kw_only=True)
class _Current:
    """Content of the file `current`."""

    entry: int
    name: str
    model_digest: str
    when: str


def now() -> str:
    """Return the time as records have it."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")


def read_history(models: ModelsDir) -> list[Entry]:
    """Read all decisions in their order; UserError where one is damaged, or missing."""
    paths = sorted(models.history.glob("[0-9]*.json")) if models.history.is_dir() else []
    entries = []
    for number, path in enumerate(paths, 1):
        try:
            entry = convert(without_format(unseal(path.read_bytes()), of=path, reads=FORMAT), Entry)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path} is not as it was written ({error}); restore it from a backup") from None
        if entry.number != number or path.stem != f"{number:08d}":
            raise UserError(f"{models.history} lacks decision {number}; restore it from a backup")
        entries.append(entry)
    return entries


def line_of(entries: Sequence[Entry]) -> list[Entry]:
    """Return who was current one after the other, the last one now, each with when it became so last.

    A rollback takes the last one back. Who is promoted again, as a retraction is accepted, was so already.
    """
    line: list[Entry] = []
    for entry in entries:
        if entry.kind is Kind.PROMOTE:
            is_again = bool(line) and line[-1].name == entry.name
            line.append(replace(entry, when=line.pop().when) if is_again else entry)
        elif entry.kind is Kind.ROLLBACK and len(line) > 1:
            line.pop()
            line[-1] = replace(line[-1], when=entry.when)
    return line


def current_of(models: ModelsDir, entries: Sequence[Entry]) -> Entry | None:
    """Return the promotion that holds now; None before the first.

    UserError where the file `current` says what no promotion has written.
    """
    line = line_of(entries)
    _refuse_edited(models, entries)
    return line[-1] if line else None


def promoted_record(models: ModelsDir, promoted: Entry) -> Record:
    """Read the record of a promotion; UserError where it is another one by now, or a file has changed."""
    record = read_record(models, promoted.name)
    if record_digest(models, record.name) != promoted.record:
        raise UserError(
            f"{models.record(record.name)} is not as it was promoted; restore it from a backup, or promote "
            "another model"
        )
    check_files(models, record)
    return record


def add_entry(models: ModelsDir, entry: Entry) -> str:
    """Publish a decision, by this account and now, and have `current` follow; UserError where one came first.

    Returns a note where `current` could not be replaced; empty else.
    """
    if not publish_entry(models, entry):
        first = read_history(models)[entry.number - 1]
        raise UserError(
            f"{first.who or 'another account'} was faster: {first.kind} {first.name} "
            f"({first.when}{f', {first.because}' if first.because else ''}); look at it "
            f"(mri-hpc models list --models {models.path}), and decide again"
        )
    try:
        follow(models)
    except OSError as error:
        return f"{models.current} could not be replaced ({error.strerror}); the decision holds all the same"
    return ""


def publish_entry(models: ModelsDir, entry: Entry) -> bool:
    """Publish a decision, by this account and now; False where another one has its number already."""
    path = models.history / f"{entry.number:08d}.json"
    whole = asdict(entry) | {"who": user_name(), "when": now()}
    return publish_shared(path, seal(with_format(FORMAT, whole)))


def follow(models: ModelsDir) -> None:
    """Have the file `current` name what the newest decision makes current."""
    while entries := read_history(models):
        if not (line := line_of(entries)):
            return
        found = _Current(
            entry=entries[-1].number,
            name=line[-1].name,
            model_digest=line[-1].model_digest,
            when=line[-1].when,
        )
        replace_shared(models.current, seal(with_format(FORMAT, asdict(found))))
        # Another decision may have come between, and its file before ours.
        if len(read_history(models)) == len(entries):
            return


def _refuse_edited(models: ModelsDir, entries: Sequence[Entry]) -> None:
    try:
        document = models.current.read_bytes()
    except FileNotFoundError:
        # Of a promotion that was killed as it ended.
        return
    again = "mri-hpc models promote NAME, and mri-hpc models rollback, write it anew"
    try:
        found = convert(without_format(unseal(document), of=models.current, reads=FORMAT), _Current)
    except (ValueError, RecursionError) as error:
        raise UserError(f"{models.current} is not as it was written ({error}); {again}") from None
    # One that lags behind is of a promotion that was killed, or is under way.
    if found.entry < len(entries):
        return
    line = line_of(entries)
    if found.entry > len(entries) or not line or line[-1].name != found.name:
        raise UserError(f"{models.current} names {found.name!r}, and the last decision does not; {again}")
