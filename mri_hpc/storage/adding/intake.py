"""Intake: everything that decides what becomes of a source."""

import datetime
import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mri_hpc.base.errors import UserError
from mri_hpc.intake.decoding.depth import is_deep, promises_8_bits
from mri_hpc.intake.decoding.dicom.listing import NO_SERIES, OF_SERIES, Series
from mri_hpc.intake.decoding.probe import probe
from mri_hpc.intake.decoding.recipe import Recipe, agreed_recipe, publish_recipe
from mri_hpc.intake.decoding.samples import Sample
from mri_hpc.intake.files.content import Content
from mri_hpc.intake.files.sources import Source, Sources, root_at_site, root_name
from mri_hpc.intake.files.units import Share
from mri_hpc.intake.kinds import Kinds
from mri_hpc.intake.labels.groups import Group, Groups
from mri_hpc.intake.labels.label import Label, Labels
from mri_hpc.intake.labels.pseudonyms import KEY_BYTES, Pseudonyms, site_key
from mri_hpc.storage.adding.unit import TakenSource, UsedWindow
from mri_hpc.storage.disk.layout import StoreDir

STACK = "stack "
"""Begins the id of a patient whom nothing names but the stack that shows the head."""


@dataclass(frozen=True, kw_only=True)
class Intake:
    """Everything that decides what becomes of a source."""

    root: Path
    root_name: str
    """As sources.root_name gives it."""
    labels: Labels
    pseudonyms: Pseudonyms
    recipe: Recipe
    series: Series = NO_SERIES
    """Files below the root that are one source together."""
    is_replacing: bool = False
    """True where a source with other bytes than those stored replaces them."""
    is_skipping_empty: bool = False
    """True where images that show no head are left out."""
    is_accepting_text: bool = False
    """True where volumes are stored in which text seems to be burnt into the pixels."""
    is_shortening: bool = False
    """True where stored slices that what replaces them has no longer are retracted."""

    @functools.cached_property
    def kinds(self) -> Kinds:
        """Kinds of sequence of the sources."""
        return Kinds(self.root, self.series)

    def sources(self, paths: Sequence[str]) -> Sources:
        """Return files below the root as sources: each one of its own, or the files of a series together."""
        if self.series.are_single_files:
            keys = np.fromiter((self.key_of(path) for path in paths), "<u8", len(paths))
            return Sources.of_files(keys, paths)
        firsts = [path for path in paths if self.series.files_of(path)]
        groups = [self.series.files_of(path) for path in firsts]
        return Sources(
            keys=np.fromiter(map(self.key_of, firsts), "<u8", len(firsts)),
            files=[file for files in groups for file in files],
            starts=np.concatenate([[0], np.cumsum([len(files) for files in groups], dtype=np.int64)]),
            listing=paths,
        )

    def key_of(self, path: str, frame: str = "") -> int:
        """Derive the key of a file below the root, or of the series that it begins; or of one frame in it."""
        name = root_at_site(self.root_name, self.labels.site_of(path))
        series = self.series.name_of(path)
        return self.pseudonyms.source_key(name, f"{OF_SERIES}{series}" if series else path, frame)

    def share_of(self, share: Share, sources: Sources) -> Sources:
        """Pick the sources of a share: each by its key, pictures of more than 8 bits by that of their group.

        That only saves reading a group in several tasks: whoever has one of its pictures finds its window.
        """
        mine = share.holds(sources.keys)
        if share.count == 1 or not self.recipe.has_windows:
            return share.of(sources)
        groups = Groups(self.labels, sources.listing)
        for row, path in enumerate(sources.paths):
            group = None if promises_8_bits(path) else groups.of(path)
            if group is None:
                continue
            # Where both agree, there is no need to look into the file.
            is_mine = share.holds_name(self.group_name(group))
            if is_mine != mine[row] and is_deep(self.root / path):
                mine[row] = is_mine
        return sources.take(np.flatnonzero(mine))

    def group_name(self, group: Group) -> str:
        """Name a group of pictures for the part of a store that may be shared."""
        return self.pseudonyms.group(self.root_name, group)

    def taken(
        self,
        source: Source,
        content: Content,
        label: Label,
        samples: Sequence[Sample],
        *,
        window: UsedWindow | None = None,
        generation: int = 0,
    ) -> TakenSource:
        """Return a decoded source as it enters a store."""
        assert samples, "a decoder yields samples or raises BadSource"
        if len(samples) > 1 and not label.patient:
            # Slices of one head never lie on two sides of a split.
            label = replace(label, patient=f"{STACK}{source.key:016x}")
        return TakenSource(
            key=source.key,
            fingerprint=content.fingerprint,
            path=source.path,
            generation=generation,
            label=label,
            patient=self.pseudonyms.patient(label.patient),
            study=self.pseudonyms.study(label.study),
            # By the first one the store knows that it has the source.
            image_keys=[
                source.key,
                *(self.key_of(source.path, sample.frame) for sample in samples[1:]),
            ],
            kind=self.kinds.of(source.path),
            scanner=self.kinds.scanner_of(source.path),
            date=self._shifted(samples[0].date, label.patient),
            samples=samples,
            window=window,
        )

    def _shifted(self, date: datetime.date | None, patient: str) -> str:
        """Return a date as the store keeps it; empty where it keeps none."""
        if self.recipe.dates != "shifted" or date is None or not patient:
            return ""
        return self.pseudonyms.shifted(date, patient).isoformat()


