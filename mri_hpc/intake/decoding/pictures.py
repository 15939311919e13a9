"""Pictures: bytes of a JPEG, PNG, BMP or the like to grey values as the file has them, mostly by Pillow.

The rules, with those of grey_values.py and square.py together named by `Recipe.decoder`:
- Grey is ITU-R 601 luma, which is what a JPEG's first component holds. Transparency lies on black.
- EXIF orientation is applied.
- A JPEG is shrunk while being decoded, to no less than the recipe's square needs.
- Pixels of more bits that an earlier program has wrapped into 8 are beyond repair: rejected; see wrapped.py.
"""

import contextlib
import io
import math
import os
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator, Mapping

import cv2
import numpy as np
import PIL
import simplejpeg
from PIL import Image

from mri_hpc.base.errors import BadSource
from mri_hpc.intake.decoding import coded
from mri_hpc.intake.decoding.foreign import NOT_READ_YET
from mri_hpc.intake.decoding.grey_values import BAND_PIXELS, bands, luma_of
from mri_hpc.intake.decoding.recipe import Recipe
from mri_hpc.intake.decoding.samples import NativeImage
from mri_hpc.intake.decoding.signatures import BMP, JPEG, JPEG_2000, JPEG_END, JPEG_FRAMES, JPEG_SCAN, PNG
from mri_hpc.intake.decoding.square import fitted_shape
from mri_hpc.intake.decoding.wrapped import is_wrapped, may_be_wrapped
from mri_hpc.intake.files.content import Content

# Of four bytes, with the file that they come from, they fit into less than half a gigabyte.
MAX_PIXELS = 40_000_000
MIN_SIDE = 8
STDERR = 2
PLAIN_CHUNKS = {b"IHDR", b"IDAT", b"IEND", b"pHYs", b"tIME", b"sBIT", b"gAMA", b"cHRM", b"sRGB", b"bKGD"}
"""Chunks of a PNG that holds grey values alone: no transparency, orientation or further frames."""
EXIF, EXIF_ORIENTATION = b"Exif\0\0", 0x0112
MAX_EXIF_BYTES = 65536
STARTS = (JPEG, PNG, BMP, *JPEG_2000)
AVIF = (b"ftypavif", b"ftypavis")
TRUNCATED, DAMAGED_PICTURE = "truncated picture (copy it again)", "damaged picture (copy it again)"
SEVERAL_FRAMES = "several frames in one picture file (save each as a file of its own)"
SOUND_JPEG = "sound, but JPEG of this kind is not read (convert it)"
WRAPPED = "more than 8 bits wrapped into 8, so that bright turns black (export it again)"

# Sizes are checked here, before any pixel is decoded, with a limit of our own.
Image.MAX_IMAGE_PIXELS = None

# What Pillow and libjpeg are known to raise on damaged bytes.
DAMAGED = (
    OSError, ValueError, SyntaxError, EOFError, IndexError, KeyError, TypeError, OverflowError,
    AttributeError, struct.error, zlib.error, RuntimeError,
)  # fmt: skip
# By the names that Pillow has for them. A TIFF is led here by stacks.py.
OPENED = ["JPEG", "PNG", "BMP", "TIFF", "JPEG2000", "AVIF"]


class Pictures:
    """The decoder of pictures: one file, one image."""

    formats: tuple[str, ...] = ("JPEG", "PNG", "BMP", "JPEG 2000", "AVIF")

    def reads(self, start: bytes) -> bool:
        """As in Decoder."""
        return start.startswith(STARTS) or start[4:12] in AVIF

    def decode(self, content: Content, recipe: Recipe) -> Iterator[NativeImage]:
        """As in Decoder."""
        (file,) = content.files
        yield NativeImage(grey=read_picture(file.data, recipe))

    def versions(self) -> Mapping[str, str]:
        """As in Decoder."""
        ours = {"pillow": PIL.__version__, "simplejpeg": simplejpeg.__version__, "opencv": cv2.__version__}
        return {**ours, **coded.versions()}


