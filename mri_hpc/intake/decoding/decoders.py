"""Decoders: from the bytes of a source to images, and these to samples. Content tells what a source is.

To read another format, write a module of its own (``nrrd.py``) with a class that has the four members of
`Decoder`, and put one of it into DECODERS. Nothing else has to know of it: what is stored, predicted, probed
and repaired comes through `decode`, what users are told is read comes from `formats`, and the versions in
each chunk from `versions`. Take the entry of the format out of foreign.py, which gives the reasons for those
that are not read, and import the library that decodes in that module alone.

- Decoders are asked in turn, and the first that takes the first bytes has the source: the more particular one
  stands first. To be asked costs every source, so the answer rests on a few bytes.
- Yield grey values as the source has them: `decode` makes 8 bits and the recipe's square of all alike.
- Of a format of volumes make each a `Volume`, and yield what `slices_of` makes of it.
- Yield images as they are made: a volume then takes the memory of one slice beside its own bytes. BadSource
  at any point rejects the whole source: nothing of it is stored.
- Give each image of a source that holds several a `frame` of its own. Keys are made from it, but for the
  first one's, which is the source's: order and frames have to stay the same for good, wherever and
  whenever the source is decoded.
- Grey values follow from the bytes and the recipe alone. A rule that changes pixels changes `recipe.DECODER`.
- The reason of a BadSource names neither path nor person: it is published with the store.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from mri_hpc.base.errors import BadSource
from mri_hpc.intake.decoding.dicom.decoder import Dicom
from mri_hpc.intake.decoding.dicom.listing import check_name
from mri_hpc.intake.decoding.foreign import why_not_read
from mri_hpc.intake.decoding.grey_values import to_levels
from mri_hpc.intake.decoding.matlab import Matlab
from mri_hpc.intake.decoding.pictures import Pictures
from mri_hpc.intake.decoding.recipe import Recipe
from mri_hpc.intake.decoding.samples import NOT_FINITE, NativeImage, Sample
from mri_hpc.intake.decoding.square import fit_to_square
from mri_hpc.intake.decoding.stacks import Stacks
from mri_hpc.intake.decoding.volumes.one_file import VolumeFiles
from mri_hpc.intake.decoding.window import Window, window_of
from mri_hpc.intake.files.content import Content, read_content


class Decoder(Protocol):
    """Reads some formats."""

    @property
    def formats(self) -> tuple[str, ...]:
        """The formats, by the names that users know."""
        ...

    def reads(self, start: bytes) -> bool:
        """Tell whether a source is of these formats. start: its first START_BYTES."""
        ...

    def decode(self, content: Content, recipe: Recipe) -> Iterator[NativeImage]:
        """Yield the images of a source, in an order that is always the same; BadSource where it has none.

        recipe: says how large they are needed at least; others are made smaller by whoever asks.
        """
        ...

    def versions(self) -> Mapping[str, str]:
        """Return versions of the libraries that decide about pixels, by name."""
        ...


_DICOM = Dicom()
DECODERS: tuple[Decoder, ...] = (Pictures(), Stacks(), Matlab(), _DICOM, VolumeFiles())
"""In the order in which they are asked, and named."""


def decode(content: Content, recipe: Recipe, window: Window | None = None) -> Iterator[Sample]:
    """Yield the samples of a source; BadSource, also amid them, says why there are none.

    window: of the group of pictures to which it belongs; None where it is a group by itself.
    """
    images = decode_natively(content, recipe)
    if recipe.has_windows and window is None:
        return _in_own_window(images, recipe)
    return (as_sample(image, recipe, window) for image in images)


def _in_own_window(images: Iterator[NativeImage], recipe: Recipe) -> Iterator[Sample]:
    """Make samples as they come; of pictures that need a window, when all of these are there."""
    waiting: list[NativeImage] = []
    for image in images:
        if waiting or image.is_deep:
            waiting.append(image)
        else:
            yield as_sample(image, recipe, None)
    if not waiting:
        return
    window = window_of(image.grey for image in waiting if image.is_deep)
    yield from (as_sample(image, recipe, window) for image in waiting)


def decode_natively(content: Content, recipe: Recipe) -> Iterator[NativeImage]:
    """Yield the images of a source as it holds them; BadSource, also amid them, says why there are none."""
    start = content.start
    # A DICOM file may begin as a TIFF does.
    for decoder in (_DICOM, *DECODERS):
        if decoder.reads(start):
            return (_checked(image) for image in decoder.decode(content, recipe))
    raise BadSource(
        why_not_read(start, [name for decoder in DECODERS for name in decoder.formats], content.name)
    )


def _checked(image: NativeImage) -> NativeImage:
    if image.grey.dtype.kind == "f" and not np.isfinite(image.grey).all():
        raise BadSource(NOT_FINITE)
    return image


def as_sample(image: NativeImage, recipe: Recipe, window: Window | None) -> Sample:
    """Make the recipe's levels and square of an image."""
    levels = image.grey if image.has_levels else to_levels(image.grey, recipe, window)
    pixels, placed = fit_to_square(levels, recipe)
    return Sample(
        pixels=pixels,
        frame=image.frame,
        slice_index=image.slice_index,
        position=image.position,
        plane=image.plane,
        plane_inferred=image.plane_inferred,
        label=image.label,
        box=image.box,
        placed=placed,
        slices_left_out=image.slices_left_out,
        statements=image.statements,
        date=image.date,
        notes=image.notes,
        stack=image.stack,
    )


def decode_file(path: Path, recipe: Recipe, others: Sequence[Path] = ()) -> list[NativeImage]:
    """Return the images of a source that is one file; BadSource says why there are none.

    others: further files of the same source, where it is a series.
    """
    try:
        files = [str(file.absolute().relative_to("/")) for file in (path, *others)]
        content = read_content(Path("/"), files)
        check_name(files[0], content.start)
        return list(decode_natively(content, recipe))
    except FileNotFoundError:
        raise BadSource("file is gone") from None


def library_versions() -> dict[str, str]:
    """Return versions of all that decodes, by name of the library."""
    return {name: version for decoder in DECODERS for name, version in decoder.versions().items()}
