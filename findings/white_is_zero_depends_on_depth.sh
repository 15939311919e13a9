#!/usr/bin/env bash
# The guess: a reader either turns a TIFF whose smallest number means white (PhotometricInterpretation 0, as digitisers of
#   film and some scanners' exports write it) into black-is-zero, or leaves it; it does the same at every depth.
# What happens: Pillow and OpenCV both invert such a picture of 8 bits, and both leave one of 16 bits as it is, without a
#   word in the mode, the tags they keep, or a warning. tifffile inverts neither. So a folder that holds the same film in
#   both depths comes out half as negatives.
# Versions: pillow 12.0.0, opencv-python-headless 4.12.0.88, tifffile 2026.3.3, numpy 2.2.6, CPython 3.11, Linux x86-64.
# Why it matters: a network learns a head and its negative as two kinds of head. Read the tag, and invert at one place.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    pillow==12.0.0 opencv-python-headless==4.12.0.88 tifffile==2026.3.3 numpy==2.2.6

cat >"$folder/read.py" <<'PYTHON'
import sys

import cv2
import numpy as np
import tifffile
from PIL import Image

ramp = np.linspace(0, 1, 64 * 64).reshape(64, 64)
found = []
for kind in (np.uint8, np.uint16):
    # The stored numbers rise from the first pixel to the last: the picture darkens from white to black.
    stored = np.rint(ramp * np.iinfo(kind).max).astype(kind)
    name = f"{sys.argv[1]}/{np.dtype(kind).name}.tif"
    tifffile.imwrite(name, stored, photometric="miniswhite")
    with Image.open(name) as picture:
        by_pillow = np.asarray(picture)
    readers = {
        "pillow": by_pillow,
        "opencv": cv2.imread(name, cv2.IMREAD_UNCHANGED),
        "tifffile": tifffile.imread(name),
    }
    for reader, pixels in readers.items():
        is_inverted = int(pixels[0, 0]) > int(pixels[-1, -1])
        found.append(f"{reader} {np.dtype(kind).name}: {'inverted' if is_inverted else 'as stored'}")
print("\n".join(found))
PYTHON

found=$("$folder/venv/bin/python" "$folder/read.py" "$folder")
echo "$found"
expected='pillow uint8: inverted
opencv uint8: inverted
tifffile uint8: as stored
pillow uint16: as stored
opencv uint16: as stored
tifffile uint16: as stored'
if [ "$found" = "$expected" ]; then
    echo "as described above"
else
    echo "this has changed: the head of this file is out of date" >&2
    exit 1
fi
