"""Sources with a string of its own planted in every text that they carry, so that what leaks is found.

DICOM: in each element of text of the dictionary, in sequences two deep, in private elements, in the head of
the file and behind the pixels. Pictures: in the comments that their formats have. And in all names of folders
and files, but for that of the class.
"""

import datetime
import functools
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, PngImagePlugin
from pydicom.config import disable_value_validation
from pydicom.datadict import dictionary_VR, keyword_dict
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

TEXTS = {"AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT", "DA", "DT", "TM", "UI"}
IDENTITY = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "StudyID",
)
# What says how the pixels are to be read and what they are of: another value would be another file.
KEPT = {
    "Modality", "SOPClassUID", "SpecificCharacterSet", "ImageType", "FrameType", "PatientPosition",
    "PhotometricInterpretation", "BodyPartExamined", "MRAcquisitionType",
    "AnatomicalOrientationType", "BurnedInAnnotation", "RescaleType", "ModalityLUTType",
    "VolumetricProperties",
    "ComplexImageComponent", "PixelPresentation", "PresentationLUTShape", "ScanningSequence",
    "SequenceVariant", "ScanOptions", "LossyImageCompression", "SOPInstanceUID", "InstanceUID",
    "PatientIdentityRemoved", "LongitudinalTemporalInformationModified",
}  # fmt: skip
SEARCHED = {
    "SeriesDescription": "t1",
    "ProtocolName": "t1",
    "SequenceName": "se",
    "Manufacturer": "SIEMENS",
    "ManufacturerModelName": "Aera",
}
GROUPS = {0x0008, 0x0010, 0x0012, 0x0018, 0x0020, 0x0028, 0x0032, 0x0038, 0x0040, 0x0088, 0x4008}
SPREAD = 2654435761
"""Odd, so that no two numbers give the same; and their strings have little in common."""
SHARE = 40
"""Of the elements of the dictionary, one in so many is in a series, and the next ones in the next."""
SIDE = 48
FIRST_DAY = datetime.datetime(1901, 1, 1, tzinfo=datetime.UTC)
MALFORMED = 5
"""Libraries complain about values that are malformed, and name them: of so many series one has such."""


@dataclass
class Planted:
    """Sources, and what was planted in them."""

    root: Path
    strings: set[str] = field(default_factory=set)
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    def text(self, most: int = 64) -> str:
        """Return a string that is nowhere else."""
        return self._noted(f"PLANT{next(self._numbers) * SPREAD % 2**32:08X}Q"[:most])

    def value(self, vr: str, *, is_malformed: bool = False) -> str:
        """Return a value of its own for an element of a kind. is_malformed: no date is one, and no UID."""
        number = next(self._numbers)
        time = FIRST_DAY + datetime.timedelta(days=number % 40_000, seconds=number % 86_400)
        if is_malformed and vr in ("DA", "DT", "TM", "UI"):
            return self.text(16)
        if vr == "DA":
            return self._noted(f"{time:%Y%m%d}")
        if vr == "DT":
            return self._noted(f"{time:%Y%m%d%H%M%S}")
        if vr == "TM":
            return self._noted(f"{time:%H%M%S}.{number:06d}")
        if vr == "UI":
            return self._noted(f"1.2.826.0.1.99.1{number:09d}")
        return f"{self.text()}^{self.text()}" if vr == "PN" else self.text(16)

    def _noted(self, text: str) -> str:
        self.strings.add(text)
        return text


def plant_series(planted: Planted, number: int, label: str, slices: int = 2) -> None:
    """Write a series of MR slices, below a folder of its class and one that is called as its patient."""
    folder = planted.root / label / planted.text()
    folder.mkdir(parents=True)
    with disable_value_validation():
        _write_series(folder, planted, number, slices)


def _write_series(folder: Path, planted: Planted, number: int, slices: int) -> None:
    same = Dataset()
    same.Modality, same.SOPClassUID, same.PatientPosition = "MR", MRImageStorage, "HFS"
    same.ImageType = ["ORIGINAL", "PRIMARY", "M"]
    _plant_elements(same, planted, number)
    # What is looked into for words that are known, with one, and with more.
    for keyword, word in SEARCHED.items():
        if keyword == "Manufacturer" and "ImageComments" in same:
            # Those of other vendors are not looked into.
            word = "CANON"
        if keyword not in same:
            setattr(same, keyword, f"{word} {planted.text()}")
    same.RequestAttributesSequence = Sequence([_nested(planted, number, deep=2)])
    _plant_private(same, planted)
    for place in range(slices):
        _save(folder / f"{planted.text()}.dcm", _slice_of(same, planted, number, place), planted)