def read_picture(data: bytes, recipe: Recipe) -> np.ndarray:
    """Decode a picture to grey values as the file has them, turned upright, as in `NativeImage.grey`.

    Raises BadSource where the bytes are damaged, too small, too large, or hold several frames.
    """
    if data.startswith(JPEG) and (shrunk := _decode_jpeg(data, recipe)) is not None:
        return shrunk
    grey = _decode_grey_png(data) if data.startswith(PNG) else None
    if grey is None:
        grey = _decode_by_pillow(data, recipe)
    check_wrapped(grey)
    return grey


def at_full_size(data: bytes, grey: np.ndarray) -> np.ndarray:
    """Return a picture as large as its file has it, not turned. grey: as read_picture has given it."""
    if not data.startswith(JPEG):
        return grey
    try:
        height, width, *_others = simplejpeg.decode_jpeg_header(data)
        whole = grey if grey.size >= height * width else simplejpeg.decode_jpeg(data, "GRAY")[:, :, 0]
    except ValueError:
        return grey
    return np.asarray(whole)


def check_wrapped(grey: np.ndarray) -> None:
    """Raise BadSource where a picture of 8 bits, (h, w), has lost upper ones."""
    if grey.dtype == np.uint8 and is_wrapped(grey):
        raise BadSource(WRAPPED)


def _check_jpeg(data: bytes) -> tuple[int, int]:
    """Find where pixels start, and before them the frame, 0 for nowhere; BadSource where there is no end.

    Decoders make up with zeros what is missing.
    """
    position, frame = 2, 0
    while data[position : position + 2] != JPEG_SCAN and position < len(data):
        frame = position if data[position : position + 2] in JPEG_FRAMES else frame
        position += 2 + int.from_bytes(data[position + 2 : position + 4])
    # Within a scan these two bytes are nothing but the end, and most often they come last.
    if data.rfind(JPEG_END, position if position < len(data) else 0) < 0:
        raise BadSource(TRUNCATED)
    return position, frame


def _check_png(data: bytes) -> set[bytes]:
    """Find the kinds of a PNG's chunks; BadSource where it has no end, or pixels that its checksums deny.

    Pillow looks at neither.
    """
    position, kind, view = len(PNG), b"", memoryview(data)
    kinds: set[bytes] = set()
    while kind != b"IEND":
        length, kind = struct.unpack(">I4s", data[position : position + 8].ljust(8, b"\0"))
        end = position + 12 + length
        if end > len(data):
            raise BadSource(TRUNCATED)
        is_metadata = not kind[:1].isupper()
        crc = int.from_bytes(data[end - 4 : end])
        if not is_metadata and coded.crc32(view[position + 4 : end - 4]) != crc:
            raise BadSource(DAMAGED_PICTURE)
        kinds.add(kind)
        position = end
    return kinds


def _decode_grey_png(data: bytes) -> np.ndarray | None:
    """Decode a PNG of grey values and nothing else, in less time; None where Pillow has to see to it."""
    kinds = _check_png(data)
    header = struct.unpack(">4sIIBBxxB", data[12:29].ljust(17, b"\0"))
    first, width, height, depth, colour, is_interlaced = header
    is_grey = first == b"IHDR" and depth in (8, 16) and colour == 0
    if is_interlaced or not is_grey or not kinds <= PLAIN_CHUNKS:
        return None
    check_size(width, height)
    try:
        with _silenced():
            grey = coded.decode_png(data)
    except DAMAGED:
        return None
    return grey if grey.shape == (height, width) else None


