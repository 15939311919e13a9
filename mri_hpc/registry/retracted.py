"""Models that have learnt from images that were retracted since, as the store and the history tell."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mri_hpc.base.errors import UserError
from mri_hpc.registry.history import Entry, Kind, publish_entry, read_history
from mri_hpc.registry.layout import ModelsDir
from mri_hpc.registry.record import Record
from mri_hpc.storage.store import Store


@dataclass(frozen=True, kw_only=True)
class Retracted:
    """Retractions of images that a model has learnt from."""

    commits: tuple[str, ...] = ()
    """Names of the commits, in their order."""
    reason: str = ""
    """Reason for which there may be more; empty where all are known."""

    def beyond(self, accepted: Collection[str]) -> tuple[str, ...]:
        """Return the commits that no person has accepted."""
        return tuple(one for one in self.commits if one not in accepted)


def retracted_since(models: ModelsDir, record: Record, entries: Sequence[Entry]) -> Retracted:
    """Find the retractions of images that a model has learnt from: as the store tells, and the history."""
    noted = [commit for one in entries if record.name in one.models for commit in one.retractions]
    learnt = read_learnt_from(models, record.name)
    if learnt is None:
        return Retracted(commits=tuple(noted), reason="the images that it has learnt from are not known")
    try:
        found = [
            one.id
            for one in Store.open(Path(record.store)).all_retractions()
            if _has(learnt, one.retracted_keys)
        ]
    except (UserError, OSError):
        return Retracted(commits=tuple(noted), reason="its store is not where it was")
    return Retracted(commits=tuple(dict.fromkeys([*noted, *found])))


def accepted_of(entries: Sequence[Entry], name: str) -> set[str]:
    """Return the commits of retractions in spite of which a person has promoted a model."""
    return {
        commit
        for one in entries
        if one.name == name and one.kind is not Kind.RETRACTION
        for commit in one.retractions
    }


def read_learnt_from(models: ModelsDir, name: str) -> np.ndarray | None:
    """Read the keys of all images that a model depends on: uint64, (n,), sorted; None where not known."""
    try:
        return np.asarray(np.load(models.learnt_from(name), mmap_mode="r"))
    except FileNotFoundError:
        return None
    except (ValueError, OSError) as error:
        raise UserError(
            f"{models.learnt_from(name)} is damaged ({error}); restore it from a backup"
        ) from None


def images_learnt_from(models: ModelsDir, keys: np.ndarray) -> dict[str, int | None]:
    """Count the images among these that each model has learnt from; those of none are left out.

    keys: uint64, (n,). None: it is not known what the model has learnt from.
    """
    found: dict[str, int | None] = {}
    for name in models.names():
        learnt = read_learnt_from(models, name)
        num = None if learnt is None else int(np.isin(keys, learnt).sum())
        if num != 0:
            found[name] = num
    return found


def note_retraction(models: ModelsDir, keys: np.ndarray, commits: Sequence[str]) -> list[str]:
    """Write down that images were retracted, if models have learnt from any; return the names of these.

    keys: uint64, (n,); commits: of the retraction.
    """
    learnt = sorted(name for name, num in images_learnt_from(models, keys).items() if num)
    while learnt:
        entries = read_history(models)
        known = {commit for one in entries if one.kind is Kind.RETRACTION for commit in one.retractions}
        entry = Entry(
            number=len(entries) + 1, kind=Kind.RETRACTION, models=tuple(learnt), retractions=tuple(commits)
        )
        # Whoever decides something else at the same time does not keep it from being written down.
        if known.issuperset(commits) or publish_entry(models, entry):
            break
    return learnt


def _has(learnt: np.ndarray, keys: Sequence[str]) -> bool:
    wanted = np.array([int(key, 16) for key in keys], np.uint64)
    return bool(np.isin(wanted, learnt).any())
