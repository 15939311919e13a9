"""Screening: why a DICOM file is no picture of MR that could be learned from."""

from mri_hpc.base.errors import BadSource
from mri_hpc.intake.decoding.dicom.header import Header

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
    protocol, image_type = header.protocol, header.kind.image_type
    if protocol.sop_class.startswith(REPORT):
        raise BadSource("structured report, not a picture")
    if protocol.sop_class == DIRECTORY:
        raise BadSource("list of DICOM files (DICOMDIR), not a picture")
    if protocol.modality != "MR" and not (not protocol.modality and protocol.sop_class in MR_CLASSES):
        named = f": {protocol.modality}" if protocol.modality in MODALITIES else ""
        raise BadSource(f"DICOM that is not MR{named}")
    if not header.has_pixels:
        raise BadSource(NO_PIXELS)
    if (
        protocol.sop_class.startswith(CAPTURE)
        or protocol.conversion
        or any(part in SCREENS for part in image_type)
    ):
        raise BadSource(CAPTURED)
    if "LOCALIZER" in image_type:
        raise BadSource(LOCALISER_TYPE)
    if any(part in PROJECTIONS for part in image_type):
        raise BadSource(PROJECTION)
    if protocol.is_burnt_in:
        raise BadSource(BURNT_IN)
