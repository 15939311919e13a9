"""Header: what is known of a DICOM file beside its pixels, as far as it is of use. It stays in memory.

Who is shown is kept apart from all else, so that nothing prints it by accident.
"""

import functools
import math
import re
import struct
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from mri_hpc.intake.decoding.dicom.elements import Elements, Private, Tag

# Others are text. A count of 48 slices has the bytes of the text "0": the type cannot be told from them.
BINARY = {
    Private.MOSAIC_COUNT: "u2", Private.GE_COMPONENT: "i2", Private.PHILIPS_B_VALUE: "f4",
    Private.UIH_B_VALUE: "f8",
}  # fmt: skip
GE_COMPONENTS = ("MAGNITUDE", "PHASE", "REAL", "IMAGINARY")
# GE adds this, or a multiple of it, to b-values to say how they came about.
GE_B_STEP = 1_000_000_000
# Canon writes no other place of classic files: b=1500(0.445,0.000,0.895).
CANON, OF_CANON = ("CANON", "TOSHIBA"), re.compile(r"b=(\d+(?:\.\d+)?)\(([-\d.,\s]*)\)", re.IGNORECASE)

MOST_KEPT = 128
"""Bytes of a value that is read but once where many files have it."""


@dataclass(frozen=True, kw_only=True)
class PixelFormat:
    """The layout of pixels in the file."""

    rows: int
    columns: int
    num_frames: int
    samples: int
    """Of a pixel: 3 of colours."""
    photometric: str
    bits_allocated: int
    bits_stored: int
    high_bit: int
    is_signed: bool
    syntax: str
    """UID of the transfer syntax."""


@dataclass(frozen=True, kw_only=True)
class Geometry:
    """The geometry of one frame, as DICOM has it: L, P, S in mm."""

    position: tuple[float, ...] = ()
    """Centre of the first pixel, (3,); empty where it is not told."""
    orientation: tuple[float, ...] = ()
    """Direction in which columns, then rows, are counted, (6,); empty where it is not told."""
    spacing: tuple[float, ...] = ()
    """Distance of rows, then of columns; empty where it is not told."""
    thickness: float = math.nan
    between: float = math.nan
    """Distance of slices as the file says; NaN where it does not."""


@dataclass(frozen=True, kw_only=True)
class Scale:
    """Makes the grey values that are meant of those stored."""

    slope: float = 1.0
    intercept: float = 0.0
    has_table: bool = False
    """True where a table (Modality LUT) is to be looked up in place of it."""


@dataclass(frozen=True, kw_only=True)
class Kind:
    """The kind of measurement, as far as it tells volumes and sequences apart."""

    image_type: tuple[str, ...] = ()
    component: str = ""
    """MAGNITUDE, PHASE, REAL, IMAGINARY; empty where it is not told."""
    echo_time: float = math.nan
    echo_number: float = math.nan
    inversion_time: float = math.nan
    b_value: float = math.nan
    gradient: tuple[float, ...] = ()
    temporal_position: float = math.nan
    acquisition: float = math.nan
    trigger_time: float = math.nan
    acquisition_time: float = math.nan
    """As the number that its digits make."""
    stack: str = ""
    """Name of the stack of frames in a multi-frame file."""


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """The kind of file, and what it says of its own de-identification."""

    modality: str = ""
    sop_class: str = ""
    conversion: str = ""
    is_burnt_in: bool = False
    identity_removed: str = ""
    """YES or NO, as the file says; empty where it does not."""
    deidentified_by: tuple[str, ...] = ()
    """Codes of PS3.15 (CID 7050) that the file lists."""


@dataclass(frozen=True, kw_only=True)
class Header:
    """All that is read of one file beside its pixels."""

    instance: str = field(repr=False)
    """Id of the picture, as the file has it. Never printed."""
    protocol: Protocol
    format: PixelFormat
    geometry: Geometry
    scale: Scale
    kind: Kind
    has_pixels: bool


