#!/usr/bin/env bash
# The guess: a volume that tifffile writes slice by slice is read by Pillow and OpenCV as pages, one a slice, whatever the
#   number of slices.
# What happens: with 2 or 5 slices it is. With exactly 3 or 4, of 8 bits, tifffile takes the first axis for colours: one
#   page, planar, RGB (or RGB and one channel more). Pillow opens one picture, in which three slices of a head are the red,
#   green and blue of it; OpenCV gives one page of three channels. tifffile itself reads back 3 slices, so whoever wrote the
#   file sees nothing. It says so in a DeprecationWarning, which Python hides by default; reading gives no sign.
# Versions: tifffile 2026.3.3, pillow 12.0.0, opencv-python-headless 4.12.0.88, numpy 2.2.6, CPython 3.11, Linux x86-64.
# Why it matters: short stacks (three slices about a lesson) turn into one blended grey image. Write with
#   photometric="minisblack"; when reading, look whether the planes of a planar page differ as slices do.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    tifffile==2026.3.3 pillow==12.0.0 opencv-python-headless==4.12.0.88 numpy==2.2.6

cat >"$folder/read.py" <<'PYTHON'
import sys
import warnings

import cv2
import numpy as np
import tifffile
from PIL import Image

warnings.simplefilter("ignore")
for slices in (2, 3, 4, 5):
    name = f"{sys.argv[1]}/{slices}.tif"
    tifffile.imwrite(name, np.arange(slices * 48 * 40, dtype=np.uint32).reshape(slices, 48, 40).astype(np.uint8))
    with Image.open(name) as picture:
        pillow = f"{getattr(picture, 'n_frames', 1)} of {picture.mode}"
    _is_read, pages = cv2.imreadmulti(name, flags=cv2.IMREAD_UNCHANGED)
    channels = 1 if pages[0].ndim == 2 else pages[0].shape[2]
    own = tifffile.imread(name).shape[0]
    print(f"{slices} slices: pillow {pillow}, opencv {len(pages)} of {channels}, tifffile {own}")
PYTHON

found=$("$folder/venv/bin/python" "$folder/read.py" "$folder")
echo "$found"
expected='2 slices: pillow 2 of L, opencv 2 of 1, tifffile 2
3 slices: pillow 1 of RGB, opencv 1 of 3, tifffile 3
4 slices: pillow 1 of RGBA, opencv 1 of 4, tifffile 4
5 slices: pillow 5 of L, opencv 5 of 1, tifffile 5'
if [ "$found" = "$expected" ]; then
    echo "as described above"
else
    echo "this has changed: the head of this file is out of date" >&2
    exit 1
fi
