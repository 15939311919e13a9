"""Screening: why a DICOM file is no picture of MR that could be learned from."""

from collections.abc import Sequence

from mri_hpc.base.errors import BadSource
from mri_hpc.intake.decoding.dicom.header import Header, Protocol

MR_CLASSES = (
    "1.2.840.10008.5.1.4.1.1.4",
    "1.2.840.10008.5.1.4.1.1.4.1",
    "1.2.840.10008.5.1.4.1.1.4.4",
)
REPORT, CAPTURE = "1.2.840.10008.5.1.4.1.1.88.", "1.2.840.10008.5.1.4.1.1.7"
DIRECTORY = "1.2.840.10008.1.3.10"
# Of others the word is not repeated: it may hold anything.
MODALITIES = (
    "CR", "CT", "DX", "ECG", "ES", "GM", "IO", "KO", "MG", "NM", "OP", "OPT", "OT", "PR", "PT", "PX", "REG",
    "RF", "RTDOSE", "RTIMAGE", "RTPLAN", "RTSTRUCT", "SEG", "SM", "SR", "US", "XA", "XC",
)  # fmt: skip
SCREENS = ("SCREEN SAVE", "SCREENSHOT", "SCREEN_SAVE")
PROJECTIONS = ("PROJECTION IMAGE", "MIP", "MINIP")
NO_PIXELS = "DICOM without pixels"
CAPTURED = "screenshot or secondary capture, not a slice as the scanner made it"
LOCALISER_TYPE = "localiser: to plan other slices by"
PROJECTION = "projection through many slices, not a slice"
BURNT_IN = "text burnt into the picture, as its header says (BurnedInAnnotation)"


def check_is_mr(header: Header) -> None:
    """Raise BadSource where a file is not one of MR slices."""
    reason = why_no_mr(header.protocol, header.kind.image_type, has_pixels=header.has_pixels)
    if reason:
        raise BadSource(reason)
    if header.protocol.is_burnt_in:
        raise BadSource(BURNT_IN)


def why_no_mr(protocol: Protocol, image_type: Sequence[str], *, has_pixels: bool = True) -> str:
    """Return why a file is not one of MR slices; empty where it is. has_pixels: as far as that is known."""
    if protocol.sop_class.startswith(REPORT):
        return "structured report, not a picture"
    if protocol.sop_class == DIRECTORY:
        return "list of DICOM files (DICOMDIR), not a picture"
    if protocol.modality != "MR" and not (not protocol.modality and protocol.sop_class in MR_CLASSES):
        named = f": {protocol.modality}" if protocol.modality in MODALITIES else ""
        return f"DICOM that is not MR{named}"
    if not has_pixels:
        return NO_PIXELS
    if (
        protocol.sop_class.startswith(CAPTURE)
        or protocol.conversion
        or any(part in SCREENS for part in image_type)
    ):
        return CAPTURED
    if "LOCALIZER" in image_type:
        return LOCALISER_TYPE
    if any(part in PROJECTIONS for part in image_type):
        return PROJECTION
    return ""
