"""Reading by group: what a window needs is read first, and decoded once as long as it fits in memory."""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from mri_hpc.base.errors import BadSource
from mri_hpc.intake.decoding.decoders import as_sample, decode_natively
from mri_hpc.intake.decoding.depth import depth_of, is_deep, promises_8_bits
from mri_hpc.intake.decoding.recipe import Recipe
from mri_hpc.intake.decoding.samples import NativeImage, Sample
from mri_hpc.intake.decoding.window import Histogram, Window
from mri_hpc.intake.files.content import Content, read_content

KEPT_BYTES = 192 * 2**20
"""Sources of a group that are kept, decoded, from finding its window until they are asked for."""
MOST_COUNTED = 256
"""Pictures by which a window is found: of a larger group, one in so many as leave no more than this."""

G = TypeVar("G")


class Stopped(Exception):
    """Whoever asked is to stop: there is no window yet."""


@dataclass(frozen=True, kw_only=True, eq=False)
class KeptSource:
    """A source as it was read, and the images in it."""

    content: Content
    images: Sequence[NativeImage]


class GroupReader(Generic[G]):
    """Reads sources of one file each; finds the window of a group when its first deep picture comes."""

    def __init__(
        self,
        root: Path,
        recipe: Recipe,
        files_of: Callable[[G], Sequence[str]],
        *,
        recorded: Callable[[G], Window | None] = lambda group: None,
        is_stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        """files_of: files of a group below the root; recorded: the window that it has already."""
        self._root = root
        self.recipe = recipe
        self._files_of = files_of
        self._recorded = recorded
        self._is_stopping = is_stopping
        self._windows: dict[G, Window | None] = {}
        self._kept: dict[str, KeptSource] = {}
        self._kept_bytes = 0

    def kept(self, path: str, group: G | None) -> KeptSource | None:
        """Return a source that was read for its window, once; its group is read first where that is due.

        path: below the root; group: None where it is part of none.
        """
        if group is not None and self.recipe.has_windows and self._is_first_of(path, group):
            self.window(group)
        kept = self._kept.pop(path, None)
        if kept:
            self._kept_bytes -= _num_bytes(kept)
        return kept

    def samples(self, images: Iterable[NativeImage], group: G) -> Iterator[tuple[Sample, NativeImage]]:
        """Yield samples of the images in a source, each with the image that it was made of."""
        for image in images:
            needs_window = image.is_deep and self.recipe.has_windows
            yield as_sample(image, self.recipe, self.window(group) if needs_window else None), image

    def window(self, group: G) -> Window | None:
        """Return the window of a group: as it is recorded, else as its files say; None where they do not."""
        if group not in self._windows:
            recorded = self._recorded(group)
            self._windows[group] = self._found(group) if recorded is None else recorded
        return self._windows[group]

    def _is_first_of(self, path: str, group: G) -> bool:
        if group in self._windows or promises_8_bits(path) or self._recorded(group) is not None:
            return False
        return is_deep(self._root / path)

    def _found(self, group: G) -> Window | None:
        """Find the window of a group; keep what was decoded for it. A damaged source has no say."""
        deep = [path for path in self._files_of(group) if self._may_be_deep(path)]
        step = math.ceil(len(deep) / MOST_COUNTED) or 1
        # Should those that are looked at be empty, or damaged, the others may not be.
        return self._counted(deep[::step]) or (self._counted(deep) if step > 1 else None)

    def _may_be_deep(self, path: str) -> bool:
        depth = depth_of(self._root / path)
        return depth is None or depth > 8

    def _counted(self, files: Sequence[str]) -> Window | None:
        histogram = Histogram()
        self._kept, self._kept_bytes = {}, 0
        for path in files:
            if self._is_stopping():
                raise Stopped
            try:
                content = read_content(self._root, [path])
                images = list(decode_natively(content, self.recipe))
            except (BadSource, FileNotFoundError):
                continue
            for image in images:
                if image.is_deep:
                    histogram.add(image.grey)
            self._keep(path, KeptSource(content=content, images=images))
        return histogram.window()

    def _keep(self, path: str, source: KeptSource) -> None:
        if self._kept_bytes + _num_bytes(source) <= KEPT_BYTES:
            self._kept[path] = source
            self._kept_bytes += _num_bytes(source)


def _num_bytes(source: KeptSource) -> int:
    files = sum(file.look.size for file in source.content.files)
    return files + sum(image.grey.nbytes for image in source.images)
