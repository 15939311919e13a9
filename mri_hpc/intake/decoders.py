"""Decoders: from the bytes of a source to samples. Content tells what a source is, never its name.

To read another format, write a module of its own (``volumes.py``) with a class that has the four members of
`Decoder`, and put one of it into DECODERS. Nothing else has to know of it: what is stored, predicted, probed
and repaired comes through `decode`, what users are told is read comes from `formats`, and the versions in
each chunk from `versions`. Take the entry of the format out of foreign.py, which gives the reasons for those
that are not read, and import the library that decodes in that module alone.

- Decoders are asked in turn, and the first that takes the first bytes has the source: the more particular one
  stands first. To be asked costs every source, so the answer rests on a few bytes.
- Yield samples as they are made: a volume then takes the memory of one slice beside its own bytes. BadSource
  at any point rejects the whole source: nothing of it is stored.
- Give each sample of a source that holds several a `frame` of its own. Keys are made from it, but for the
  first sample's, which is the source's: order and frames have to stay the same for good, wherever and
  whenever the source is decoded.
- Pixels follow from the bytes and the recipe alone. A rule that changes pixels changes `recipe.DECODER`.
- The reason of a BadSource names neither path nor person: it is published with the store.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

from mri_hpc.base.errors import BadSource
from mri_hpc.intake.content import Content, read_content
from mri_hpc.intake.foreign import why_not_read
from mri_hpc.intake.pictures import Pictures
from mri_hpc.intake.recipe import Recipe
from mri_hpc.intake.samples import Sample


class Decoder(Protocol):
    """Reads some formats."""

    @property
    def formats(self) -> tuple[str, ...]:
        """The formats, by the names that users know."""
        ...

    def reads(self, start: bytes) -> bool:
        """Tell whether a source is of these formats. start: its first START_BYTES."""
        ...

    def decode(self, content: Content, recipe: Recipe) -> Iterator[Sample]:
        """Yield the samples of a source, in an order that is always the same; BadSource where it has none.

        Their pixels: uint8, (H, W), as `recipe.image_shape` says.
        """
        ...

    def versions(self) -> Mapping[str, str]:
        """Return versions of the libraries that decide about pixels, by name."""
        ...


DECODERS: tuple[Decoder, ...] = (Pictures(),)
"""In the order in which they are asked."""


def decode(content: Content, recipe: Recipe) -> Iterator[Sample]:
    """Yield the samples of a source; BadSource, also amid them, says why there are none."""
    start = content.start
    for decoder in DECODERS:
        if decoder.reads(start):
            return decoder.decode(content, recipe)
    raise BadSource(why_not_read(start, [name for decoder in DECODERS for name in decoder.formats]))


def decode_file(path: Path, recipe: Recipe) -> list[Sample]:
    """Decode a source that is one file; BadSource says why there are none."""
    try:
        return list(decode(read_content(path.parent, [path.name]), recipe))
    except FileNotFoundError:
        raise BadSource("file is gone") from None


def library_versions() -> dict[str, str]:
    """Return versions of all that decodes, by name of the library."""
    return {name: version for decoder in DECODERS for name, version in decoder.versions().items()}
