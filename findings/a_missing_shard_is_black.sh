#!/usr/bin/env bash
# The guess: a virtual dataset of HDF5, which joins the shards of a cohort into one array, fails when a shard cannot be
#   opened or does not hold what it is said to hold.
# What happens: a shard with too few images does raise. A missing one does not: its images read as 0, black pictures with
#   their labels beside them. So they do where the shard is there and its dataset has another name. A shard rewritten in 16
#   bits is squeezed into the 8 bits of the joined array: 300 and 4,095 are both 255. Neither h5py nor HDF5 says a word, at
#   opening or at reading.
# Versions: h5py 3.16.0 (its HDF5 is 2.0.0), numpy 2.4.6, CPython 3.11, Linux x86-64.
# Why it matters: a shard on another disk that this node has not mounted, or may not read, is the same as a missing one. The
#   run goes on, with part of the cohort black on some ranks alone. Compare each of virtual_sources() with its file when a
#   run starts: is it there, its shape, its type.
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check h5py==3.16.0 numpy==2.4.6
cd "$folder"

cat >read.py <<'PYTHON'
import warnings
from pathlib import Path

import h5py
import numpy as np

warnings.simplefilter("error")
SHARD = Path("second.h5")
print("HDF5", h5py.version.hdf5_version)


def write_shard(name: Path | str, images: np.ndarray) -> None:
    with h5py.File(name, "w") as file:
        file["images"] = images


def pixels(values: list[int], kind: type) -> np.ndarray:
    return np.array(values, kind)[:, None, None] + np.zeros((8, 8), kind)


write_shard("first.h5", pixels([50, 60], np.uint8))
write_shard(SHARD, pixels([70, 80], np.uint8))
joined = h5py.VirtualLayout((4, 8, 8), np.uint8)
joined[:2] = h5py.VirtualSource("first.h5", "images", (2, 8, 8))
joined[2:] = h5py.VirtualSource(SHARD, "images", (2, 8, 8))
with h5py.File("cohort.h5", "w") as file:
    file.create_virtual_dataset("images", joined)


def read(case: str) -> None:
    with h5py.File("cohort.h5", "r") as file:
        print(f"{case}:", *file["images"][:, 0, 0])


read("as written")
SHARD.rename("elsewhere.h5")
read("second shard missing")
write_shard(SHARD, pixels([70], np.uint8))
try:
    read("second shard of one image")
except OSError:
    print("second shard of one image: OSError")
with h5py.File(SHARD, "w") as file:
    file["slices"] = pixels([70, 80], np.uint8)
read("second shard of another name within")
write_shard(SHARD, pixels([300, 4095], np.uint16))
read("second shard of 16 bits")
PYTHON

expected="HDF5 2.0.0
as written: 50 60 70 80
second shard missing: 50 60 0 0
second shard of one image: OSError
second shard of another name within: 50 60 0 0
second shard of 16 bits: 50 60 255 255"

found=$(venv/bin/python read.py)
echo "$found"
if [ "$found" = "$expected" ]; then
    echo "as described above"
else
    echo "it has changed" >&2
    exit 1
fi
