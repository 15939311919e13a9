"""Own labels: what a file itself says beside its pixels, where folders or a table say nothing."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from mri_hpc.base.errors import BadSource
from mri_hpc.intake.decoding.dicom.listing import NO_SERIES, Series
from mri_hpc.intake.decoding.matlab import label_in
from mri_hpc.intake.labels.folder_labels import SAYS_ITSELF
from mri_hpc.intake.labels.label import NO_BOX, Label, Labels, at_site, label_or_reason
from mri_hpc.intake.labels.labelled_files import knowing
from mri_hpc.intake.labels.persons import Mention

# The parts in which Cheng's set is published, which lie in a folder each.
PARTS = re.compile(r"brainTumorDataPublic.*", re.IGNORECASE)
SEVERAL_LABELS = "files of one series have several labels, or patients"
SEVERAL_PATIENTS = "files of one series name several patients"


class OwnLabels:
    """Labels from folders or a table, completed by what the files themselves say."""

    def __init__(self, given: Labels, root: Path, series: Series = NO_SERIES) -> None:
        self._given = knowing(given, series.named)
        self._series = series
        self.site = given.site
        self._root = root
        self._known: dict[str, Label] = {}
        self._differing: set[str] = set()

    def of(self, path: str) -> Label:
        """Return a source's label, as in Labels; BadSource where neither says one."""
        is_series = self._series.is_series(path)
        if not is_series and not path.endswith(SAYS_ITSELF):
            return self._given.of(path)
        if path not in self._known:
            self._known[path] = self._of_series(path) if is_series else self._joined(path)
        return self._known[path]

    def site_of(self, path: str) -> str:
        """As in Labels."""
        return self._given.site_of(path)

    @property
    def num_differing(self) -> int:
        """Files asked for that say another class or patient of themselves than what holds."""
        return len(self._differing)

    def mentions(self, paths: Sequence[str]) -> Iterator[Mention]:
        """Yield the ids of patients that labels give, and that headers of series give, each with its class.

        DICOM pads ids with blanks, which are none of theirs, and tells capital letters from small ones.
        """
        yield from self._given.mentions(paths)
        for path in () if self._series.are_single_files else paths:
            if self._series.name_of(path):
                label, _reason = label_or_reason(self, path)
                if label.patient:
                    where = f"a series of {label.label}" if label.label else "a series"
                    yield Mention(patient=label.patient, where=where, label=label.label)

    def _of_series(self, path: str) -> Label:
        """Return the label that the files of a series have, with the patient and study that they name."""
        name = self._series.named(path).series
        if name and (first := self._series.first_of(name)) != path:
            return self.of(first)
        files, copies = self._series.files_of(path) or (path,), self._series.duplicates_in(name)
        if _are_several(*([self._series.named(file).patient for file in some] for some in (files, copies))):
            # Of what an anonymiser gave the same id.
            raise BadSource(SEVERAL_PATIENTS)
        pairs = [label_or_reason(self._given, file) for file in files]
        labels = [label for label, reason in pairs if not reason]
        # Which of two folders is right a copy in the other does not tell.
        pairs_of_copies = [label_or_reason(self._given, copy) for copy in copies]
        labels_of_copies = [label for label, reason in pairs_of_copies if not reason]
        both = [*labels, *labels_of_copies]
        if not both:
            raise BadSource(pairs[0][1])
        label = both[0]
        if any((one.label, one.split) != (label.label, label.split) for one in both) or _are_several(
            *([one.patient for one in some] for some in (labels, labels_of_copies))
        ):
            raise BadSource(SEVERAL_LABELS)
        named, site = self._series.named(path), self.site_of(path)
        return replace(
            label,
            patient=label.patient or at_site(site, named.patient),
            study=label.study or at_site(site, named.study),
        )

    def _joined(self, path: str) -> Label:
        own = label_in(self._root / path)
        site = self.site_of(path)
        own = replace(own, patient=at_site(site, own.patient), site=site)
        try:
            given = self._given.of(path)
        except BadSource:
            if not own.label:
                raise
            return own
        if own.label and PARTS.fullmatch(given.label):
            given = replace(given, label="", patient="")
        pairs = ((given.label, own.label), (given.patient, own.patient))
        if any(there and here and there != here for there, here in pairs):
            self._differing.add(path)
        return replace(
            given,
            label=given.label or own.label,
            patient=given.patient or own.patient,
            box=own.box if repr(given.box) == repr(NO_BOX) else given.box,
        )


def _are_several(patients: Sequence[str], of_copies: Sequence[str]) -> bool:
    """Tell whether files are of several patients; a copy may name one where the others name none."""
    return len(set(patients)) > 1 or len({*patients, *of_copies} - {""}) > 1
