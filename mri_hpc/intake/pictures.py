"""Pictures: bytes of a JPEG, PNG, BMP or TIFF to grey values as the file has them. The only user of Pillow.

The rules, with those of grey_values.py and square.py together named by `Recipe.decoder`:
- Grey is ITU-R 601 luma, which is what a JPEG's first component holds. Transparency lies on black.
- EXIF orientation is applied.
- A JPEG is shrunk while being decoded, to no less than the recipe's square needs.
- Pixels of more bits that an earlier program has wrapped into 8 (256 became 0) are beyond repair: rejected,
  where it shows. It does not in a JPEG that is shrunk while being decoded.
"""

import contextlib
import io
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
from mri_hpc.intake.content import Content
from mri_hpc.intake.recipe import Recipe
from mri_hpc.intake.samples import NativeImage
from mri_hpc.intake.square import fitted_shape

# Of four bytes, with the file that they come from, they fit into less than half a gigabyte.
MAX_PIXELS = 40_000_000
MIN_SIDE = 8
BAND_PIXELS = 2**20
STDERR = 2
EXIF, EXIF_ORIENTATION = b"Exif\0\0", 0x0112
MAX_EXIF_BYTES = 65536
JPEG, JPEG_SCAN, JPEG_END = b"\xff\xd8\xff", b"\xff\xda", b"\xff\xd9"
PNG = b"\x89PNG\r\n\x1a\n"
BMP, TIFF = b"BM", (b"II*\0", b"MM\0*")
TRUNCATED, DAMAGED_PICTURE = "truncated picture (copy it again)", "damaged picture (copy it again)"
SEVERAL_FRAMES = "several frames in one picture file (save each as a file of its own)"
WRAPPED = "more than 8 bits wrapped into 8, so that bright turns black (export it again)"
# In 2,400 MR slices of 512 x 512, at most 0.03 % of neighbours jump so; in wrapped ones 1 to 12 %.
WRAPPED_JUMP = 192
WRAPPED_FRACTION = 0.01
# Of such jumps, in most wrapped slices 0.33 to 1 climb on; of writing and masks at most 0.08, of noise 0.25.
WRAPPED_CLIMBS = 0.33

# Sizes are checked here, before any pixel is decoded, with a limit of our own.
Image.MAX_IMAGE_PIXELS = None

# What Pillow and libjpeg are known to raise on damaged bytes.
DAMAGED = (
    OSError, ValueError, SyntaxError, EOFError, IndexError, KeyError, TypeError, OverflowError,
    AttributeError, struct.error, zlib.error,
)  # fmt: skip


class Pictures:
    """The decoder of pictures: one file, one image."""

    formats: tuple[str, ...] = ("JPEG", "PNG", "BMP", "TIFF")

    def reads(self, start: bytes) -> bool:
        """As in Decoder."""
        return start.startswith((JPEG, PNG, BMP, *TIFF))

    def decode(self, content: Content, recipe: Recipe) -> Iterator[NativeImage]:
        """As in Decoder."""
        (file,) = content.files
        yield NativeImage(grey=read_picture(file.data, recipe))

    def versions(self) -> Mapping[str, str]:
        """As in Decoder."""
        return {"pillow": PIL.__version__, "simplejpeg": simplejpeg.__version__, "opencv": cv2.__version__}


def read_picture(data: bytes, recipe: Recipe) -> np.ndarray:
    """Decode a picture to grey values as the file has them, turned upright, as in `NativeImage.grey`.

    Raises BadSource where the bytes are damaged, too small, too large, or hold several frames.
    """
    grey = None
    if data.startswith(JPEG):
        grey = _decode_jpeg(data, recipe, _check_jpeg(data))
    elif data.startswith(PNG):
        _check_png(data)
    if grey is None:
        grey = _decode_by_pillow(data)
    if grey.dtype == np.uint8 and is_wrapped(grey):
        raise BadSource(WRAPPED)
    return grey


def _check_jpeg(data: bytes) -> int:
    """Find where pixels start; BadSource where a JPEG has no end, since decoders make it up with zeros."""
    position = 2
    while data[position : position + 2] != JPEG_SCAN and position < len(data):
        position += 2 + int.from_bytes(data[position + 2 : position + 4])
    # Within a scan these two bytes are nothing but the end, and most often they come last.
    if data.rfind(JPEG_END, position if position < len(data) else 0) < 0:
        raise BadSource(TRUNCATED)
    return position