def _decode_jpeg(data: bytes, recipe: Recipe) -> np.ndarray | None:
    """Decode luma, shrunk meanwhile to no less than is needed; None where Pillow has to see to it."""
    scan, frame = _check_jpeg(data)
    if frame and not (data[frame : frame + 2] in coded.SHRINKING and data[frame + 4] == 8):
        return _decode_rare_jpeg(data, frame)
    try:
        height, width, space, _subsampling = simplejpeg.decode_jpeg_header(data)
    except ValueError:
        return None
    check_size(width, height)
    if space not in ("Gray", "YCbCr"):
        return None
    # The largest of both sides serves pictures that EXIF turns, too.
    fitted = fitted_shape(height, width, recipe)
    try:
        grey = _luma(data, (height, width), fitted)
    except ValueError:
        return None
    return _turn(grey, data, data[: min(scan, MAX_EXIF_BYTES)])


def _luma(data: bytes, shape: tuple[int, int], least: tuple[int, int]) -> np.ndarray:
    """Decode luma, shrunk to no less than `least`; BadSource where the whole, of `shape`, is wrapped."""
    grey = simplejpeg.decode_jpeg(data, "GRAY", min_height=least[0], min_width=least[1])[:, :, 0]
    whole = grey
    if grey.shape != shape:
        if not may_be_wrapped(grey, num_pixels=math.prod(shape), num_bytes=len(data)):
            return grey
        whole = simplejpeg.decode_jpeg(data, "GRAY")[:, :, 0]
    if is_wrapped(whole):
        raise BadSource(WRAPPED)
    return grey


def _decode_rare_jpeg(data: bytes, frame: int) -> np.ndarray:
    """Decode a lossless JPEG, or one of more than 8 bits. frame: where it is described."""
    height, width = struct.unpack(">HH", data[frame + 5 : frame + 9].ljust(4, b"\0"))
    check_size(width, height)
    try:
        grey = grey_of(coded.decode_jpeg(data))
    except DAMAGED as error:
        if data[frame : frame + 2] in coded.READ:
            raise BadSource(damage(error)) from None
        grey = np.empty((0, 0))
    if grey.shape != (height, width):
        raise BadSource(f"{NOT_READ_YET}: {SOUND_JPEG}")
    return grey


def _turn(grey: np.ndarray, data: bytes, header: bytes) -> np.ndarray:
    if EXIF not in header:
        return grey
    try:
        with quietly(), Image.open(io.BytesIO(data), formats=["JPEG"]) as picture:
            orientation = picture.getexif().get(EXIF_ORIENTATION, 1)
    except DAMAGED:
        return grey
    return turned(grey, orientation)


def turned(grey: np.ndarray, orientation: int) -> np.ndarray:
    """Turn an image upright. orientation: as EXIF numbers them, 1 to 8; others mean upright."""
    turns = {3: 2, 4: 2, 5: 1, 6: 3, 7: 3, 8: 1}
    upright = np.rot90(grey, turns.get(orientation, 0))
    mirrored = {2: 1, 4: 1, 5: 0, 7: 0}
    if orientation in (2, 4):
        upright = upright[:, ::-1]
    elif orientation in mirrored:
        upright = upright[::-1, :]
    return np.ascontiguousarray(upright)


def _decode_by_pillow(data: bytes, recipe: Recipe) -> np.ndarray:
    try:
        with quietly(), Image.open(io.BytesIO(data), formats=OPENED) as picture:
            check_size(*picture.size)
            if picture.format in ("PNG", "TIFF", "AVIF") and getattr(picture, "n_frames", 1) > 1:
                raise BadSource(SEVERAL_FRAMES)
            grey = _decode_otherwise(data, picture.format, recipe)
            if grey is None:
                with _silenced() if picture.format == "TIFF" else contextlib.nullcontext():
                    picture.load()
                grey = grey_of_picture(picture)
            # Pillow's own way makes a copy of all colours first.
            return turned(grey, picture.getexif().get(EXIF_ORIENTATION, 1))
    except DAMAGED as error:
        raise BadSource(damage(error)) from None


