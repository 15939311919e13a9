"""Stacks: TIFF and GIF, which hold one picture or the slices of a volume. The only user of tifffile.

A TIFF of one page of up to 8 bits is left to pictures.py. Otherwise:
- Each page of full size is an image. Reduced ones, which viewers keep beside them, are left out.
- MinIsWhite is inverted, of any depth. Of a palette's colours and of RGB the luma is taken.
- Three or four planes that tifffile calls colours may be slices, which it writes alike. Where all are the
  same they are grey; else nothing tells, and the file is rejected.
"""

import contextlib
import io
import logging
import struct
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from mri_hpc.base.errors import BadSource
from mri_hpc.base.version import version_of
from mri_hpc.intake.decoding.foreign import NOT_READ_YET
from mri_hpc.intake.decoding.grey_values import luma_of
from mri_hpc.intake.decoding.pictures import (
    DAMAGED,
    MAX_PIXELS,
    TRUNCATED,
    check_size,
    check_wrapped,
    damage,
    grey_of_picture,
    quietly,
    read_picture,
    turned,
)
from mri_hpc.intake.decoding.recipe import Recipe
from mri_hpc.intake.decoding.samples import NativeImage
from mri_hpc.intake.decoding.signatures import BIG_TIFF, GIF, TIFF
from mri_hpc.intake.files.content import Content

if TYPE_CHECKING:
    import tifffile

GIF_END = b";"
ORIENTATION = 274
MIN_IS_WHITE, MIN_IS_BLACK, RGB, PALETTE, YCBCR = 0, 1, 2, 3, 6
SEPARATE = 2
UNASSOCIATED_ALPHA = 2
REDUCED = 1
COUNTED = ("bitspersample", "samplesperpixel", "planarconfig", "photometric", "imagelength", "imagewidth")
MOST_FRAMES, MOST_PIXELS = 4096, 4 * MAX_PIXELS
LARGE_STACK = f"stack of more than {MOST_FRAMES} slices or {MOST_PIXELS // 1_000_000} million pixels"
SLICES_OR_COLOURS = "planes that may be slices or colours (save each slice as a page or a file of its own)"
SOUND_TIFF = "sound, but TIFF of this kind is not read (convert it to grey)"

# It says to a log what it makes of odd tags: of no use to anyone who adds a million files.
logging.getLogger("tifffile").disabled = True


class Stacks:
    """The decoder of files that may hold several pictures."""

    formats: tuple[str, ...] = ("TIFF", "GIF")

    def reads(self, start: bytes) -> bool:
        """As in Decoder."""
        return start.startswith((GIF, *TIFF, *BIG_TIFF))

    def decode(self, content: Content, recipe: Recipe) -> Iterator[NativeImage]:
        """As in Decoder."""
        (file,) = content.files
        return _gif(file.data) if content.start.startswith(GIF) else _tiff(file.data, recipe)

    def versions(self) -> Mapping[str, str]:
        """As in Decoder."""
        # Its own word would load it, for the sake of files that are no TIFFs.
        return {"tifffile": version_of("tifffile")}


def _gif(data: bytes) -> Iterator[NativeImage]:
    if not data.rstrip(b"\0").endswith(GIF_END):
        raise BadSource(TRUNCATED)
    try:
        with quietly(), Image.open(io.BytesIO(data), formats=["GIF"]) as picture:
            check_size(*picture.size)
            count: int = getattr(picture, "n_frames", 1)
            _check_stack([(picture.height, picture.width)] * count)
            for number in range(count):
                picture.seek(number)
                yield _image(grey_of_picture(picture), number, count)
    except DAMAGED as error:
        raise BadSource(damage(error)) from None


def _tiff(data: bytes, recipe: Recipe) -> Iterator[NativeImage]:
    pages = _pages(data)
    if pages is None or (len(pages) == 1 and _is_plain(pages[0])):
        yield NativeImage(grey=read_picture(data, recipe))
        return
    if len(pages) == 1 and not recipe.has_windows:
        # Stores of 0.1.0 go on with what it made of these.
        with contextlib.suppress(BadSource):
            yield NativeImage(grey=read_picture(data, recipe))
            return
    for page in pages:
        _check_page(page, len(data))
    _check_stack([(page.imagelength, page.imagewidth) for page in pages])
    for number, page in enumerate(pages):
        yield _image(_grey_of_page(page), number, len(pages))


def _image(grey: np.ndarray, number: int, count: int) -> NativeImage:
    check_wrapped(grey)
    if count == 1:
        return NativeImage(grey=grey)
    return NativeImage(grey=grey, frame=str(number), slice_index=number)


def _check_stack(shapes: list[tuple[int, int]]) -> None:
    for height, width in shapes:
        check_size(width, height)
    if len(shapes) > MOST_FRAMES or sum(h * w for h, w in shapes) > MOST_PIXELS:
        raise BadSource(LARGE_STACK)


def _unreadable() -> tuple[type[Exception], ...]:
    """List what tifffile is known to raise on damaged bytes."""
    import tifffile

    return (*DAMAGED, tifffile.TiffFileError, ArithmeticError)