def _check_png(data: bytes) -> None:
    """Raise BadSource where a PNG has no end, or pixels that its checksums deny: Pillow looks at neither."""
    position, kind = len(PNG), b""
    while kind != b"IEND":
        length, kind = struct.unpack(">I4s", data[position : position + 8].ljust(8, b"\0"))
        end = position + 12 + length
        if end > len(data):
            raise BadSource(TRUNCATED)
        # Small letters: metadata.
        if kind[:1].isupper() and data[end - 4 : end] != zlib.crc32(data[position + 4 : end - 4]).to_bytes(4):
            raise BadSource(DAMAGED_PICTURE)
        position = end


def _decode_jpeg(data: bytes, recipe: Recipe, scan: int) -> np.ndarray | None:
    """Decode luma, shrunk meanwhile to no less than is needed; None where Pillow has to see to it.

    scan: where the pixels begin.
    """
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
        grey = simplejpeg.decode_jpeg(data, "GRAY", min_height=fitted[0], min_width=fitted[1])
    except ValueError:
        return None
    return _turn(grey[:, :, 0], data, data[: min(scan, MAX_EXIF_BYTES)])


def _turn(grey: np.ndarray, data: bytes, header: bytes) -> np.ndarray:
    if EXIF not in header:
        return grey
    try:
        with _quietly(), Image.open(io.BytesIO(data), formats=["JPEG"]) as picture:
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


def _decode_by_pillow(data: bytes) -> np.ndarray:
    try:
        with _quietly(), Image.open(io.BytesIO(data), formats=list(Pictures.formats)) as picture:
            check_size(*picture.size)
            if picture.format in ("PNG", "TIFF") and getattr(picture, "n_frames", 1) > 1:
                raise BadSource(SEVERAL_FRAMES)
            with _libtiff_silenced() if picture.format == "TIFF" else contextlib.nullcontext():
                picture.load()
            # Pillow's own way makes a copy of all colours first.
            return turned(_grey(picture), picture.getexif().get(EXIF_ORIENTATION, 1))
    except DAMAGED as error:
        raise BadSource(_damage(error)) from None


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Keep Pillow from warning of odd metadata: of no use to anyone who adds a million files."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def _libtiff_silenced() -> Iterator[None]:
    """Lead stderr nowhere meanwhile: libtiff writes there what it makes of each damaged row."""
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


def is_wrapped(grey: np.ndarray) -> bool:
    """Tell whether brightness climbs over white and on from black, as in pixels that lost their upper bits.

    grey: uint8, (h, w). The edges of writing and of masks jump as far, but nothing climbs beside them.
    """
    rows = grey[::4]
    jumps = cv2.absdiff(rows[:, 1:-2], rows[:, 2:-1]) >= WRAPPED_JUMP
    if np.count_nonzero(jumps) < WRAPPED_FRACTION * jumps.size:
        return False
    # Steps on the circle of 256 values, where 255 lies beside 0.
    steps = np.sign(np.diff(rows, axis=1).view(np.int8))
    before, over, after = (steps[:, i : i + jumps.shape[1]][jumps] for i in range(3))
    return bool(np.mean((before == over) & (after == over)) >= WRAPPED_CLIMBS)


def _damage(error: Exception) -> str:
    text = str(error).lower()
    return TRUNCATED if "truncat" in text or "unexpected end" in text else DAMAGED_PICTURE


def _grey(picture: Image.Image) -> np.ndarray:
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
    """Convert some rows at a time, to (h, w): what lies between takes several times that room."""
    if picture.height <= _rows_of_band(picture):
        return np.asarray(convert(picture), dtype)
    grey = np.empty((picture.height, picture.width), dtype)
    for top, band in _bands(picture):
        grey[top : top + band.height] = convert(band)
    return grey


def _rows_of_band(picture: Image.Image) -> int:
    return max(1, BAND_PIXELS // picture.width)


def _bands(picture: Image.Image) -> Iterator[tuple[int, Image.Image]]:
    """Yield a picture some rows at a time, each part with its first row."""
    rows = _rows_of_band(picture)
    for top in range(0, picture.height, rows):
        yield top, picture.crop((0, top, picture.width, min(top + rows, picture.height)))


def png_bytes(grey: np.ndarray) -> bytes:
    """Encode a grey image as a PNG file. grey: uint8, (h, w)."""
    file = io.BytesIO()
    Image.fromarray(grey).save(file, "PNG")
    return file.getvalue()
