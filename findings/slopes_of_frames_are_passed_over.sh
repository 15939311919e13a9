#!/usr/bin/env bash
# The guess: a reader that rescales scales each frame of a multi-frame MR image by the slope that this frame carries.
# What happens: pydicom's apply_rescale gives the stored numbers back, since the slopes of such files stand in the
#   functional groups, where it does not look; SimpleITK scales all frames by the slope of the first. Neither says a word.
# Versions: pydicom 3.0.2, SimpleITK 2.5.7, numpy 2.4.6.
# Why it matters: in a map of two kinds of frames (magnitude and phase, or a slope for each b-value) grey values of one
#   file stand for different things, and a window over all of them is wrong. Read each frame's
#   PixelValueTransformationSequence, of the frame or shared.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check pydicom==3.0.2 SimpleITK==2.5.7 numpy==2.4.6
cd "$folder"

cat >read.py <<'PYTHON'
import numpy as np
import pydicom
import SimpleITK
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.pixels import apply_rescale
from pydicom.sequence import Sequence
from pydicom.uid import EnhancedMRImageStorage, ExplicitVRLittleEndian, generate_uid


def functional_groups(number: int, slope: float) -> Dataset:
    group = Dataset()
    scaling, place = Dataset(), Dataset()
    scaling.RescaleSlope, scaling.RescaleIntercept, scaling.RescaleType = slope, 0, "US"
    place.ImagePositionPatient = [0, 0, 3 * number]
    group.PixelValueTransformationSequence = Sequence([scaling])
    group.PlanePositionSequence = Sequence([place])
    return group


shared, measures, orientation = Dataset(), Dataset(), Dataset()
measures.PixelSpacing, measures.SliceThickness, measures.SpacingBetweenSlices = [1, 1], 3, 3
orientation.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
shared.PixelMeasuresSequence = Sequence([measures])
shared.PlaneOrientationSequence = Sequence([orientation])

image = Dataset()
image.file_meta = FileMetaDataset()
image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID = EnhancedMRImageStorage
image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID = generate_uid()
image.StudyInstanceUID, image.SeriesInstanceUID, image.FrameOfReferenceUID = (generate_uid() for _ in range(3))
image.Modality, image.Rows, image.Columns, image.NumberOfFrames = "MR", 16, 16, 2
image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 12, 11, 0
image.SharedFunctionalGroupsSequence = Sequence([shared])
# The same numbers in both frames; by its own slope the second stands for ten times as much.
image.PerFrameFunctionalGroupsSequence = Sequence([functional_groups(0, 1), functional_groups(1, 10)])
image.PixelData = np.full((2, 16, 16), 100, "<u2").tobytes()
image.save_as("two_frames.dcm", enforce_file_format=True)

read = pydicom.dcmread("two_frames.dcm")
print("as written       100 1000")
print("pydicom         ", *apply_rescale(read.pixel_array, read)[:, 0, 0])
print("SimpleITK       ", *SimpleITK.GetArrayFromImage(SimpleITK.ReadImage("two_frames.dcm"))[:, 0, 0])
PYTHON

expected="as written       100 1000
pydicom          100 100
SimpleITK        100 100"

found=$(venv/bin/python read.py)
echo "$found"
if [ "$found" = "$expected" ]; then
    echo "as described above"
else
    echo "it has changed" >&2
    exit 1
fi
