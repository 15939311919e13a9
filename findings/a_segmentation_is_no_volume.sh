#!/usr/bin/env bash
# The guess: a DICOM segmentation (SEG) that highdicom makes of a mask, slice for slice, is read by pydicom and SimpleITK as
#   that mask: as many slices, each where it was, with the labels that it had.
# What happens: slices without a lesion are left out of the file, which the standard allows. SimpleITK puts those that are
#   left one upon the other. Lesions in slices 2, 7 and 8 of ten, 3 mm apart, become one of three neighbours, 1 mm apart, at
#   24, 25 and 26 mm in place of 6, 21 and 24; what it gives as their volume is a third. Two segments over the same four
#   slices become one volume of eight slices, and every label is 255. Nothing warns. pixel_array of pydicom is such a pile,
#   too. highdicom's own get_volume() puts each slice back, from the first to the last that has a lesion.
# Versions: highdicom 0.28.2, pydicom 3.0.2, SimpleITK 2.5.7, numpy 2.4.6, CPython 3.11, Linux x86-64.
# Why it matters: archives give lesions as SEG, and series of images are read with SimpleITK. The mask that comes out has an
#   origin and a spacing, so that resampling it onto the scan "works", and marks healthy slices.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    highdicom==0.28.2 pydicom==3.0.2 SimpleITK==2.5.7 numpy==2.4.6
cd "$folder"

cat >read.py <<'PYTHON'
import highdicom
import numpy as np
import pydicom
import SimpleITK
from highdicom.seg import Segmentation, SegmentDescription, segread
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

SLICES, DISTANCE_MM = 10, 3
study, series, frame = (generate_uid() for _ in range(3))


def scan_slice(number: int) -> Dataset:
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID = MRImageStorage
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID = generate_uid()
    image.StudyInstanceUID, image.SeriesInstanceUID, image.FrameOfReferenceUID = study, series, frame
    for name in ("PatientID", "PatientName", "PatientBirthDate", "PatientSex", "ReferringPhysicianName"):
        setattr(image, name, "")
    for name in ("StudyID", "StudyDate", "StudyTime", "AccessionNumber", "PositionReferenceIndicator"):
        setattr(image, name, "")
    image.Modality, image.Rows, image.Columns = "MR", 8, 8
    image.SeriesNumber, image.InstanceNumber = 1, number + 1
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 12, 11, 0
    image.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    image.ImagePositionPatient = [0, 0, DISTANCE_MM * number]
    image.PixelSpacing, image.SliceThickness = [1, 1], DISTANCE_MM
    image.PixelData = np.zeros((8, 8), "<u2").tobytes()
    return image


scan = [scan_slice(number) for number in range(SLICES)]
algorithm = highdicom.AlgorithmIdentificationSequence(
    name="by hand", version="1", family=codes.DCM.ArtificialIntelligence
)


def show(case: str, mask: np.ndarray) -> None:
    segments = [
        SegmentDescription(label, f"lesion {label}", codes.SCT.Tissue, codes.SCT.Brain, "AUTOMATIC", algorithm)
        for label in range(1, mask.max() + 1)
    ]
    Segmentation(
        source_images=scan, pixel_array=mask, segmentation_type="BINARY", segment_descriptions=segments,
        series_instance_uid=generate_uid(), series_number=2, sop_instance_uid=generate_uid(), instance_number=1,
        manufacturer="none", manufacturer_model_name="none", software_versions="1", device_serial_number="1",
    ).save_as("seg.dcm")
    image = SimpleITK.ReadImage("seg.dcm")
    voxels = SimpleITK.GetArrayFromImage(image)
    places = [image.TransformIndexToPhysicalPoint((0, 0, int(z)))[2] for z in np.flatnonzero(voxels.any(axis=(1, 2)))]
    own = segread("seg.dcm").get_volume(combine_segments=True)
    print(case)
    print("  as written:", *DISTANCE_MM * np.flatnonzero(mask.any(axis=(1, 2))), "mm;", end=" ")
    print("labels", *np.unique(mask), end="; ")
    print(DISTANCE_MM * np.count_nonzero(mask), "cubic mm")
    print("  SimpleITK:", *(f"{place:g}" for place in places), "mm;", end=" ")
    print("labels", *np.unique(voxels), end="; ")
    print(f"{np.prod(image.GetSpacing()) * np.count_nonzero(voxels):g} cubic mm")
    print("  pydicom:", len(pydicom.dcmread("seg.dcm").pixel_array), "slices;", end=" ")
    print("highdicom:", own.array.shape[0], "slices,", f"{np.prod(own.spacing) * np.count_nonzero(own.array):g} cubic mm")


mask = np.zeros((SLICES, 8, 8), np.uint8)
mask[[2, 7, 8], 1:3, 1:3] = 1
show("lesions in slices 2, 7, 8", mask)
mask[:] = 0
mask[2:6, 1:3, 1:3], mask[2:6, 5:7, 5:7] = 1, 2
show("two segments in slices 2 to 5", mask)
PYTHON

expected="lesions in slices 2, 7, 8
  as written: 6 21 24 mm; labels 0 1; 36 cubic mm
  SimpleITK: 24 25 26 mm; labels 0 255; 12 cubic mm
  pydicom: 3 slices; highdicom: 7 slices, 36 cubic mm
two segments in slices 2 to 5
  as written: 6 9 12 15 mm; labels 0 1 2; 96 cubic mm
  SimpleITK: 15 16 17 18 19 20 21 22 mm; labels 0 255; 32 cubic mm
  pydicom: 8 slices; highdicom: 4 slices, 96 cubic mm"

found=$(venv/bin/python read.py)
echo "$found"
if [ "$found" = "$expected" ]; then
    echo "as described above"
else
    echo "it has changed" >&2
    exit 1
fi
