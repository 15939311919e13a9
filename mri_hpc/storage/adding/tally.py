"""The tally of a task: what became of its sources."""

from dataclasses import dataclass, field, fields
from typing import Any


@dataclass(kw_only=True)
class Tally:
    """Outcomes of the sources so far."""

    stored: int = 0
    already_there: int = 0
    rejected: int = 0
    gone: int = 0
    """Sources that were listed and have disappeared since."""
    labels_differ: int = 0
    """Sources whose label, patient, fold or split is not the one stored, which stays."""
    without_patient: int = 0
    """Stored sources of which the labels name no patient."""
    twins: int = 0
    """Stored sources whose bytes the store held before, under another path."""
    images: int = 0
    """Images that the stored sources gave."""
    outside_window: int = 0
    """Images of which more than 1 % of the pixels lie outside the window that their group had before."""
    windows: int = 0
    """Windows of groups that were recorded for the first time."""
    own_labels_differ: int = 0
    """Sources that say another class or patient of themselves than folders or a table, which hold."""
    masks: int = 0
    """Masks beside their pictures, which are left out."""
    empty: int = 0
    """Sources without a head that are left out, where that is asked for."""
    no_head: int = 0
    """Images without a head that are stored."""
    slices_left_out: int = 0
    """Slices of volumes that show no head, which are left out."""
    slices_retracted: int = 0
    """Slices that were stored of sources which have become shorter, and are retracted."""
    notes: dict[str, int] = field(default_factory=dict)
    """Remarks to be made on stored volumes, and of how many."""
    unnamed_stacks: int = 0
    """Stored sources of several slices of which nothing names the patient: each is taken for one."""
    left_out_series: dict[str, int] = field(default_factory=dict)
    """Series that were not chosen, by kind; counted by the first task alone."""
    reasons: dict[str, int] = field(default_factory=dict)
    """Reasons why sources were rejected, and how many each."""

    def reject(self, reason: str) -> None:
        """Count one rejected source."""
        self.rejected += 1
        self.reasons[reason] = self.reasons.get(reason, 0) + 1

    def note(self, note: str) -> None:
        """Count one volume of which that is to be said."""
        self.notes[note] = self.notes.get(note, 0) + 1

    @property
    def done(self) -> int:
        """Sources of which the outcome is known."""
        return self.stored + self.already_there + self.rejected + self.gone + self.masks + self.empty

    def joined(self, other: "Tally") -> "Tally":
        """Return what two tasks have counted."""
        return Tally(**{
            one.name: _joined(getattr(self, one.name), getattr(other, one.name)) for one in fields(Tally)
        })  # fmt: skip


def _joined(one: Any, other: Any) -> Any:
    if not isinstance(one, dict):
        return one + other
    return {name: one.get(name, 0) + other.get(name, 0) for name in sorted(one.keys() | other.keys())}
