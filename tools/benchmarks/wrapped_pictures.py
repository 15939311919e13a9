"""Sound and wrapped slices, at several sizes and qualities of JPEG: how many are taken for wrapped.

    python tools/benchmarks/wrapped_pictures.py FOLDER_OF_IMAGES

Each image is resized to 224 × 224 and 512 × 512 and saved as PNG and as JPEG: sound, as it is and with bright
parts turned white; wrapped, multiplied to 10, 11 and 12 bits, of which the lower 8 are kept. What counts is
whether `read_picture` rejects the file, at the size of store that is named.

2026-11-29, 30 of Cheng's slices (--every 80), stores of 224 and 96, every size and quality: of 960 sound
files none rejected, of 1,440 wrapped ones 1,432, and 29 of 30 in the worst row.
"""

import argparse
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from mri_hpc.base.errors import BadSource
from mri_hpc.intake.decoding.pictures import WRAPPED, read_picture
from mri_hpc.intake.decoding.recipe import Recipe

SIDES = (224, 512)
QUALITIES = (75, 85, 95)
STORES = (224, 96)
SUFFIXES = (".jpg", ".jpeg", ".png")


def main() -> None:
    """Measure and print one line a figure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("images", type=Path, help="a folder of images")
    parser.add_argument("--every", type=int, default=1, help="take one image of so many")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    paths = sorted(path for path in options.images.rglob("*") if path.suffix.lower() in SUFFIXES)
    paths = paths[:: options.every]
    judged, rejected = Counter[tuple[str, int]](), Counter[tuple[str, int]]()
    for path in paths:
        for kind, data in files_of(np.asarray(cv2.imread(str(path), cv2.IMREAD_GRAYSCALE))):
            for size in STORES:
                judged[kind, size] += 1
                rejected[kind, size] += is_rejected(data, size)
    for (kind, size), number in sorted(judged.items()):
        print(f"{kind}, store of {size}: {rejected[kind, size]} of {number} rejected")


def files_of(scan: np.ndarray) -> Iterator[tuple[str, bytes]]:
    """Yield what is made of a scan, each with its name. scan: uint8, (h, w)."""
    for side in SIDES:
        exact = cv2.resize(scan.astype(np.float32), (side, side), interpolation=cv2.INTER_AREA)
        pictures = {"sound": exact, "sound, twice as bright": np.clip(exact * 2, 0, 255)}
        pictures |= {f"wrapped, {bits} bits": np.rint(exact * 2 ** (bits - 8)) % 256 for bits in (10, 11, 12)}
        for name, picture in pictures.items():
            grey = np.rint(picture).astype(np.uint8)
            yield f"{name}, {side}, PNG", encoded(".png", grey, [])
            for quality in QUALITIES:
                data = encoded(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, quality])
                yield f"{name}, {side}, JPEG {quality}", data


def encoded(suffix: str, grey: np.ndarray, options: list[int]) -> bytes:
    """Return the bytes of a file."""
    return bytes(cv2.imencode(suffix, grey, options)[1])


def is_rejected(data: bytes, size: int) -> bool:
    """Tell whether a store of some size rejects a picture as wrapped."""
    try:
        read_picture(data, Recipe(size=size))
    except BadSource as error:
        return str(error) == WRAPPED
    return False


if __name__ == "__main__":
    main()