def _pages(data: bytes) -> "list[tifffile.TiffPage] | None":
    """Read what a TIFF says of its pages of full size; None where it is damaged."""
    import tifffile

    try:
        with tifffile.TiffFile(io.BytesIO(data)) as tiff:
            pages = [page.aspage() for _number, page in zip(range(MOST_FRAMES + 1), tiff.pages, strict=False)]
            _check_chain(tiff.tiff, pages[-1], data)
            pages = [page for page in pages if not page.subfiletype & REDUCED]
    except _unreadable():
        return None
    # Damaged tags have several values.
    are_sound = all(isinstance(value, int) for page in pages for value in map(page.__getattribute__, COUNTED))
    return pages if pages and are_sound else None


def _check_chain(layout: "tifffile.TiffFormat", last: "tifffile.TiffPage", data: bytes) -> None:
    """Raise BadSource where a further page is said to lie beyond the end of the file."""
    (num_tags,) = struct.unpack_from(layout.tagnoformat, data, last.offset)
    place = last.offset + layout.tagnosize + num_tags * layout.tagsize
    (following,) = struct.unpack_from(layout.offsetformat, data, place)
    if following >= len(data):
        raise BadSource(TRUNCATED)


def _is_plain(page: "tifffile.TiffPage") -> bool:
    """Tell whether a page is read by Pillow as it is: up to 8 bits, in one plane, not a BigTIFF."""
    return page.bitspersample <= 8 and page.planarconfig != SEPARATE and not page.parent.is_bigtiff


def _check_page(page: "tifffile.TiffPage", num_bytes: int) -> None:
    """Raise BadSource where pixels are missing: they would be made up, or are of a kind that is not read."""
    ends = (o + n for o, n in zip(page.dataoffsets, page.databytecounts, strict=False))
    if not page.dataoffsets or not all(page.databytecounts) or max(ends) > num_bytes:
        raise BadSource(TRUNCATED)
    kind = page.photometric
    if kind not in (MIN_IS_WHITE, MIN_IS_BLACK, RGB, PALETTE, YCBCR) or page.imagedepth > 1:
        raise BadSource(f"{NOT_READ_YET}: {SOUND_TIFF}")
    if page.dtype is None or page.dtype.kind not in "uifb" or page.samplesperpixel > 4:
        raise BadSource(f"{NOT_READ_YET}: {SOUND_TIFF}")


def _grey_of_page(page: "tifffile.TiffPage") -> np.ndarray:
    try:
        samples = np.asarray(page.asarray())
        orientation = page.tags.valueof(ORIENTATION, 1)
    except _unreadable() as error:
        # Of a codec that is not there.
        if "imagecodecs" in str(error) or "COMPRESSION" in str(error):
            raise BadSource(f"{NOT_READ_YET}: {SOUND_TIFF}") from None
        raise BadSource(damage(error)) from None
    if samples.dtype.kind == "b":
        samples = samples.astype(np.uint8) * np.uint8(255)
    if page.planarconfig == SEPARATE and page.samplesperpixel > 1:
        samples = _joined_planes(samples, page)
    if samples.ndim == 3:
        grey = luma_of(_wide(samples), has_alpha=UNASSOCIATED_ALPHA in page.extrasamples)
    elif page.photometric == PALETTE:
        colours = np.moveaxis(np.asarray(page.colormap), 0, -1) >> 8
        grey = luma_of(colours[np.newaxis].astype(np.uint8))[0][samples]
    else:
        grey = _wide(samples)
    if page.photometric == MIN_IS_WHITE:
        grey = _inverted(grey, page.bitspersample)
    return turned(grey, int(orientation))


def _joined_planes(planes: np.ndarray, page: "tifffile.TiffPage") -> np.ndarray:
    """Put planes, (samples, h, w), side by side, or make one of equal ones; BadSource where nothing tells."""
    if (planes[1:] == planes[0]).all():
        return planes[0]
    if page.is_shaped:
        raise BadSource(SLICES_OR_COLOURS)
    return np.moveaxis(planes, 0, -1)


def _wide(samples: np.ndarray) -> np.ndarray:
    """Return samples as uint8, uint16, int32, float32 or float64 of this machine; uncopied if they are."""
    return samples.astype(_wide_type(samples.dtype), copy=False)


def _wide_type(dtype: np.dtype[Any]) -> np.dtype[Any]:
    if dtype.kind == "f":
        return np.dtype(np.float32 if dtype.itemsize < 8 else np.float64)
    if dtype in (np.uint8, np.uint16):
        return dtype.newbyteorder("=")
    return np.dtype(np.int32 if dtype.itemsize < 4 or dtype == np.int32 else np.float64)


def _inverted(grey: np.ndarray, bits: int) -> np.ndarray:
    """Turn white and black around."""
    if grey.dtype.kind == "u":
        return np.asarray((1 << bits) - 1, grey.dtype) - grey
    return np.asarray(grey.max() - grey + grey.min(), grey.dtype)
