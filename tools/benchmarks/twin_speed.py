"""Seconds to find twins, beside comparing all pairs of thumbnails, and how many are found.

    python tools/benchmarks/twin_speed.py FOLDER_OF_IMAGES --images 10000 --changed 1000

Makes as many different images of 224 × 224 as are asked for, each of two pictures of the folder, turned by
any angle and laid over each other; and changes some of them by a JPEG of quality 70, resizing, cropping by up
to 5 % on each side, brightness and contrast, inversion, mirroring, and turning: one change each, by turns.
They lie in a file, and are read from it in parts. One core, one thread.

All pairs: thumbnails of 64 × 64, of mean 0 and length 1, multiplied with the others in 16 variants: eight
turns and mirrorings, and each of them inverted. An inverted image has the negative product, so that 8 do as
well: both are measured. Each pair once. All seconds are of the processor, as others may use it as well.

2026-11-29, one core of an Intel Xeon (virtual), beside other work (load 7), processor time: 13.0 s for 10,000
images, at most 131 MB, 998 of 1,000 found and none else; all pairs 59.3 s (0.22) of 16 products each, 28.5 s
(0.46) of 8.
"""

import argparse
import os
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

os.environ.update({"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"})

import cv2
import numpy as np

from mri_hpc.cohort.twins import find_twins

SIDE = 224
THUMBNAIL = 64
AT_ONCE = 1000


def main() -> None:
    """Make the images, measure both ways, and print one line a figure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path, help="a folder of images")
    parser.add_argument("--images", type=int, default=10000)
    parser.add_argument("--changed", type=int, default=1000, help="copies among them")
    parser.add_argument("--without-pairs", action="store_true", help="leave out comparing all pairs")
    options = parser.parse_args()
    cv2.setNumThreads(1)
    with tempfile.TemporaryFile() as file:
        for image in made(options.folder, options.images, options.changed):
            file.write(image.tobytes())
        file.flush()
        images = Images(file.fileno())
        load = os.getloadavg()[0]
        began = time.process_time()
        groups = find_twins(images.read, options.images)
        took = time.process_time() - began
        peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        planted = {(row, options.images - options.changed + row) for row in range(options.changed)}
        found = {group.rows for group in groups}
        print(f"find_twins: {took:.1f} s for {options.images} images, at most {peak_mb:.0f} MB")
        others = len(found - planted)
        print(f"found {len(found & planted)} of {options.changed} twins, and {others} other groups")
        print(f"load before and now: {load:.1f}, {os.getloadavg()[0]:.1f}", flush=True)
        if not options.without_pairs:
            for variants in (8, 16):
                pairs_took = compare_all_pairs(images, options.images, variants)
                print(
                    f"all pairs, {variants} products each: {pairs_took:.1f} s, find_twins takes "
                    f"{took / pairs_took:.2f} of that",
                    flush=True,
                )


class Images:
    """Images in a file."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Read images: uint8, (B, 224, 224)."""
        images = np.empty((len(rows), SIDE, SIDE), np.uint8)
        for image, row in zip(images, rows.tolist(), strict=True):
            os.preadv(self._descriptor, [image.reshape(-1).data], row * SIDE * SIDE)
        return images


def made(folder: Path, count: int, num_changed: int) -> Iterator[np.ndarray]:
    """Yield the images, those that are changed last."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    for number in range(count - num_changed):
        yield fitted(original(paths, number))
    for number in range(num_changed):
        yield fitted(changed(original(paths, number), number))


def original(paths: list[Path], number: int) -> np.ndarray:
    """Lay one picture, turned, over another: uint8, (512, 512)."""
    random = np.random.default_rng(number)
    laid = np.zeros((512, 512))
    for share in (0.6, 0.4):
        picture = cv2.imread(str(paths[random.integers(len(paths))]), cv2.IMREAD_GRAYSCALE)
        assert picture is not None
        picture = cv2.resize(picture, (512, 512), interpolation=cv2.INTER_AREA)
        turn = cv2.getRotationMatrix2D((256, 256), random.uniform(0, 360), random.uniform(0.85, 1))
        laid += share * cv2.warpAffine(picture, turn, (512, 512), flags=cv2.INTER_LINEAR)
    return laid.astype(np.uint8)


def changed(image: np.ndarray, number: int) -> np.ndarray:
    """Change an image by one of seven changes."""
    random = np.random.default_rng(number)
    match number % 7:
        case 0:
            return np.asarray(cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 70])[1], 0))
        case 1:
            side = int(random.integers(180, 700))
            return np.asarray(cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA))
        case 2:
            top, bottom, left, right = (random.uniform(0, 0.05, 4) * len(image)).astype(int)
            return image[top : len(image) - bottom, left : len(image) - right]
        case 3:
            changed = image * random.uniform(0.8, 1.25) + random.uniform(-20, 30)
            return np.asarray(np.clip(changed, 0, 255).astype(np.uint8))
        case 4:
            return 255 - image
        case 5:
            return np.asarray(image[:, ::-1] if number % 2 else image[::-1])
        case _:
            return np.rot90(image, 1 + number % 3)


def fitted(image: np.ndarray) -> np.ndarray:
    """Bring an image into the square, as preprocess does."""
    scale = SIDE / max(image.shape)
    shape = round(image.shape[1] * scale), round(image.shape[0] * scale)
    small = cv2.resize(image, shape, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)
    square = np.zeros((SIDE, SIDE), np.uint8)
    top, left = (SIDE - small.shape[0]) // 2, (SIDE - small.shape[1]) // 2
    square[top : top + small.shape[0], left : left + small.shape[1]] = small
    return square


def compare_all_pairs(images: Images, count: int, variants: int) -> float:
    """Compare all pairs of thumbnails in 8 or 16 variants; return the seconds that it took."""
    began = time.process_time()
    thumbnails = np.empty((count, THUMBNAIL, THUMBNAIL), np.float32)
    for start in range(0, count, AT_ONCE):
        rows = np.arange(start, min(start + AT_ONCE, count))
        for row, image in zip(rows.tolist(), images.read(rows), strict=True):
            thumbnails[row] = cv2.resize(image, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)
    thumbnails -= thumbnails.mean(axis=(1, 2), keepdims=True)
    thumbnails /= np.maximum(np.linalg.norm(thumbnails, axis=(1, 2), keepdims=True), 1e-6)
    num_alike = 0
    for start in range(0, count, AT_ONCE):
        block = thumbnails[start : start + AT_ONCE]
        others = thumbnails[start:].reshape(-1, THUMBNAIL**2)
        best = np.zeros((len(block), len(others)), np.float32)
        for number in range(variants):
            turned = np.rot90(block, number % 4, axes=(1, 2))
            turned = turned[:, :, ::-1] if number % 8 >= 4 else turned
            turned = -turned if number >= 8 else turned
            products = np.ascontiguousarray(turned).reshape(len(block), -1) @ others.T
            if variants == 8:
                np.abs(products, out=products)
            np.maximum(best, products, out=best)
        num_alike += int((best > 0.95).sum())
    return time.process_time() - began


if __name__ == "__main__":
    main()