class Values:
    """Values of elements, read one by one; what is damaged or missing reads as nothing."""

    def __init__(self, elements: Elements) -> None:
        self._values: Mapping[int, bytes] = elements.values
        self._private = elements.private
        self._order = ">" if elements.is_big_endian else "<"

    def texts(self, tag: Tag) -> tuple[str, ...]:
        """Return the parts of a text."""
        value = self._values.get(tag, b"")
        if len(value) <= MOST_KEPT and value.isascii():
            return _parts(value)
        value = value.rstrip(b"\0 ")
        return _split(self._decoded(value)) if value else ()

    def text(self, tag: Tag) -> str:
        """Return a text of one part; empty where there is none."""
        return next(iter(self.texts(tag)), "")

    def numbers(self, tag: Tag) -> tuple[float, ...]:
        """Return numbers that are written as text."""
        value = self._values.get(tag, b"")
        if len(value) <= MOST_KEPT and value.isascii():
            return _numbers(value)
        return decimals(self.texts(tag))

    def number(self, tag: Tag) -> float:
        """Return a number that is written as text; NaN where there is none."""
        return next(iter(self.numbers(tag)), math.nan)

    def word(self, tag: Tag, default: int = -1) -> int:
        """Return an unsigned number of 16 bits."""
        value = self._values.get(tag, b"")
        return struct.unpack_from(self._order + "H", value)[0] if len(value) >= 2 else default

    def doubles(self, tag: Tag) -> tuple[float, ...]:
        """Return floating-point numbers of 64 bits."""
        return _floats(self._values.get(tag, b""), self._order + "f8")

    def private(self, tag: Private) -> bytes:
        """Return the raw value of a vendor's element; empty where there is none."""
        return self._private.get(tag, b"")

    def private_number(self, tag: Private) -> float:
        """Return a vendor's number; NaN where there is none."""
        value = self.private(tag)
        if not value:
            return math.nan
        if tag in BINARY:
            return next(iter(_floats(value, self._order + BINARY[tag])), math.nan)
        text = value.rstrip(b"\0 ").decode("ascii", "replace")
        return next(iter(decimals(text.split("\\"))), math.nan)

    def _decoded(self, value: bytes) -> str:
        if value.isascii():
            return value.decode("ascii")
        from pydicom.charset import convert_encodings, decode_bytes

        named = self._values.get(Tag.CHARACTER_SET, b"").rstrip(b"\0 ").decode("ascii", "replace")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return decode_bytes(value, convert_encodings(named.split("\\")), {0x5C})
        except (LookupError, ValueError):
            return value.decode("latin-1")


@functools.lru_cache(maxsize=2048)
def _parts(value: bytes) -> tuple[str, ...]:
    """Return the parts of a text in ASCII. Most files of a series say the same."""
    value = value.rstrip(b"\0 ")
    return _split(value.decode("ascii")) if value else ()


def _split(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split("\\"))


@functools.lru_cache(maxsize=2048)
def _numbers(value: bytes) -> tuple[float, ...]:
    """Return the numbers that a text in ASCII writes."""
    return decimals(_parts(value))


def header_of(elements: Elements) -> Header:
    """Read the header of a file out of its elements."""
    values = Values(elements)
    kind = _kind(values)
    return Header(
        instance=values.text(Tag.INSTANCE),
        protocol=protocol_of(values, elements),
        format=_format(values, elements),
        geometry=_geometry(values),
        scale=_scale(values, elements),
        kind=kind,
        has_pixels=elements.pixels is not None and len(elements.pixels) > 0,
    )


def _format(values: Values, elements: Elements) -> PixelFormat:
    allocated = values.word(Tag.BITS_ALLOCATED, 0)
    stored = values.word(Tag.BITS_STORED, allocated)
    frames = values.number(Tag.NUM_FRAMES)
    return PixelFormat(
        rows=values.word(Tag.ROWS, 0),
        columns=values.word(Tag.COLUMNS, 0),
        num_frames=int(frames) if math.isfinite(frames) else 1,
        samples=values.word(Tag.SAMPLES, 1),
        photometric=values.text(Tag.PHOTOMETRIC),
        bits_allocated=allocated,
        bits_stored=stored,
        high_bit=values.word(Tag.HIGH_BIT, stored - 1),
        is_signed=values.word(Tag.REPRESENTATION, 0) == 1,
        syntax=elements.syntax,
    )


