"""Persons: names in the store that are of one patient, as commits say, laid over what was ingested.

Chunks keep the names that images came with. Of what several commits say about two names the greatest revision
counts, then the commit of greatest name; all names that are linked so are one person, whatever came first.
"""

import functools
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import NamedTuple

import numpy as np

from mri_hpc.storage.disk.columns import bytes_table
from mri_hpc.storage.disk.commits import Commit, SamePatient


class Statement(NamedTuple):
    """One statement about two names: a SamePatient in the form in which snapshots keep it."""

    first: str
    second: str
    revision: int
    is_same: bool
    is_spelling: bool
    commit: str
    """Name of the commit."""

    @property
    def names(self) -> frozenset[str]:
        """Both of them."""
        return frozenset((self.first, self.second))


def merged(base: Iterable[Statement], commits: Iterable[Commit]) -> tuple[Statement, ...]:
    """Return the statements that count, of those that counted before and those of more commits."""
    new = [Statement(**asdict(pair), commit=commit.id) for commit in commits for pair in commit.same_patients]
    every = [*(Statement(*one) for one in base), *new]
    counts = {one.names: one for one in sorted(every, key=lambda one: (one.revision, one.commit))}
    return tuple(sorted(counts.values()))


class Persons:
    """All persons who have several names in the store."""

    def __init__(self, statements: Iterable[Statement] = ()) -> None:
        """statements: as `merged` returns them."""
        self._statements = [Statement(*one) for one in statements]

    def __bool__(self) -> bool:
        return bool(self._names)

    def name(self, name: str) -> str:
        """Return the one name of a patient: the least of a person's, though not one that is a spelling."""
        return self._names.get(name, name)

    def names(self, name: str) -> tuple[str, ...]:
        """List all names of a patient, of whom any one is given."""
        return self._members.get(self.name(name), (name,))

    def split_name(self, name: str) -> str:
        """Return the name whose split an image has that came under this one: its own, unless a spelling."""
        return self.name(name) if name in self._spellings else name

    def all_names(self, names: Iterable[bytes]) -> np.ndarray:
        """Return these names and all others of the same patients: UTF-8 bytes, sorted."""
        if not self:
            return bytes_table(names)
        return bytes_table(one.encode() for name in names for one in self.names(name.decode()))

    def are_named_same(self, first: str, second: str) -> bool:
        """Tell whether it is stated of these very names that they are of one patient."""
        return any(one.is_same and one.names == {first, second} for one in self._statements)

    def revision(self, first: str, second: str) -> int:
        """Return how often something was stated about two names."""
        return next((one.revision for one in self._statements if one.names == {first, second}), 0)

    @functools.cached_property
    def other_names(self) -> np.ndarray:
        """Names beside the one of each person: UTF-8 bytes, sorted."""
        return bytes_table(name.encode() for name, one in self._names.items() if name != one)

    @functools.cached_property
    def _names(self) -> Mapping[str, str]:
        """The one name of each person, by all names."""
        linked: dict[str, set[str]] = {}
        for one in self._statements:
            if one.is_same:
                both = linked.get(one.first, {one.first}) | linked.get(one.second, {one.second})
                linked.update(dict.fromkeys(both, both))
        return {name: min(all_ - self._spellings or all_) for name, all_ in linked.items()}

    @functools.cached_property
    def _members(self) -> Mapping[str, tuple[str, ...]]:
        members: dict[str, list[str]] = defaultdict(list)
        for name, one in sorted(self._names.items()):
            members[one].append(name)
        return {one: tuple(names) for one, names in members.items()}

    @functools.cached_property
    def _spellings(self) -> set[str]:
        return {one.second for one in self._statements if one.is_same and one.is_spelling}


def pair_of(
    persons: Persons, first: str, second: str, *, is_same: bool, is_spelling: bool = False
) -> SamePatient:
    """Return what is to be stated next about two names."""
    if not is_spelling:
        first, second = sorted((first, second))
    return SamePatient(
        first=first,
        second=second,
        revision=persons.revision(first, second) + 1,
        is_same=is_same,
        is_spelling=is_spelling,
    )
