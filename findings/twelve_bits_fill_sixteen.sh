#!/usr/bin/env bash
# The guess: a lossless JPEG 2000 picture of 12 bits gives the numbers that were stored, whichever library decodes it, as one
#   of 16 bits does.
# What happens: imagecodecs gives them, and so does OpenCV. Pillow shifts them up until they fill 16 bits: 4,095 of 12 bits
#   becomes 65,520, and 1,023 of 10 bits 65,472. Numbers below 0 become positive as well: -2,048 to 2,047 is 0 to 65,520. The
#   mode is I;16 in each case, and nothing that Pillow keeps of the file says by how much it was shifted.
# Versions: pillow 13.0.0, imagecodecs 2026.3.6, opencv-python-headless 5.0.0.93, numpy 2.4.6, CPython 3.11, Linux x86-64.
# Why it matters: scanners store 12 bits, and converters choose the depth by picture or by vendor. A folder of both depths
#   comes out of Pillow with a factor of 16 between files that differed in nothing else, and a network learns the converter.
#   pydicom shifts back when Pillow decodes for it; a file, or a frame that one decodes oneself, has nobody to do so.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check \
    pillow==13.0.0 imagecodecs==2026.3.6 opencv-python-headless==5.0.0.93 numpy==2.4.6

cat >"$folder/read.py" <<'PYTHON'
import io

import cv2
import imagecodecs
import numpy as np
from PIL import Image


def encoded(voxels: np.ndarray, bits: int) -> bytes:
    return imagecodecs.jpeg2k_encode(voxels, codecformat="jp2", bitspersample=bits, reversible=True, level=0)


def span(voxels: np.ndarray) -> str:
    return f"{voxels.min()} to {voxels.max()}"


for bits in (8, 10, 12, 16):
    slope = np.linspace(0, 2**bits - 1, 64 * 64).reshape(64, 64)
    file = encoded(slope.astype(np.uint8 if bits == 8 else np.uint16), bits)
    with Image.open(io.BytesIO(file)) as picture:
        by_pillow = np.asarray(picture)
    by_opencv = cv2.imdecode(np.frombuffer(file, np.uint8), cv2.IMREAD_UNCHANGED)
    print(
        f"{bits} bits: imagecodecs {span(imagecodecs.jpeg2k_decode(file))}, opencv {span(by_opencv)},",
        f"pillow {picture.mode} {span(by_pillow)}",
    )

# OpenCV refuses signed ones.
file = encoded(np.arange(-2048, 2048, dtype=np.int16).reshape(64, 64), 12)
with Image.open(io.BytesIO(file)) as picture:
    by_pillow = np.asarray(picture)
print(f"12 bits, signed: imagecodecs {span(imagecodecs.jpeg2k_decode(file))}, pillow {picture.mode} {span(by_pillow)}")
PYTHON

found=$("$folder/venv/bin/python" "$folder/read.py")
echo "$found"
expected='8 bits: imagecodecs 0 to 255, opencv 0 to 255, pillow L 0 to 255
10 bits: imagecodecs 0 to 1023, opencv 0 to 1023, pillow I;16 0 to 65472
12 bits: imagecodecs 0 to 4095, opencv 0 to 4095, pillow I;16 0 to 65520
16 bits: imagecodecs 0 to 65535, opencv 0 to 65535, pillow I;16 0 to 65535
12 bits, signed: imagecodecs -2048 to 2047, pillow I;16 0 to 65520'
if [ "$found" = "$expected" ]; then
    echo "as described above"
else
    echo "this has changed: the head of this file is out of date" >&2
    exit 1
fi