def _geometry(values: Values) -> Geometry:
    return Geometry(
        position=whole(values.numbers(Tag.POSITION), 3),
        orientation=whole(values.numbers(Tag.ORIENTATION), 6),
        spacing=whole(values.numbers(Tag.PIXEL_SPACING), 2),
        thickness=values.number(Tag.SLICE_THICKNESS),
        between=abs(values.number(Tag.SPACING_BETWEEN_SLICES)),
    )


def _scale(values: Values, elements: Elements) -> Scale:
    slope, intercept = values.number(Tag.SLOPE), values.number(Tag.INTERCEPT)
    return Scale(
        slope=1.0 if math.isnan(slope) or slope == 0 else slope,
        intercept=0.0 if math.isnan(intercept) else intercept,
        has_table=bool(elements.sequences.get(Tag.MODALITY_LUT)),
    )


def _kind(values: Values) -> Kind:
    return Kind(
        image_type=tuple(part.upper() for part in values.texts(Tag.IMAGE_TYPE)),
        component=component_of(values),
        echo_time=values.number(Tag.ECHO_TIME),
        echo_number=values.number(Tag.ECHO_NUMBER),
        inversion_time=values.number(Tag.INVERSION_TIME),
        b_value=b_value_of(values),
        gradient=_gradient(values),
        temporal_position=values.number(Tag.TEMPORAL_POSITION),
        acquisition=values.number(Tag.ACQUISITION_NUMBER),
        trigger_time=values.number(Tag.TRIGGER_TIME),
        acquisition_time=values.number(Tag.ACQUISITION_TIME),
    )


def component_of(values: Values) -> str:
    """Return the part of complex numbers that is shown; empty where it is not told."""
    component = values.text(Tag.COMPLEX_COMPONENT).upper()
    of_ge = values.private_number(Private.GE_COMPONENT)
    return GE_COMPONENTS[int(of_ge)] if not component and of_ge in (0, 1, 2, 3) else component


def b_value_of(values: Values) -> float:
    """Return the b-value, whoever's element tells it; NaN where none does."""
    standard = values.doubles(Tag.B_VALUE)
    if standard:
        return standard[0]
    of_ge = values.private_number(Private.GE_B_VALUE)
    if math.isfinite(of_ge):
        return of_ge % GE_B_STEP
    others = (Private.SIEMENS_B_VALUE, Private.PHILIPS_B_VALUE, Private.UIH_B_VALUE)
    found = next((b for b in map(values.private_number, others) if math.isfinite(b)), math.nan)
    comment = _of_canon(values) if math.isnan(found) else None
    return float(comment[1]) if comment else found


def _of_canon(values: Values) -> "re.Match[str] | None":
    if not values.text(Tag.MANUFACTURER).upper().startswith(CANON):
        return None
    return OF_CANON.fullmatch(values.text(Tag.COMMENTS))


def _gradient(values: Values) -> tuple[float, ...]:
    standard = values.doubles(Tag.GRADIENT)
    of_siemens = standard or _floats(values.private(Private.SIEMENS_GRADIENT), "<f8")
    comment = None if of_siemens else _of_canon(values)
    return whole(decimals(comment[2].split(",")), 3) if comment else of_siemens


def protocol_of(values: Values, elements: Elements) -> Protocol:
    """Read the kind of file, and what it says of its own de-identification."""
    return Protocol(
        modality=values.text(Tag.MODALITY),
        sop_class=values.text(Tag.SOP_CLASS),
        conversion=values.text(Tag.CONVERSION_TYPE),
        is_burnt_in=values.text(Tag.BURNED_IN).upper() == "YES",
        identity_removed=values.text(Tag.IDENTITY_REMOVED).upper(),
        # Others are texts of whoever wrote them.
        deidentified_by=tuple(code for code in elements.codes if code.isdigit()),
    )


def whole(numbers: Sequence[float], count: int) -> tuple[float, ...]:
    """Return the numbers where all are there and finite; else none."""
    return tuple(numbers) if len(numbers) == count and all(map(math.isfinite, numbers)) else ()


def decimals(texts: Sequence[str]) -> tuple[float, ...]:
    """Return the numbers that texts write; NaN for one that writes none."""
    return tuple(map(_decimal, texts))


def _decimal(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _floats(value: bytes, kind: str) -> tuple[float, ...]:
    size = np.dtype(kind).itemsize
    if not value or len(value) % size:
        return ()
    return tuple(np.frombuffer(value, kind).astype(float).tolist())