def plant_pictures(planted: Planted, label: str, count: int) -> None:
    """Write pictures with comments of their formats, below a folder that is called as their patient."""
    folder = planted.root / label / planted.text()
    folder.mkdir(parents=True)
    for number in range(count):
        picture = Image.fromarray(_head(number, 255).astype(np.uint8))
        notes = PngImagePlugin.PngInfo()
        notes.add_text("Comment", planted.text())
        notes.add_text("Author", planted.text(), zip=False)
        picture.save(folder / f"{planted.text()}.png", pnginfo=notes)
        exif = Image.Exif()
        exif[0x010E], exif[0x013B] = planted.text(), planted.text()
        picture.save(folder / f"{planted.text()}.jpg", exif=exif, comment=planted.text())
        picture.save(folder / f"{planted.text()}.tif", tiffinfo={270: planted.text(), 315: planted.text()})


@functools.cache
def _elements() -> list[tuple[int, str, str]]:
    """List tag, kind and keyword of the elements of text in the dictionary."""
    found = sorted((tag, keyword) for keyword, tag in keyword_dict.items() if tag >> 16 in GROUPS)
    kinds = [(tag, dictionary_VR(tag), keyword) for tag, keyword in found]
    return [one for one in kinds if one[1] in TEXTS and one[2] not in KEPT]


def _plant_elements(into: Dataset, planted: Planted, number: int) -> None:
    for row, (tag, vr, keyword) in enumerate(_elements()):
        if (row + number) % SHARE == 0 or keyword in IDENTITY:
            into.add_new(tag, vr, planted.value(vr, is_malformed=number % MALFORMED == 0))


def _nested(planted: Planted, number: int, deep: int) -> Dataset:
    """A dataset with elements, private ones and a sequence in it."""
    inner = Dataset()
    _plant_elements(inner, planted, number + deep)
    _plant_private(inner, planted)
    if deep > 1:
        inner.ReferencedStudySequence = Sequence([_nested(planted, number, deep - 1)])
    return inner


def _plant_private(into: Dataset, planted: Planted) -> None:
    """Put private elements of three kinds, and a sequence of them, into a dataset."""
    block = into.private_block(0x0019, planted.text(), create=True)
    block.add_new(0x01, "LO", planted.text())
    block.add_new(0x02, "UN", planted.text().encode())
    block.add_new(0x03, "OB", planted.text().encode())
    inner = Dataset()
    inner.PatientName = planted.value("PN")
    block.add_new(0x04, "SQ", Sequence([inner]))


def _slice_of(same: Dataset, planted: Planted, number: int, place: int) -> Dataset:
    one = Dataset()
    one.update(same)
    one.SOPInstanceUID = planted.value("UI")
    one.InstanceNumber = str(place + 1)
    one.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    one.ImagePositionPatient = [-24, -24, 5 * place]
    one.PixelSpacing, one.SliceThickness = [1, 1], 5
    one.Rows = one.Columns = SIDE
    one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
    one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = 16, 12, 11, 0
    one.PixelData = _head(100 * number + place, 4000).astype("<u2").tobytes()
    one.DataSetTrailingPadding = planted.text().encode()
    return one


def _save(path: Path, one: Dataset, planted: Planted) -> None:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = one.SOPClassUID, one.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationVersionName = planted.text(16)
    meta.SourceApplicationEntityTitle = planted.text(16)
    one.file_meta = meta
    one.preamble = planted.text().encode().ljust(128, b"\0")
    one.save_as(path, enforce_file_format=True)


def _head(seed: int, brightest: int) -> np.ndarray:
    """A bright disc with noise on a dark ground: float, (SIDE, SIDE)."""
    rows, columns = np.mgrid[:SIDE, :SIDE] - SIDE / 2
    noise = np.random.default_rng(seed).uniform(0.6, 1, (SIDE, SIDE))
    return noise * brightest * (rows**2 + columns**2 < (0.4 * SIDE) ** 2)
