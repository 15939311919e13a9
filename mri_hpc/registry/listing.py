"""The models of a folder with their states, and all about one of them."""

import enum
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mri_hpc.base.errors import UserError
from mri_hpc.registry.history import Entry, current_of, read_history
from mri_hpc.registry.layout import CURRENT, ModelsDir
from mri_hpc.registry.promoting import evidence_now
from mri_hpc.registry.record import Evidence, Record, check_files, read_record
from mri_hpc.registry.retracted import accepted_of, retracted_since


class State(enum.StrEnum):
    """State of a model."""

    CANDIDATE = "candidate"
    CURRENT = "current"
    RETIRED = "retired"
    DAMAGED = "damaged"


@dataclass(frozen=True, kw_only=True)
class Listed:
    """A model in a list."""

    name: str
    state: State
    model_digest: str = ""
    added: str = ""
    since: str = ""
    """Of the current one: from when on it is."""
    is_automatic: bool = False
    """It is current by a rule (watch --promote auto), and by no person's word."""
    retractions: int = 0
    """Retractions of images that it has learnt from, and that no person has accepted."""
    reason: str = ""
    """Of a damaged one: what is wrong."""

    @property
    def in_words(self) -> str:
        """Say it in one line, without name and state."""
        if self.state is State.DAMAGED:
            return self.reason
        since = f", current since {self.since}" if self.since else ""
        since += " by a rule (--promote auto), and by no person's word" if self.is_automatic else ""
        refused = "; not asked: it has learnt from images that were retracted" if self.retractions else ""
        return f"model {self.model_digest[:12]}, added {self.added}{since}{refused}"


@dataclass(frozen=True, kw_only=True)
class Shown:
    """All about one model."""

    record: Record
    state: State
    evidence: tuple[Evidence, ...]
    """As it is now."""
    decisions: tuple[Entry, ...]

    @property
    def decisions_in_words(self) -> list[str]:
        """Write each decision as a line."""
        return [
            f"{one.kind} {one.when} by {one.who}{', by a rule' if one.is_automatic else ''}"
            + (f", accepted: {', '.join(one.accepted)}" if one.accepted else "")
            + (f": {one.because}" if one.because else "")
            for one in self.decisions
        ]

    def to_dict(self) -> dict[str, Any]:
        """Give plain values for JSON."""
        return {
            **asdict(self.record),
            "state": self.state,
            "evidence_now": [asdict(one) for one in self.evidence],
            "decisions": [asdict(one) for one in self.decisions],
        }


def listed(models: ModelsDir) -> list[Listed]:
    """List all models by name; one whose record is not as it was added says so."""
    entries = read_history(models)
    current = current_of(models, entries)
    return [_listed(models, name, entries, current) for name in models.names()]


def shown_of(models: ModelsDir, name: str) -> Shown:
    """Return all about one model; UserError where there is none, or a file is not as it was added."""
    entries = read_history(models)
    current = current_of(models, entries)
    if name == CURRENT and not current:
        raise UserError(f"{models.path} has no current model: mri-hpc models promote NAME makes one")
    record = read_record(models, current.name if current and name == CURRENT else name)
    check_files(models, record)
    evidence, _gate = evidence_now(models, record, entries, current)
    return Shown(
        record=record,
        state=_state_of(record.name, entries, current),
        evidence=evidence,
        decisions=tuple(one for one in entries if record.name in (one.name, *one.models)),
    )


def state_of(models: ModelsDir, name: str) -> State:
    """Return the state of one model."""
    entries = read_history(models)
    return _state_of(name, entries, current_of(models, entries))


def _listed(models: ModelsDir, name: str, entries: Sequence[Entry], current: Entry | None) -> Listed:
    try:
        record = read_record(models, name)
        found = retracted_since(models, record, entries).beyond(accepted_of(entries, name))
    except UserError as error:
        return Listed(name=name, state=State.DAMAGED, reason=str(error))
    return Listed(
        name=name,
        state=_state_of(name, entries, current),
        model_digest=record.model_digest,
        added=record.added,
        since=current.when if current and current.name == name else "",
        is_automatic=bool(current and current.name == name and current.is_automatic),
        retractions=len(found),
    )


def _state_of(name: str, entries: Sequence[Entry], current: Entry | None) -> State:
    if current and current.name == name:
        return State.CURRENT
    return State.RETIRED if any(one.name == name for one in entries) else State.CANDIDATE