def _decode_otherwise(data: bytes, kind: str | None, recipe: Recipe) -> np.ndarray | None:
    """Decode what Pillow would cut to 8 bits; None where it does not."""
    if kind == "JPEG2000":
        return grey_of(coded.decode_jpeg2000(data))
    if kind == "AVIF":
        return grey_of(coded.decode_avif(data))
    # Of grey ones Pillow keeps all, and stores of 0.1.0 go on with what it made of the others.
    if kind == "PNG" and data[24] == 16 and data[25] != 0 and recipe.has_windows:
        return grey_of(coded.decode_png(data))
    return None


def grey_of(samples: np.ndarray) -> np.ndarray:
    """Make grey, (h, w), of samples as a codec gives them; of two or four, the last is transparency."""
    if samples.ndim == 2:
        return samples
    return luma_of(samples, has_alpha=samples.shape[2] in (2, 4))


@contextlib.contextmanager
def quietly() -> Iterator[None]:
    """Keep Pillow from warning of odd metadata: of no use to anyone who adds a million files."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def _silenced() -> Iterator[None]:
    """Lead stderr nowhere meanwhile: libtiff writes there of each damaged row, libpng of bytes too many."""
    with contextlib.ExitStack() as undo:
        # Whatever the state of the descriptors is, it says nothing about the picture.
        with contextlib.suppress(OSError):
            kept = os.dup(STDERR)
            undo.callback(os.close, kept)
            nowhere = os.open(os.devnull, os.O_WRONLY)
            undo.callback(os.close, nowhere)
            os.dup2(nowhere, STDERR)
            undo.callback(os.dup2, kept, STDERR)
        yield


def check_size(width: int, height: int) -> None:
    """Raise BadSource where a picture is too small to show anything, or so large that it may be an attack."""
    if min(width, height) < MIN_SIDE:
        raise BadSource(f"picture smaller than {MIN_SIDE} pixels on a side")
    if width * height > MAX_PIXELS:
        raise BadSource(f"picture larger than {MAX_PIXELS // 1_000_000} million pixels")


def damage(error: Exception) -> str:
    """Name the reason for what a library says of damaged bytes."""
    text = str(error).lower()
    return TRUNCATED if "truncat" in text or "unexpected end" in text else DAMAGED_PICTURE


def grey_of_picture(picture: Image.Image) -> np.ndarray:
    """Make grey, (h, w), of any of Pillow's modes: uint8, or as it is where that has more bits."""
    if picture.mode.startswith("I;16"):
        return _by_bands(picture, np.asarray, np.uint16)
    if picture.mode in ("I", "F"):
        return _by_bands(picture, np.asarray, np.int32 if picture.mode == "I" else np.float32)
    return _by_bands(picture, _grey_of_band, np.uint8)


def _grey_of_band(band: Image.Image) -> np.ndarray:
    mode = band.mode
    if "transparency" in band.info or mode in ("LA", "La", "PA", "RGBA", "RGBa"):
        layered = band.convert("RGBA")
        black = Image.new("RGBA", layered.size, (0, 0, 0, 255))
        return np.asarray(Image.alpha_composite(black, layered).convert("L"))
    if mode in ("CMYK", "YCbCr", "LAB", "HSV", "P", "RGBX"):
        band = band.convert("RGB")
    return np.asarray(band.convert("L"))


def _by_bands(
    picture: Image.Image, convert: Callable[[Image.Image], np.ndarray], dtype: type[np.generic]
) -> np.ndarray:
    """Convert some rows at a time, to (h, w)."""
    if picture.width * picture.height <= BAND_PIXELS:
        return np.asarray(convert(picture), dtype)
    grey = np.empty((picture.height, picture.width), dtype)
    for rows in bands(picture.height, picture.width):
        grey[rows] = convert(picture.crop((0, rows.start, picture.width, rows.stop)))
    return grey


def png_bytes(grey: np.ndarray) -> bytes:
    """Encode a grey image as a PNG file. grey: uint8, (h, w)."""
    file = io.BytesIO()
    Image.fromarray(grey).save(file, "PNG")
    return file.getvalue()
