#!/usr/bin/env bash
# The guess: a series read as one volume has the grey values that its files have when they are read one by one.
# What happens: SimpleITK gives the volume the type that the first file needs. A later slice whose rescale slope is
#   larger goes beyond that type, and wraps: 80,000 becomes 80,000 - 65,536 = 14,464. By itself the file is read right.
# Versions: SimpleITK 2.5.7, pydicom 3.0.2 (which writes the two files), numpy 2.4.6.
# Why it matters: scanners that scale slice by slice are common, and the slice that turns dark is the one with the
#   brightest pixels. Scale each slice in float, then join them.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check pydicom==3.0.2 SimpleITK==2.5.7 numpy==2.4.6
cd "$folder"

cat >read.py <<'PYTHON'
from pathlib import Path

import numpy as np
import SimpleITK
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage, generate_uid

study, series, frame = (generate_uid() for _ in range(3))
SLOPES = (1, 40)
paths = []
for number, slope in enumerate(SLOPES):
    image = Dataset()
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    image.file_meta.MediaStorageSOPClassUID = image.SOPClassUID = MRImageStorage
    image.file_meta.MediaStorageSOPInstanceUID = image.SOPInstanceUID = generate_uid()
    image.StudyInstanceUID, image.SeriesInstanceUID, image.FrameOfReferenceUID = study, series, frame
    image.Modality, image.Rows, image.Columns, image.InstanceNumber = "MR", 16, 16, number + 1
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 12, 11, 0
    image.ImageOrientationPatient, image.ImagePositionPatient = [1, 0, 0, 0, 1, 0], [0, 0, 3 * number]
    image.PixelSpacing, image.SliceThickness = [1, 1], 3
    image.RescaleSlope, image.RescaleIntercept = slope, 0
    image.PixelData = np.full((16, 16), 2000, "<u2").tobytes()
    paths.append(f"slice{number}.dcm")
    image.save_as(paths[-1], enforce_file_format=True)

alone = [SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(path))[0, 0, 0] for path in paths]
together = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(paths))
print("as written     ", *(2000 * slope for slope in SLOPES))
print("each by itself ", *alone)
print("as a series    ", *together[:, 0, 0], together.dtype)
PYTHON

expected="as written      2000 80000
each by itself  2000 80000
as a series     2000 14464 uint16"

found=$(venv/bin/python read.py)
echo "$found"
if [ "$found" = "$expected" ]; then
    echo "as described above"
else
    echo "it has changed" >&2
    exit 1
fi
