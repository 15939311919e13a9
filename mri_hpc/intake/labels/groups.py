"""Groups: the pictures of one patient and study, else of one folder, which have one window."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass

from mri_hpc.base.errors import BadSource
from mri_hpc.intake.labels.label import Label, Labels


@dataclass(frozen=True, kw_only=True)
class Group:
    """The patient and study, or the folder, whose pictures have one window."""

    patient: str
    """Id as given; empty where unknown."""
    study: str
    """Id as given; empty where unknown."""
    folder: str
    """Path below the source root, where no patient is known; else empty."""
    site: str
    """Site of the folder, where no patient is known; else empty, since a patient's id tells it."""


class Groups:
    """The groups of the files of one listing."""

    def __init__(self, labels: Labels, files: Sequence[str]) -> None:
        self._labels = labels
        self._files = files

    def of(self, path: str) -> Group | None:
        """Return the group of a file; None of one without a label, which is no part of any."""
        try:
            return group_of(path, self._labels.of(path))
        except BadSource:
            return None

    def files(self, group: Group) -> Sequence[str]:
        """Return the files of a group, in the order of the listing."""
        return self._by_group.get(group, ())

    @functools.cached_property
    def _by_group(self) -> dict[Group, list[str]]:
        found: dict[Group, list[str]] = {}
        for path in self._files:
            group = self.of(path)
            if group is not None:
                found.setdefault(group, []).append(path)
        return found


def group_of(path: str, label: Label) -> Group:
    """Return the group of a file. path: below the source root."""
    folder, site = ("", "") if label.patient else (path.rpartition("/")[0], label.site)
    return Group(patient=label.patient, study=label.study, folder=folder, site=site)
