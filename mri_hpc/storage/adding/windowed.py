"""Sources read in the windows of their groups: as the store has them, else as the listing gives them."""

import functools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from mri_hpc.intake.decoding.decoders import decode_natively
from mri_hpc.intake.decoding.depth import is_deep, promises_8_bits
from mri_hpc.intake.decoding.group_reader import GroupReader
from mri_hpc.intake.decoding.samples import NativeImage, Sample
from mri_hpc.intake.decoding.window import Window
from mri_hpc.intake.files.content import Content, read_content
from mri_hpc.intake.files.sources import Source, Sources
from mri_hpc.intake.labels.groups import Group, Groups, group_of
from mri_hpc.intake.labels.label import Label
from mri_hpc.storage.adding.intake import Intake
from mri_hpc.storage.adding.known import Known
from mri_hpc.storage.adding.unit import UsedWindow

MOST_OUTSIDE = 0.01
"""Of the pixels of an image: of those by which its window was chosen, fewer are."""


def by_group(sources: Sources, intake: Intake) -> Sources:
    """Return sources with those of more than 8 bits last, group by group: so each is decoded once."""
    if not intake.recipe.has_windows:
        return sources
    groups = Groups(intake.labels, sources.listing)
    deep: dict[Group, list[int]] = {}
    for row, path in enumerate(sources.paths):
        group = None if promises_8_bits(path) else groups.of(path)
        if group is not None and is_deep(intake.root / path):
            deep.setdefault(group, []).append(row)
    if not deep:
        return sources
    last = [row for group in sorted(deep, key=intake.group_name) for row in deep[group]]
    first = np.setdiff1d(np.arange(len(sources)), last)
    return sources.take(np.concatenate([first, np.array(last, np.int64)]))


@dataclass(frozen=True, kw_only=True)
class ReadSource:
    """A source as it was read."""

    source: Source
    content: Content
    images: Callable[[], Iterable[NativeImage]]
    """Decodes the images in it, unless they are kept: anew at each call."""


class WindowedReader:
    """Reads and decodes the sources of one task."""

    intake: Intake
    known: Known

    def __init__(
        self, intake: Intake, known: Known, listing: Sequence[str], is_stopping: Callable[[], bool]
    ) -> None:
        self.intake = intake
        self.known = known
        self._groups = groups = Groups(intake.labels, listing)
        self._reader = GroupReader[Group](
            intake.root, intake.recipe, groups.files, recorded=self._recorded, is_stopping=is_stopping
        )

    def read(self, source: Source) -> ReadSource:
        """Read a source, if that was not done already to find the window of its group."""
        is_plain = promises_8_bits(source.path) or not self.intake.recipe.has_windows
        kept = self._reader.kept(source.path, None if is_plain else self._groups.of(source.path))
        if kept:
            return ReadSource(source=source, content=kept.content, images=lambda: kept.images)
        content = read_content(self.intake.root, source.files)
        decode = functools.partial(decode_natively, content, self.intake.recipe)
        return ReadSource(source=source, content=content, images=decode)

    def decode(self, read: ReadSource, label: Label) -> tuple[list[Sample], UsedWindow | None]:
        """Make samples of the images in a source; return also the window that they took."""
        group = group_of(read.source.path, label)
        samples: list[Sample] = []
        deep: list[bool] = []
        for sample, image in self._reader.samples(read.images(), group):
            samples.append(sample)
            if image.is_deep and self.intake.recipe.has_windows:
                deep.append(self._is_cut_off(image, group))
        window = self._reader.window(group) if deep else None
        if window is None:
            return samples, None
        name = self.intake.group_name(group)
        is_recorded = self.known.window(name) is not None
        return samples, UsedWindow(group=name, window=window, is_recorded=is_recorded, outside=sum(deep))

    def _is_cut_off(self, image: NativeImage, group: Group) -> bool:
        """Tell whether much of an image lies outside the window that its group had before."""
        recorded = self._recorded(group)
        return recorded is not None and recorded.fraction_outside(image.grey) > MOST_OUTSIDE

    def _recorded(self, group: Group) -> Window | None:
        return self.known.window(self.intake.group_name(group))
