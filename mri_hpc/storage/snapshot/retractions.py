"""Retractions: images and patients that are gone from a store for good."""

import functools
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from mri_hpc.storage.disk.columns import ascending, bytes_table
from mri_hpc.storage.disk.commits import Commit
from mri_hpc.storage.snapshot.persons import Persons


@dataclass(frozen=True, kw_only=True, eq=False)
class Retractions:
    """Keys and patients that were retracted."""

    keys: np.ndarray
    """uint64, ascending, unique: of sources and images."""
    patients: np.ndarray
    """UTF-8 bytes, sorted, unique: names of patients in the store."""

    def __bool__(self) -> bool:
        return bool(len(self.keys) or len(self.patients))

    def has_keys(self, keys: np.ndarray) -> np.ndarray:
        """Find the keys that are retracted: bool, (n,). keys: uint64, (n,)."""
        return np.isin(keys, self.keys)

    def has_patients(self, names: np.ndarray) -> np.ndarray:
        """Find the patients who are retracted: bool, (n,). names: UTF-8 bytes, (n,)."""
        return np.isin(names, self.patients)

    def covers(self, keys: Iterable[int], patient: str) -> bool:
        """Tell whether any of these keys, or this patient, is retracted."""
        return patient in self._names or not self._numbers.isdisjoint(keys)

    def joined(self, other: "Retractions") -> "Retractions":
        """Return what either retracts."""
        return Retractions(
            keys=ascending(np.concatenate([self.keys, other.keys])),
            patients=bytes_table([*self.patients.tolist(), *other.patients.tolist()]),
        )

    def of_persons(self, persons: Persons) -> "Retractions":
        """Return the same with all names of each patient."""
        if not persons:
            return self
        return Retractions(keys=self.keys, patients=persons.all_names(self.patients.tolist()))

    @functools.cached_property
    def _numbers(self) -> set[int]:
        return set(self.keys.tolist())

    @functools.cached_property
    def _names(self) -> set[str]:
        return {name.decode() for name in self.patients.tolist()}


def of_commits(commits: Iterable[Commit]) -> Retractions:
    """Return what commits retract."""
    commits = list(commits)
    keys = [int(key, 16) for commit in commits for key in commit.retracted_keys]
    names = (name.encode() for commit in commits for name in commit.retracted_patients)
    return Retractions(keys=ascending(np.array(keys, "<u8")), patients=bytes_table(names))
