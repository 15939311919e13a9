#!/usr/bin/env bash
# The guess: a variable that MATLAB holds as double, which its file says and scipy.io.whosmat confirms, is an array of float64
#   when scipy.io.loadmat reads it, as one that has fractions is.
# What happens: MATLAB stores doubles that are whole numbers in the smallest type of integers that holds them, and loadmat
#   gives that type: uint8 for an image of 0 to 250, in the same file as a float64 for a spacing of 0.5. Whether a scan is
#   uint8, int16, uint16 or float64 goes by its largest and smallest values. Arithmetic then wraps: 10 - 20 is 246, and
#   250 * 2 is 244. whosmat calls each of them double. With mat_dtype=True all are float64.
# Versions: scipy 1.17.1, numpy 2.4.6, CPython 3.11, Linux x86-64. The file is written below byte by byte, as "MAT-File Format"
#   of The MathWorks has it (version 5, little endian, not compressed): such are "automatic compression" of numbers and types.
# Why it matters: public sets of brain images and masks come as .mat. Taking the mean off, or the difference of two visits,
#   turns dark pixels into the brightest of some patients, and leaves those alone whose range needed another type.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check scipy==1.17.1 numpy==2.4.6
cd "$folder"

cat >read.py <<'PYTHON'
import struct
import warnings
from pathlib import Path

import numpy as np
from scipy.io import loadmat, whosmat

warnings.simplefilter("error")
# Types of elements in a file, by their numbers in its format.
INT8, UINT8, INT16, UINT16, INT32, UINT32, DOUBLE, MATRIX = 1, 2, 3, 4, 5, 6, 9, 14
DOUBLE_CLASS = 6


def element(kind: int, content: bytes) -> bytes:
    return struct.pack("<II", kind, len(content)) + content + bytes(-len(content) % 8)


def variable(name: str, values: list[float], stored_as: int, numbers: str) -> bytes:
    head = element(UINT32, struct.pack("<II", DOUBLE_CLASS, 0)) + element(INT32, struct.pack("<ii", 1, len(values)))
    return element(MATRIX, head + element(INT8, name.encode()) + element(stored_as, np.array(values, numbers).tobytes()))


variables = (
    variable("visit1", [10, 120, 250], UINT8, "<u1")
    + variable("visit2", [20, 120, 125], UINT8, "<u1")
    + variable("scan16", [0, 120, 4095], UINT16, "<u2")
    + variable("signed", [-5, 120, 250], INT16, "<i2")
    + variable("spacing", [0.5, 0.5, 6.0], DOUBLE, "<f8")
)
Path("scan.mat").write_bytes(b"MATLAB 5.0 MAT-file".ljust(124) + struct.pack("<H", 0x0100) + b"IM" + variables)

print("in the file:", *sorted({kind for _, _, kind in whosmat("scan.mat")}))
found, as_held = loadmat("scan.mat"), loadmat("scan.mat", mat_dtype=True)
names = ("visit1", "visit2", "scan16", "signed", "spacing")
print("read:", *(f"{name} {found[name].dtype}" for name in names))
print("read with mat_dtype=True:", *sorted({str(as_held[name].dtype) for name in names}))
print("visit1 - visit2:", *(found["visit1"] - found["visit2"])[0], "as held:", *(as_held["visit1"] - as_held["visit2"])[0])
print("visit1 * 2:", *(found["visit1"] * 2)[0])
PYTHON

expected="in the file: double
read: visit1 uint8 visit2 uint8 scan16 uint16 signed int16 spacing float64
read with mat_dtype=True: float64
visit1 - visit2: 246 0 125 as held: -10.0 0.0 125.0
visit1 * 2: 20 240 244"

found=$(venv/bin/python read.py)
echo "$found"
if [ "$found" = "$expected" ]; then
    echo "as described above"
else
    echo "it has changed" >&2
    exit 1
fi
