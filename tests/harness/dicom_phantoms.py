"""DICOM files of a phantom, as scanners write them: classic, enhanced multi-frame, and Siemens mosaics."""

import io
import math
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence as Items
from pydicom.uid import UID

MR, ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4", "1.2.840.10008.5.1.4.1.1.4.1"
EXPLICIT, IMPLICIT, BIG_ENDIAN = "1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"
ROOT = "1.2.826.0.1.3680043.8.498"
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def uid(*numbers: int) -> UID:
    """Make a UID."""
    return UID(".".join([ROOT, *map(str, numbers)]))


def header(*, series: int = 1, instance: int = 1, sop_class: str = MR, **others: Any) -> Dataset:
    """Make a data set without pixels. others: elements, by keyword; None takes one away."""
    made = Dataset()
    made.SOPClassUID, made.SOPInstanceUID = UID(sop_class), uid(series, instance)
    made.StudyInstanceUID, made.SeriesInstanceUID = uid(9), uid(series)
    made.PatientID, made.Modality = "P1", "MR"
    made.ImageType = ["ORIGINAL", "PRIMARY", "M", "ND"]
    made.Manufacturer = "SIEMENS"
    for name, value in others.items():
        if value is None:
            made.pop(name, None)
        else:
            setattr(made, name, value)
    return made


def with_pixels(made: Dataset, words: np.ndarray, *, bits: int = 16, **others: Any) -> Dataset:
    """Add pixels, (rows, columns) or (frames, rows, columns), of 16 bits allocated."""
    made.Rows, made.Columns = words.shape[-2:]
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.BitsAllocated, made.BitsStored, made.HighBit = 16, bits, bits - 1
    made.PixelRepresentation = int(words.dtype.kind == "i")
    if words.ndim == 3:
        made.NumberOfFrames = len(words)
    made.PixelData = words.astype(words.dtype.newbyteorder("<")).tobytes()
    for name, value in others.items():
        setattr(made, name, value)
    return made


def as_bytes(made: Dataset, syntax: str = EXPLICIT) -> bytes:
    """Write a data set as a file."""
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = UID(syntax)
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = made.SOPClassUID, made.SOPInstanceUID
    file = io.BytesIO()
    if syntax == BIG_ENDIAN and isinstance(made.PixelData, bytes):
        made.PixelData = np.frombuffer(made.PixelData, "<u2").astype(">u2").tobytes()
    whole = FileDataset(file, made, file_meta=meta, preamble=b"\0" * 128)
    pydicom.dcmwrite(file, whole, enforce_file_format=True)
    return file.getvalue()


def lies(affine: np.ndarray, slice_number: int = 0) -> dict[str, list[float]]:
    """Return the elements that place a slice. affine: from (column, row, slice) to RAS+ mm."""
    lps = LPS @ affine
    across, down = (lps[:3, axis] / np.linalg.norm(lps[:3, axis]) for axis in (0, 1))
    position = lps @ [0, 0, slice_number, 1]
    return {
        "ImagePositionPatient": _decimals(position[:3]),
        "ImageOrientationPatient": _decimals([*across, *down]),
        "PixelSpacing": _decimals(np.linalg.norm(lps[:3, [1, 0]], axis=0)),
    }


def _decimals(numbers: Sequence[float] | np.ndarray) -> list[float]:
    return [round(float(number), 6) + 0.0 for number in numbers]


def classic(voxels: np.ndarray, affine: np.ndarray, *, series: int = 1, **others: Any) -> list[Dataset]:
    """Make a file a slice. voxels: (columns, rows, slices); affine: from their indices to RAS+ mm."""
    return [
        with_pixels(
            header(series=series, instance=number + 1, **{**lies(affine, number), **others}),
            np.ascontiguousarray(voxels[..., number].T),
        )
        for number in range(voxels.shape[2])
    ]


