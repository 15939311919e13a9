#!/usr/bin/env bash
# The guess: a mask of whole numbers (0, 1, 2, 4) in an array of floats, saved by nibabel under the header of the scan it
#   belongs to (a header of int16 or uint8), comes back as the numbers that went in: they all fit.
# What happens: nibabel stretches the floats over the full range of the header's type and stores a slope. 1, 2 and 4 come
#   back as 1.0000153, 2.0000305 and 3.9999999991 (int16), or 1.0039, 1.9922 and 4.0000002 (uint8). No label but 0 equals
#   itself; cut to integers, 4 is 3 in the one file, and 2 is 1 in the other. SimpleITK reads the same file in float32, in
#   which 4 is 4 again: two readers of one int16 file get other classes. get_data_dtype() still says int16, nobody warns,
#   and the same array as int16 is stored as it is.
# Versions: nibabel 5.4.2, SimpleITK 2.5.7, numpy 2.4.6, CPython 3.11, Linux x86-64.
# Why it matters: np.zeros(shape) and order=0 resampling give floats, Nifti1Image(mask, image.affine, image.header) is how
#   predictions are saved, and 4 is a tumour class of BraTS. Dice per class changes, or is 0, after one save and load.
#   Cast before saving; round, never cut, when reading.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check nibabel==5.4.2 SimpleITK==2.5.7 numpy==2.4.6
cd "$folder"

cat >read.py <<'PYTHON'
import warnings

import nibabel
import numpy as np
import SimpleITK

warnings.simplefilter("error")
mask = np.zeros((8, 8, 8))
mask[2:4], mask[4:6], mask[6:] = 1, 2, 4


def classes(voxels: np.ndarray) -> str:
    return " ".join(str(label) for label in np.unique(voxels.astype(int)))


for kind in (np.int16, np.uint8):
    scan = nibabel.Nifti1Image(np.full(mask.shape, 7, kind), np.eye(4))
    for voxels in (mask, mask.astype(kind)):
        nibabel.save(nibabel.Nifti1Image(voxels, scan.affine, scan.header), "mask.nii.gz")
        file = nibabel.load("mask.nii.gz")
        read = file.get_fdata()
        itk = SimpleITK.GetArrayFromImage(SimpleITK.ReadImage("mask.nii.gz"))
        equal = " ".join(str(label) for label in (0, 1, 2, 4) if (read == label).any())
        print(
            f"{voxels.dtype} under a header of {file.get_data_dtype()}: equal to {equal};",
            f"as integers {classes(read)} by nibabel, {classes(itk)} by SimpleITK",
        )
PYTHON

expected="float64 under a header of int16: equal to 0; as integers 0 1 2 3 by nibabel, 0 1 2 4 by SimpleITK
int16 under a header of int16: equal to 0 1 2 4; as integers 0 1 2 4 by nibabel, 0 1 2 4 by SimpleITK
float64 under a header of uint8: equal to 0; as integers 0 1 4 by nibabel, 0 1 4 by SimpleITK
uint8 under a header of uint8: equal to 0 1 2 4; as integers 0 1 2 4 by nibabel, 0 1 2 4 by SimpleITK"

found=$(venv/bin/python read.py)
echo "$found"
if [ "$found" = "$expected" ]; then
    echo "as described above"
else
    echo "it has changed" >&2
    exit 1
fi