def make_intake(
    store: StoreDir,
    root: Path,
    labels: Labels,
    wanted: Recipe,
    key_file: Path,
    *,
    series: Series = NO_SERIES,
    is_replacing: bool = False,
    is_skipping_empty: bool = False,
    is_accepting_text: bool = False,
    is_shortening: bool = False,
) -> Intake:
    """Return all that decides about the sources below a root; make a store that is new, and its recipe.

    wanted: what is asked for of the recipe, without the site's key and the probe; key_file: that key, made
    where it is missing and pseudonyms are wanted; series: those below the root. UserError where the
    store has another recipe.
    """
    if wanted.ids == "pseudonym" and store.recipe.exists() and not key_file.exists():
        # A key that is made now is not this store's: whoever is refused for that has none left behind.
        agreed_recipe(store.recipe, _probed(wanted, Pseudonyms(bytes(KEY_BYTES))))
    if wanted.ids == "pseudonym" and key_file.exists():
        # Whoever is refused for that has no store left behind.
        site_key(key_file, store.group)
    store.make()
    pseudonyms = Pseudonyms(site_key(key_file, store.group) if wanted.ids == "pseudonym" else None)
    return Intake(
        root=root,
        root_name=root_name(root),
        labels=labels,
        pseudonyms=pseudonyms,
        recipe=_published_recipe(store, _probed(wanted, pseudonyms)),
        series=series,
        is_replacing=is_replacing,
        is_skipping_empty=is_skipping_empty,
        is_accepting_text=is_accepting_text,
        is_shortening=is_shortening,
    )


def _published_recipe(store: StoreDir, wanted: Recipe) -> Recipe:
    try:
        return publish_recipe(store.recipe, wanted)
    except UserError as error:
        if store.commit_ids() and any(store.chunks.iterdir()):
            raise
        raise UserError(f"{error}, or remove this one: no image is stored in it") from None


def intake_that_would_be(
    store: StoreDir, root: Path, labels: Labels, wanted: Recipe, key_file: Path
) -> Intake:
    """Return what make_intake would of a store that has a recipe, making nothing; UserError as there."""
    # A key that is missing would be made, and be another one.
    is_named = wanted.ids == "pseudonym" and key_file.exists()
    pseudonyms = Pseudonyms(site_key(key_file, store.group) if is_named else None)
    return Intake(
        root=root,
        root_name=root_name(root),
        labels=labels,
        pseudonyms=pseudonyms,
        recipe=agreed_recipe(store.recipe, _probed(wanted, pseudonyms)),
    )


def _probed(wanted: Recipe, pseudonyms: Pseudonyms) -> Recipe:
    return probe(replace(wanted, site=pseudonyms.fingerprint()))