def enhanced(
    voxels: np.ndarray, affine: np.ndarray, order: Sequence[int], scales: Sequence[tuple[float, float]] = ()
) -> Dataset:
    """Make one file of all slices, which lie in it in this order. scales: slope and intercept of each."""
    frames = np.ascontiguousarray(voxels.transpose(2, 1, 0)[list(order)])
    made = with_pixels(header(sop_class=ENHANCED_MR), frames)
    shared, each = Dataset(), []
    place = lies(affine)
    shared.PlaneOrientationSequence = item(ImageOrientationPatient=place["ImageOrientationPatient"])
    shared.PixelMeasuresSequence = item(PixelSpacing=place["PixelSpacing"])
    for number, frame in enumerate(order):
        own = Dataset()
        own.PlanePositionSequence = item(ImagePositionPatient=lies(affine, frame)["ImagePositionPatient"])
        if scales:
            slope, intercept = scales[number]
            own.PixelValueTransformationSequence = item(RescaleSlope=slope, RescaleIntercept=intercept)
        each.append(own)
    made.SharedFunctionalGroupsSequence = Items([shared])
    made.PerFrameFunctionalGroupsSequence = Items(each)
    return made


def item(**elements: Any) -> Items:
    """Make a sequence of one item."""
    made = Dataset()
    for name, value in elements.items():
        setattr(made, name, value)
    return Items([made])


def mosaic(voxels: np.ndarray, affine: np.ndarray, *, instance: int = 1) -> Dataset:
    """Make a Siemens mosaic of all slices."""
    columns, rows, count = voxels.shape
    side = math.ceil(math.sqrt(count))
    picture = np.zeros((rows * side, columns * side), voxels.dtype)
    for number in range(count):
        top, left = (rows, columns) * np.array(divmod(number, side))
        picture[top : top + rows, left : left + columns] = voxels[..., number].T
    lps = LPS @ affine
    # The middle of the picture is that of the first slice.
    moved = affine.copy()
    moved[:3, 3] -= affine[:3, 0] * columns * (side - 1) / 2 + affine[:3, 1] * rows * (side - 1) / 2
    between = float(np.linalg.norm(lps[:3, 2]))
    made = header(
        instance=instance, ImageType=["ORIGINAL", "PRIMARY", "M", "ND", "MOSAIC"],
        SpacingBetweenSlices=round(between, 6), AcquisitionNumber=instance,
    )  # fmt: skip
    for name, numbers in lies(moved).items():
        setattr(made, name, numbers)
    made.add_new(0x00190010, "LO", "SIEMENS MR HEADER")
    made.add_new(0x0019100A, "US", count)
    made.add_new(0x00290010, "LO", "SIEMENS CSA HEADER")
    normal = [f"{part:.8f}" for part in lps[:3, 2] / between]
    made.add_new(0x00291010, "OB", csa({"NumberOfImagesInMosaic": [str(count)], "SliceNormalVector": normal}))
    return with_pixels(made, picture)


def grid(voxels: np.ndarray, affine: np.ndarray, *, instance: int = 1) -> Dataset:
    """Make a UIH mosaic of all slices, by the published layout of its private header."""
    columns, rows, count = voxels.shape
    side = math.ceil(math.sqrt(count))
    picture = np.zeros((rows * math.ceil(count / side), columns * side), voxels.dtype)
    frames = []
    for number in range(count):
        top, left = (rows, columns) * np.array(divmod(number, side))
        picture[top : top + rows, left : left + columns] = voxels[..., number].T
        frame = Dataset()
        frame.ImagePositionPatient = lies(affine, number)["ImagePositionPatient"]
        frames.append(frame)
    made = header(
        instance=instance, ImageType=["ORIGINAL", "PRIMARY", "M", "VFRAME"], Manufacturer="UIH",
        SpacingBetweenSlices=round(float(np.linalg.norm(affine[:3, 2])), 6), AcquisitionNumber=instance,
    )  # fmt: skip
    for name, numbers in lies(affine).items():
        setattr(made, name, numbers)
    made.add_new(0x00650010, "LO", "Image Private Header")
    made.add_new(0x00651050, "DS", str(count))
    made.add_new(0x00651051, "SQ", Items(frames))
    return with_pixels(made, picture)


def csa(tags: dict[str, list[str]]) -> bytes:
    """Write a private header of Siemens (CSA2)."""
    made = b"SV10\4\3\2\1" + struct.pack("<2I", len(tags), 77)
    for name, items in tags.items():
        made += struct.pack("<64si4s3i", name.encode(), len(items), b"FD\0\0", 4, len(items), 77)
        for item in items:
            text = item.encode() + b"\0"
            made += struct.pack("<4i", len(text), len(text), 77, len(text))
            made += text + b"\0" * (-len(text) % 4)
    return made + b"\0" * (-len(made) % 4)
