"""Named: the ids in a DICOM file, its kind and scanner, read of the first bytes as a rule."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

from mri_hpc.base.errors import BadSource
from mri_hpc.intake.decoding.dicom.elements import DICM, PREAMBLE_BYTES, Elements, Tag, is_dicom
from mri_hpc.intake.decoding.dicom.reader import read_elements
from mri_hpc.intake.decoding.dicom.walk import NotPlain, walk_to_ids
from mri_hpc.intake.files.content import MAX_BYTES, opened_file
from mri_hpc.intake.labels.id_rows import HeaderIds

FIRST_BYTES = 2**14
"""Of a file: most often all up to the ids lies in these."""
ID_DIGITS = 32
DAMAGED = "~"
"""In place of the digest of what a file shows."""


@dataclass(frozen=True, kw_only=True)
class Named(HeaderIds):
    """The ids in one file. Never printed."""

    instance: str = field(default="", repr=False)
    """Digest of its id, and of what it shows where others have this id; empty where it names none."""
    kind: str = ""
    """Kind of sequence; empty of what is no slice of MR."""
    scanner: str = ""
    """Maker and model, as far as known; empty where they are not told."""


def named_in(path: Path) -> Named | None:
    """Read the ids in a file; empty ones where it is no DICOM, None where it cannot be read."""
    try:
        with opened_file(path) as file:
            start = file.read(PREAMBLE_BYTES + len(DICM))
            if not is_dicom(start):
                return Named()
            start += file.read(FIRST_BYTES)
            elements = _elements_in(start)
            return named_of(elements or read_elements(start + file.read(MAX_BYTES)))
    except OSError:
        return None
    except BadSource:
        return Named()


def named_of(elements: Elements) -> Named:
    """Return the ids that a file names."""
    # Loaded when the first DICOM comes: most sources hold none.
    from mri_hpc.intake.decoding.dicom.header import Values
    from mri_hpc.intake.decoding.dicom.protocols import kind_of
    from mri_hpc.intake.decoding.dicom.scanners import scanner_in

    values = Values(elements)
    instance = values.text(Tag.INSTANCE)
    return Named(
        series=_plain(values.text(Tag.SERIES)),
        instance=hashlib.sha256(instance.encode()).hexdigest()[:ID_DIGITS] if instance else "",
        study=_plain(values.text(Tag.STUDY)),
        patient=_plain(values.text(Tag.PATIENT_ID)),
        accession=_plain(values.text(Tag.ACCESSION)),
        kind=kind_of(elements),
        scanner=scanner_in(elements),
    )


def descriptions_in(path: Path) -> tuple[str, ...]:
    """Return what a file calls its series, to be looked into; none where it cannot be read. Never printed."""
    from mri_hpc.intake.decoding.dicom.header import Values
    from mri_hpc.intake.decoding.dicom.protocols import texts_in

    try:
        with opened_file(path) as file:
            start = file.read(PREAMBLE_BYTES + len(DICM) + FIRST_BYTES)
            elements = _elements_in(start) or read_elements(start + file.read(MAX_BYTES))
    except (OSError, BadSource):
        return ()
    return tuple(texts_in(Values(elements)))


def shown_by(path: Path) -> str:
    """Return a digest of what a file shows, whatever it is coded by; DAMAGED where it cannot be read."""
    from mri_hpc.intake.decoding.dicom.header import header_of
    from mri_hpc.intake.decoding.dicom.pixels import FramePixels

    try:
        with opened_file(path) as file:
            data = file.read()
    except (OSError, BadSource):
        return DAMAGED
    digest = hashlib.sha256()
    try:
        elements = read_elements(data)
        header = header_of(elements)
        pixels = FramePixels(elements, header.format)
        digest.update(repr((header.geometry, header.scale, header.kind)).encode())
        for number in range(header.format.num_frames):
            digest.update(pixels.read(number).tobytes())
    except BadSource:
        return DAMAGED
    return digest.hexdigest()[:ID_DIGITS]


def _elements_in(start: bytes) -> Elements | None:
    """Read what is needed in the first bytes of a file; None where more are."""
    from mri_hpc.intake.decoding.dicom.protocols import tells_in_groups

    try:
        elements = walk_to_ids(start)
    except NotPlain:
        return None
    return None if tells_in_groups(elements) else elements


def _plain(text: str) -> str:
    return text.replace("\0", "")
