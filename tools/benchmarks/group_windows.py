"""Cost of one window for all slices of a head: 16-bit PNG beside the bare decode, 8-bit JPEG beside before.

    python tools/benchmarks/group_windows.py FOLDER_OF_IMAGES [--before CHECKOUT_OF_AN_EARLIER_VERSION]

Slices are written as 512 × 512 PNGs of 12 bits in 16, with noise, 40 a head. Ours reads a head, finds its
window, and makes 224 × 224 images, all checks of the picture included; the bare way is Pillow's decode and
OpenCV's resize of the same bytes. Sides take turns head by head, on one thread; what counts is the median of
the ratio of processor times, with its quartiles: above 1, ours is faster.

With --before, whole preprocesses of 8-bit colour JPEGs take turns, this version beside that one: the ratio of
their processor times, without the start of Python.

2026-11-30, two cores of an AMD EPYC (virtual), load 1, 5 rounds of 4 heads of 40 slices: 0.94 (0.90–1.05) of
the bare way. A whole preprocess of 2,400 JPEGs of 512 × 512 beside the version before the windows, start of
Python included, 9 pairs: 1.02 (0.81–1.22), least times 1.07.
"""

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from mri_hpc.intake.decoding.decoders import decode_natively
from mri_hpc.intake.decoding.group_reader import GroupReader
from mri_hpc.intake.decoding.recipe import Recipe
from mri_hpc.intake.files.content import read_content

RECIPE = Recipe()
SIDE, SLICES = 512, 40
TIMED = """
import sys, time
sys.path.insert(0, sys.argv[1])
import mri_hpc.preprocess as command
import mri_hpc.storage.adding.loop
before = time.process_time()
status = command.main(sys.argv[2:])
print(time.process_time() - before, file=sys.stderr)
sys.exit(status)
"""


def main() -> None:
    """Measure and print one line a figure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("images", type=Path, help="a folder of images")
    parser.add_argument("--before", type=Path, help="a checkout of the version to compare with")
    parser.add_argument("--heads", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    found = sorted(path for path in options.images.rglob("*") if path.suffix.lower() in (".jpg", ".png"))
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        heads = [write_head(root, found, number) for number in range(options.heads)]
        ratios = [
            seconds(bare, root, head) / seconds(ours, root, head)
            for _round in range(options.rounds)
            for head in heads
        ]
        print(f"{time.strftime('%Y-%m-%d')}, load {os.getloadavg()[0]:.0f}, {len(heads)} heads of {SLICES}")
        print(f"16-bit PNG: {spread(ratios)} × the bare decode and resize")
    if options.before:
        with tempfile.TemporaryDirectory() as folder:
            print(f"8-bit JPEG: {spread(beside(Path(folder), found, options))} × the version before")


def write_head(root: Path, images: Sequence[Path], number: int) -> list[str]:
    """Write the slices of one head; return their names."""
    names = []
    for slice_number in range(SLICES):
        with Image.open(images[(number * SLICES + slice_number) % len(images)]) as picture:
            grey = np.asarray(picture.convert("L").resize((SIDE, SIDE))).astype(np.float64)
        noise = np.random.default_rng([number, slice_number]).normal(0, 8, grey.shape)
        names.append(f"{number}-{slice_number}.png")
        Image.fromarray(np.clip(grey * 16 + noise, 0, 4095).astype(np.uint16)).save(root / names[-1])
    return names


def ours(root: Path, names: Sequence[str]) -> None:
    """Make images of a head as preprocess does."""
    reader = GroupReader[int](root, RECIPE, lambda group: names)
    for name in names:
        kept = reader.kept(name, 0)
        images = kept.images if kept else decode_natively(read_content(root, [name]), RECIPE)
        list(reader.samples(images, 0))


def bare(root: Path, names: Sequence[str]) -> None:
    """Decode and resize, each slice by itself."""
    for name in names:
        with Image.open(io.BytesIO((root / name).read_bytes())) as picture:
            cv2.resize(np.asarray(picture), RECIPE.image_shape, interpolation=cv2.INTER_AREA)


def seconds(work: Callable[[Path, Sequence[str]], None], root: Path, names: Sequence[str]) -> float:
    """Return the processor time of some work."""
    before = time.process_time()
    work(root, names)
    return time.process_time() - before


def beside(root: Path, images: Sequence[Path], options: argparse.Namespace) -> list[float]:
    """Preprocess the same JPEGs by either version, in turns; return ratios of speed."""
    for number, path in enumerate(images[:: max(1, len(images) // 1000)][:1000]):
        target = root / "raw" / f"class{number % 2}" / f"patient{number // 10}" / f"{number}.jpg"
        target.parent.mkdir(parents=True, exist_ok=True)
        with Image.open(path) as picture:
            picture.convert("RGB").resize((SIDE, SIDE)).save(target, quality=90)
    here = Path(__file__).resolve().parents[2]
    taken: dict[Path, list[float]] = {here: [], options.before: []}
    for turn in range(2 * options.rounds):
        version = (here, options.before)[turn % 2]
        words = ["--source", root / "raw", "--store", root / f"store{turn}", "--json"]
        environment = {**os.environ, "MRI_KEY_FILE": str(root / "site.key")}
        command = [sys.executable, "-c", TIMED, *map(str, [version, *words])]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment, cwd=root)
        assert json.loads(done.stdout)["stored"] == min(1000, len(images))
        taken[version].append(float(done.stderr.split()[-1]))
    return [there / mine for mine, there in zip(taken[here], taken[options.before], strict=True)]


def spread(ratios: Sequence[float]) -> str:
    """Write a median with its quartiles."""
    low, middle, high = statistics.quantiles(ratios, n=4)
    return f"{middle:.2f} ({low:.2f}–{high:.2f})"


if __name__ == "__main__":
    main()
