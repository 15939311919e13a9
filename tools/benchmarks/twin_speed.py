"""Seconds and memory to find twins, as images grow in number, and beside comparing all pairs of thumbnails.

    python tools/benchmarks/twin_speed.py FOLDER_OF_IMAGES --images 10000 20000 40000 100000

Makes as many different images of 224 × 224 as are asked for, each of two pictures of the folder, turned by
any angle and laid over each other. Every tenth is another one changed: by a JPEG of quality 70, resizing,
cropping by up to 5 % on each side, brightness and contrast, inversion, mirroring, or turning, by turns. They
lie in a file, and are read from it in parts. One core, one thread, a process of its own for each number.

n log n: what a number would take if the first one's seconds grew so.

All pairs, of the first number: thumbnails of 64 × 64, of mean 0 and length 1, multiplied with the others
in 16 variants: eight turns and mirrorings, and each of them inverted. An inverted one has the negative
product, so that 8 do as well: both are measured. Each pair once. All seconds are of the processor, as others
may use it as well. What was measured: docs/measurements.md.
"""

import argparse
import functools
import itertools
import math
import multiprocessing
import os
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

os.environ.update({"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"})

import cv2
import numpy as np

from mri_hpc.cohort.twins import find_twins

cv2.setNumThreads(1)

SIDE = 224
MADE_SIDE = 384
THUMBNAIL = 64
AT_ONCE = 1000
CHANGED_EVERY = 10
STAGES = ("looks", "candidates", "judging")


def main() -> None:
    """Make the images, measure both ways, and print one line a figure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path, help="a folder of images")
    parser.add_argument("--images", type=int, nargs="+", default=[10000])
    parser.add_argument("--file", type=Path, help="where the images are kept for another time")
    parser.add_argument("--without-pairs", action="store_true", help="leave out comparing all pairs")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = options.file or Path(folder) / "images"
        if not path.is_file() or path.stat().st_size < max(options.images) * SIDE**2:
            _make(path, options.folder, max(options.images))
        took = [_alone(measure, path, count) for count in options.images]
        first, first_s = options.images[0], took[0]
        for count, seconds in zip(options.images, took, strict=True):
            expected = first_s * count * math.log(count) / (first * math.log(first))
            print(f"{count} images: {seconds:.1f} s, n log n from {first}: {expected:.1f} s")
        if not options.without_pairs:
            for variants in (8, 16):
                pairs_s = _alone(compare_all_pairs, path, first, variants)
                ratio = first_s / pairs_s
                print(f"all pairs of {first}, {variants} products each: {pairs_s:.1f} s, {ratio:.2f} of that")


def measure(path: Path, count: int) -> float:
    """Find the twins of the first images of a file; print what it took, and return the seconds."""
    clock, load = _Clock(), os.getloadavg()[0]
    with path.open("rb") as file:
        groups = find_twins(Images(file.fileno()).read, count, progress=clock.shown)
    seconds = clock.end()
    planted = {(original_of(row), row) for row in range(count) if is_changed(row)}
    found = {group.rows for group in groups}
    stages = ", ".join(f"{name} {took:.1f}" for name, took in zip(STAGES, seconds, strict=True))
    print(f"find_twins: {sum(seconds):.1f} s for {count} images ({stages}), at most {_peak_mb():.0f} MB")
    print(f"  found {len(found & planted)} of {len(planted)} twins, and {len(found - planted)} other groups")
    print(f"  load before and now: {load:.1f}, {os.getloadavg()[0]:.1f}", flush=True)
    return sum(seconds)


def _alone(function: Callable[..., float], *values: object) -> float:
    """Call a function in a process of its own, of which nothing else has used memory."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *values).result()


class _Clock:
    """Processor time by stage, told by what find_twins shows: looks once, candidates four times, judging."""

    def __init__(self) -> None:
        self._asked = 0
        self._marks = [time.process_time()]

    def shown(self, parts: range) -> Iterable[int]:
        """Yield the parts."""
        self._asked += 1
        if self._asked == 6:
            self._marks.append(time.process_time())
        yield from parts
        if self._asked == 1:
            self._marks.append(time.process_time())

    def end(self) -> list[float]:
        """Return the seconds of each stage."""
        marks = [*self._marks, time.process_time()]
        return [after - before for before, after in itertools.pairwise(marks)]


def _peak_mb() -> float:
    """Return the most memory that this process has held; what getrusage says is the parent's as well."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))


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


def is_changed(number: int) -> bool:
    """Tell whether an image is another one changed."""
    return number % CHANGED_EVERY == CHANGED_EVERY - 1


def original_of(number: int) -> int:
    """Return the image that a changed one was."""
    kept, which = CHANGED_EVERY - 1, number // CHANGED_EVERY
    return which // kept * CHANGED_EVERY + which % kept


def _make(path: Path, folder: Path, count: int) -> None:
    """Write the images to a file; of any number of them the first ones are the same."""
    paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    with path.open("wb") as file:
        for number in range(count):
            if is_changed(number):
                image = changed(original(paths, original_of(number)), number // CHANGED_EVERY)
            else:
                image = original(paths, number)
            file.write(fitted(image).tobytes())


def original(paths: list[Path], number: int) -> np.ndarray:
    """Lay one picture, turned, over another: uint8, (384, 384)."""
    random = np.random.default_rng(number)
    laid = []
    for _ in range(2):
        picture, middle = _picture(paths[random.integers(len(paths))]), (MADE_SIDE / 2, MADE_SIDE / 2)
        turn = cv2.getRotationMatrix2D(middle, random.uniform(0, 360), random.uniform(0.85, 1))
        laid.append(cv2.warpAffine(picture, turn, (MADE_SIDE, MADE_SIDE), flags=cv2.INTER_LINEAR))
    return np.asarray(cv2.addWeighted(laid[0], 0.6, laid[1], 0.4, 0))


@functools.lru_cache(maxsize=4000)
def _picture(path: Path) -> np.ndarray:
    picture = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
    assert picture is not None
    return np.asarray(cv2.resize(picture, (MADE_SIDE, MADE_SIDE), interpolation=cv2.INTER_AREA))


def changed(image: np.ndarray, number: int) -> np.ndarray:
    """Change an image by one of seven changes."""
    random = np.random.default_rng(number)
    match number % 7:
        case 0:
            return np.asarray(cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 70])[1], 0))
        case 1:
            side = int(random.integers(135, 525))
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


def compare_all_pairs(path: Path, count: int, variants: int) -> float:
    """Compare all pairs of thumbnails in 8 or 16 variants; return the seconds that it took."""
    began = time.process_time()
    thumbnails = np.empty((count, THUMBNAIL, THUMBNAIL), np.float32)
    with path.open("rb") as file:
        images = Images(file.fileno())
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
