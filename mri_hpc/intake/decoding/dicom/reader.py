"""The reader of DICOM files: the plain way, and pydicom for all that is not plain.

That is what is deflated or big-endian, has no word about its syntax, or has functional groups.
"""

import io
import logging
import warnings
import zlib
from typing import TYPE_CHECKING

from mri_hpc.base.errors import BadSource
from mri_hpc.intake.decoding.dicom.elements import (
    ALLOWED,
    BIG_ENDIAN,
    DAMAGED_DICOM,
    DEFLATED,
    EXPLICIT,
    IMPLICIT,
    SEQUENCES,
    UNDEFINED,
    WANTED,
    Elements,
    Tag,
    private_values,
)
from mri_hpc.intake.decoding.dicom.walk import NotPlain, meta_of, walk
from mri_hpc.intake.decoding.pictures import DAMAGED

if TYPE_CHECKING:
    import pydicom

MOST_INFLATED = 256 * 2**20


def read_elements(data: bytes) -> Elements:
    """Read what is allowed of a file; BadSource where it is damaged."""
    try:
        return walk(data)
    except NotPlain:
        return ask_pydicom(data)


def ask_pydicom(data: bytes) -> Elements:
    """Read any DICOM file by pydicom; BadSource where it cannot."""
    import pydicom

    # Values that break a rule of their type are checked where they are used; a warning would show them.
    pydicom.config.settings.reading_validation_mode = pydicom.config.IGNORE
    logging.getLogger("pydicom").disabled = True
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            read, syntax = _read_by_pydicom(data)
            raw = _raw_values(read)
            sequences = {
                int(tag): list(read[tag].value or ())
                for tag in (*SEQUENCES, Tag.AGENT_SEQUENCE)
                if tag in read
            }
            removed = read.get(Tag.DEIDENTIFICATION_CODES)
            codes = tuple(str(code.get("CodeValue", "")) for code in removed.value) if removed else ()
    except (pydicom.errors.InvalidDicomError, pydicom.errors.BytesLengthException, *DAMAGED, RecursionError):
        raise BadSource(DAMAGED_DICOM) from None
    element = read.get_item(Tag.PIXELS)
    pixels = raw.pop(Tag.PIXELS, None)
    return Elements(
        syntax=syntax,
        is_big_endian=syntax == BIG_ENDIAN,
        values={tag: value for tag, value in raw.items() if tag in ALLOWED},
        private=private_values(raw),
        sequences=sequences,
        codes=codes,
        pixels=memoryview(pixels) if pixels is not None else None,
        is_encapsulated=element is not None and getattr(element, "length", 0) == UNDEFINED,
    )


def _read_by_pydicom(data: bytes) -> "tuple[pydicom.FileDataset, str]":
    """Return what pydicom reads of a file, and the transfer syntax."""
    import pydicom

    inflated = _inflated(data)
    read = pydicom.dcmread(io.BytesIO(inflated or data), force=True, specific_tags=[*WANTED])
    is_implicit, is_little_endian = read.original_encoding
    syntax = DEFLATED if inflated else str(read.file_meta.get("TransferSyntaxUID", ""))
    if not is_little_endian:
        return read, BIG_ENDIAN
    return read, syntax or (IMPLICIT if is_implicit else EXPLICIT)


def _inflated(data: bytes) -> bytes:
    """Return the data set of a deflated file; nothing of any other."""
    try:
        syntax, place = meta_of(data)
    except NotPlain:
        return b""
    if syntax != DEFLATED:
        return b""
    inflating = zlib.decompressobj(wbits=-zlib.MAX_WBITS)
    found = inflating.decompress(data[place:], MOST_INFLATED)
    if not inflating.eof and inflating.unconsumed_tail:
        raise BadSource(f"DICOM of more than {MOST_INFLATED // 2**20} MiB")
    return found


def _raw_values(read: "pydicom.FileDataset") -> dict[int, bytes]:
    """Return values as the file has them; of sequences none."""
    raw = {}
    # Iterating over a data set itself would decode each element.
    for tag, element in read.items():
        value = getattr(element, "value", None)
        raw[int(tag)] = value if isinstance(value, bytes) else b""
    return raw
