"""Elements: the allow-list of what is read of a DICOM file. Nothing else of it is ever looked at."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydicom import Dataset

DICM, PREAMBLE_BYTES = b"DICM", 128
DAMAGED_DICOM = "damaged DICOM (copy it again)"
BIG_ENDIAN, DEFLATED = "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"
IMPLICIT, EXPLICIT = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1"
UNDEFINED = 0xFFFFFFFF
"""Length of what ends with a mark."""

# By these a length of four bytes follows, behind two that are empty.
LONG = frozenset((b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"))
SHORT = frozenset((
    b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FL", b"FD", b"IS", b"LO", b"LT", b"PN", b"SH", b"SL",
    b"SS", b"ST", b"TM", b"UI", b"UL", b"US",
))  # fmt: skip


class Tag(IntEnum):
    """Elements that are read: who, where, how pixels are kept, and what kind of picture it is.

    Descriptions and names of protocols are looked into for words of sequences, comments for the b-value of
    Canon, in memory: none is kept.
    """

    SYNTAX = 0x00020010
    CHARACTER_SET = 0x00080005
    IMAGE_TYPE = 0x00080008
    SOP_CLASS = 0x00080016
    INSTANCE = 0x00080018
    STUDY_DATE = 0x00080020
    SERIES_DATE = 0x00080021
    ACQUISITION_DATE = 0x00080022
    ACQUISITION_DATE_TIME = 0x0008002A
    ACQUISITION_TIME = 0x00080032
    ACCESSION = 0x00080050
    MODALITY = 0x00080060
    CONVERSION_TYPE = 0x00080064
    MANUFACTURER = 0x00080070
    CODE_VALUE = 0x00080100
    SERIES_DESCRIPTION = 0x0008103E
    MODEL = 0x00081090
    COMPLEX_COMPONENT = 0x00089208
    ACQUISITION_CONTRAST = 0x00089209
    PATIENT_ID = 0x00100020
    IDENTITY_REMOVED = 0x00120062
    DEIDENTIFICATION_CODES = 0x00120064
    CONTRAST_AGENT = 0x00180010
    AGENT_SEQUENCE = 0x00180012
    SCANNING_SEQUENCE = 0x00180020
    SEQUENCE_VARIANT = 0x00180021
    SEQUENCE_NAME = 0x00180024
    ANGIO_FLAG = 0x00180025
    SLICE_THICKNESS = 0x00180050
    REPETITION_TIME = 0x00180080
    ECHO_TIME = 0x00180081
    INVERSION_TIME = 0x00180082
    ECHO_NUMBER = 0x00180086
    SPACING_BETWEEN_SLICES = 0x00180088
    PROTOCOL_NAME = 0x00181030
    TRIGGER_TIME = 0x00181060
    FLIP_ANGLE = 0x00181314
    PULSE_SEQUENCE_NAME = 0x00189005
    ECHO_PULSE_SEQUENCE = 0x00189008
    ECHO_PLANAR = 0x00189018
    B_VALUE = 0x00189087
    GRADIENT = 0x00189089
    STUDY = 0x0020000D
    SERIES = 0x0020000E
    ACQUISITION_NUMBER = 0x00200012
    POSITION = 0x00200032
    ORIENTATION = 0x00200037
    TEMPORAL_POSITION = 0x00200100
    NUM_TIMES = 0x00200105
    COMMENTS = 0x00204000
    SAMPLES = 0x00280002
    PHOTOMETRIC = 0x00280004
    NUM_FRAMES = 0x00280008
    ROWS = 0x00280010
    COLUMNS = 0x00280011
    PIXEL_SPACING = 0x00280030
    BITS_ALLOCATED = 0x00280100
    BITS_STORED = 0x00280101
    HIGH_BIT = 0x00280102
    REPRESENTATION = 0x00280103
    BURNED_IN = 0x00280301
    VISUAL_FEATURES = 0x00280302
    DATES_MODIFIED = 0x00280303
    INTERCEPT = 0x00281052
    SLOPE = 0x00281053
    MODALITY_LUT = 0x00283000
    SHARED_GROUPS = 0x52009229
    PER_FRAME_GROUPS = 0x52009230
    PIXELS = 0x7FE00010


class Private(IntEnum):
    """Elements of vendors that are read: group, and the lower byte within the block of their creator."""

    MOSAIC_COUNT = 0x0019000A
    SIEMENS_B_VALUE = 0x0019000C
    SIEMENS_GRADIENT = 0x0019000E
    CSA_IMAGE = 0x00290010
    GE_COMPONENT = 0x0043002F
    GE_B_VALUE = 0x00430039
    PHILIPS_B_VALUE = 0x20010003
    UIH_B_VALUE = 0x00650009
    UIH_GRID_COUNT = 0x00650050
    UIH_GRID_FRAMES = 0x00650051


CREATORS = {
    Private.MOSAIC_COUNT: "SIEMENS MR HEADER",
    Private.SIEMENS_B_VALUE: "SIEMENS MR HEADER",
    Private.SIEMENS_GRADIENT: "SIEMENS MR HEADER",
    Private.CSA_IMAGE: "SIEMENS CSA HEADER",
    Private.GE_COMPONENT: "GEMS_PARM_01",
    Private.GE_B_VALUE: "GEMS_PARM_01",
    Private.PHILIPS_B_VALUE: "Philips Imaging DD 001",
    Private.UIH_B_VALUE: "Image Private Header",
    Private.UIH_GRID_COUNT: "Image Private Header",
    Private.UIH_GRID_FRAMES: "Image Private Header",
}
ALLOWED = frozenset(int(tag) for tag in Tag)
BLOCKS = range(0x10, 0x30)
"""Those that a creator may have taken."""
CREATOR_PLACES = frozenset(tag >> 16 << 16 | block for tag in Private for block in BLOCKS)
OF_CREATOR = {
    (group, creator): tuple(tag for tag, of in CREATORS.items() if (tag >> 16, of) == (group, creator))
    for group, creator in {(tag >> 16, creator) for tag, creator in CREATORS.items()}
}
"""Its private elements, by its group and name."""
WANTED = (
    ALLOWED
    | {tag >> 16 << 16 | block << 8 | tag & 0xFF for tag in Private for block in BLOCKS}
    | CREATOR_PLACES
)
"""All that is kept of a file, until it is known which creator took which block."""
SEQUENCES = (Tag.MODALITY_LUT, Tag.SHARED_GROUPS, Tag.PER_FRAME_GROUPS)
"""Those that have to be looked into."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Elements:
    """Raw values of the elements that are read of one file, by tag."""

    syntax: str
    """UID of the transfer syntax."""
    is_big_endian: bool
    values: Mapping[int, bytes]
    private: Mapping[Private, bytes]
    sequences: "Mapping[int, Sequence[Dataset]]" = field(default_factory=dict)
    """As pydicom gives them: those of SEQUENCES, and of a contrast agent, where pydicom was asked."""
    codes: tuple[str, ...] = ()
    """By which the file says it was de-identified."""
    pixels: memoryview | None = None
    """The value of the pixels; where they are encapsulated, items and all."""
    is_encapsulated: bool = False


def is_dicom(start: bytes) -> bool:
    """Tell whether first bytes are those of a DICOM file; some lack the preamble."""
    if start[PREAMBLE_BYTES : PREAMBLE_BYTES + 4] == DICM:
        return True
    group, element, kind = start[:2], start[2:4], start[4:6]
    if group == b"\2\0":
        return element == b"\0\0" and kind == b"UL"
    if group != b"\x08\0" or element not in (b"\0\0", b"\1\0", b"\5\0", b"\x08\0", b"\x16\0", b"\x18\0"):
        return False
    return kind in SHORT or start[6:8] == b"\0\0"


def private_values(found: Mapping[int, bytes]) -> dict[Private, bytes]:
    """Find the private elements in whichever block their creator took."""
    values = {}
    for place in sorted(found.keys() & CREATOR_PLACES):
        creator = found[place].strip(b"\0 ").decode("ascii", "replace")
        for tag in OF_CREATOR.get((place >> 16, creator), ()):
            value = found.get(place >> 16 << 16 | (place & 0xFF) << 8 | (tag & 0xFF))
            if value is not None:
                values[tag] = value
    return values
