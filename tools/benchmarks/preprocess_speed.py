"""Preprocessing speed beside Pillow and the bare decoder, and how far the pixels are from the exact ones.

    python tools/benchmarks/preprocess_speed.py FOLDER_OF_IMAGES

The images are written anew as 512 × 512 colour JPEGs of quality 90, and become 224 × 224 grey. The machine
may be shared: sides take turns image by image, on one thread, and what counts is the median over images of
the ratio of processor times, with its quartiles. Decoding is measured as preprocess calls it, all checks of
the picture included; reading the file, hashing it and storing the pixels belong to the two tasks below.

Two tasks at once are two whole preprocesses, a share each, beside one that takes all images, in turns. The
start of Python is left out: the seconds are those that the command reports, of the slower task. By processor
time: what two would give on cores of their own, if nothing but the extra work of being two slowed them down.

The exact way decodes every pixel before it averages over areas. It is compared on the images as they are.

2026-11-28, two cores of an AMD EPYC (virtual), load 1, 300 of Cheng's slices: 1,635 images a second and core,
3.56 (3.33–3.84) × Pillow, 0.92 (0.87–0.96) of the bare decode and resize; beside a test suite 1,314, 3.07 and
0.89. Two tasks at once, idle, 7 rounds: 2.03 (1.87–2.10) × one by the clock; beside other work 1.0 to 2.2.
From the exact decode: 0.64 grey levels on average (1.07 in the worst image), 34 at most, 6 for 99 % of pixels
"""

import argparse
import io
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import simplejpeg
from PIL import Image

from mri_hpc.intake.decoding.decoders import decode
from mri_hpc.intake.decoding.recipe import Recipe
from mri_hpc.intake.decoding.signatures import JPEG
from mri_hpc.intake.files.content import in_memory

RECIPE, DEEP_RECIPE = Recipe(), Recipe(bits=16)
SIDE = 512
SUFFIXES = (".jpg", ".jpeg", ".png")


def main() -> None:
    """Measure and print one line a figure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("images", type=Path, help="a folder of images")
    parser.add_argument("--most", type=int, default=300, help="images to take")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    paths = sorted(path for path in options.images.rglob("*") if path.suffix.lower() in SUFFIXES)
    paths = paths[:: max(1, len(paths) // options.most)][: options.most]
    sources = [as_jpeg(path) for path in paths]
    values = {
        "images": len(sources),
        "date": time.strftime("%Y-%m-%d"),
        "load": os.getloadavg()[0],
        "seconds": seconds(sources, options.rounds),
        "distance": distance([path.read_bytes() for path in paths]),
        "tasks": tasks(sources, options.rounds),
    }
    print(text(values))


def as_jpeg(path: Path) -> bytes:
    """Write a picture as a 512 × 512 colour JPEG."""
    file = io.BytesIO()
    with Image.open(path) as picture:
        picture.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
    return file.getvalue()


def ours(data: bytes) -> np.ndarray:
    """Decode as preprocess does, all checks included."""
    return next(decode(in_memory(data), RECIPE)).pixels


def deep(data: bytes) -> np.ndarray:
    """Decode as preprocess does for a store of 16 bits."""
    return next(decode(in_memory(data), DEEP_RECIPE)).pixels


def pillow(data: bytes) -> np.ndarray:
    """Decode as most scripts do."""
    with Image.open(io.BytesIO(data)) as picture:
        return np.asarray(picture.convert("L").resize(RECIPE.image_shape))


def bare(data: bytes) -> np.ndarray:
    """Make the two calls that the work comes down to."""
    grey = simplejpeg.decode_jpeg(data, "GRAY", min_height=RECIPE.size, min_width=RECIPE.size)
    return cv2.resize(grey[:, :, 0], RECIPE.image_shape, interpolation=cv2.INTER_AREA)


def exact(data: bytes) -> np.ndarray:
    """Decode every pixel, then average over areas."""
    grey = simplejpeg.decode_jpeg(data, "GRAY")
    return cv2.resize(grey[:, :, 0], RECIPE.image_shape, interpolation=cv2.INTER_AREA)


def seconds(sources: list[bytes], rounds: int) -> dict[str, list[float]]:
    """Measure seconds of processor time of each side, a value an image and round."""
    sides: dict[str, Callable[[bytes], np.ndarray]] = {
        "ours": ours,
        "deep": deep,
        "pillow": pillow,
        "bare": bare,
    }
    found: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(rounds):
        for number, data in enumerate(sources):
            names = list(sides)
            first = (turn + number) % len(names)
            for name in names[first:] + names[:first]:
                start = time.process_time()
                sides[name](data)
                found[name].append(time.process_time() - start)
    return found


def distance(sources: list[bytes]) -> dict[str, float]:
    """Measure grey levels between our pixels of the JPEGs among the sources and the exact ones."""
    jpegs = [data for data in sources if data.startswith(JPEG)]
    if not jpegs:
        return {}
    apart = [np.abs(ours(data).astype(int) - exact(data)) for data in jpegs]
    return {
        "images": len(apart),
        "mean": float(np.mean(apart)),
        "percentile_99": float(np.percentile(apart, 99)),
        "largest": int(np.max(apart)),
        "worst_image_mean": max(float(one.mean()) for one in apart),
    }


def tasks(sources: list[bytes], rounds: int) -> dict[str, list[float]]:
    """Measure by what factor two tasks at once are faster than one, a value a round."""
    found: dict[str, list[float]] = {"by_wall_time": [], "by_processor_time": []}
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "raw" / "class"
        raw.mkdir(parents=True)
        copies = 8
        for number, data in enumerate(sources * copies):
            # Other bytes for each, or all would be twins.
            (raw / f"{number:06d}.jpg").write_bytes(data + number.to_bytes(4, "big"))
        start_cpu_s = _cpu_s([[sys.executable, "-c", "import mri_hpc.preprocess"]])[1]
        for turn in range(rounds):
            store = Path(folder) / f"store-{turn}"
            one_s, one_cpu_s = _preprocess(raw.parent, store / "one", 1)
            two_s, two_cpu_s = _preprocess(raw.parent, store / "two", 2)
            found["by_wall_time"].append(one_s / two_s)
            one_cpu_s, two_cpu_s = one_cpu_s - start_cpu_s, two_cpu_s - 2 * start_cpu_s
            found["by_processor_time"].append(2 * one_cpu_s / two_cpu_s)
            shutil.rmtree(store)
    return found


def text(values: dict[str, Any]) -> str:
    """Write the figures for people."""
    took, far, both = values["seconds"], values["distance"], values["tasks"]
    lines = [
        f"{values['date']}, load {values['load']:.1f}; {values['images']} JPEGs of {SIDE} × {SIDE} to "
        f"{RECIPE.size} × {RECIPE.size}: {1 / statistics.median(took['ours']):,.0f} images a second and "
        f"core, {_ratios(took['pillow'], took['ours'])} × Pillow, "
        f"{_ratios(took['bare'], took['ours'])} of the bare decode and resize; to 16 bits "
        f"{_ratios([2 * one for one in took['ours']], took['deep'])} × to 8 by the byte",
        f"two tasks at once: {_spread(both['by_wall_time'])} × one, start of Python left out; "
        f"by processor time {_spread(both['by_processor_time'])}",
    ]
    if far:
        lines.append(
            f"from the exact decode, {far['images']} JPEGs as they are: {far['mean']:.2f} grey levels on "
            f"average ({far['worst_image_mean']:.2f} in the worst image), "
            f"{far['percentile_99']:.0f} for 99 % of pixels, {far['largest']} at most"
        )
    return "\n".join(lines)


def _ratios(a: list[float], b: list[float]) -> str:
    return _spread([x / y for x, y in zip(a, b, strict=True)])


def _spread(values: list[float]) -> str:
    """Write median and quartiles."""
    low, middle, high = np.percentile(values, (25, 50, 75))
    return f"{middle:.2f} ({low:.2f}–{high:.2f})"


def _preprocess(source: Path, store: Path, count: int) -> tuple[float, float]:
    """Return seconds that the slower of some tasks reports, and processor seconds of all, start included."""
    command = [sys.executable, "-m", "mri_hpc.preprocess", "--source", str(source), "--store", str(store)]
    command += ["--ids", "as-given", "--json", "--tasks", str(count)]
    printed, cpu_s = _cpu_s([[*command, "--task", str(task)] for task in range(count)])
    return max(json.loads(one)["seconds"] for one in printed), cpu_s


def _cpu_s(commands: list[list[str]]) -> tuple[list[bytes], float]:
    """Run commands at once; return what they print, and their processor seconds together."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    running = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) for command in commands
    ]
    printed = [process.communicate()[0] for process in running]
    if any(process.returncode for process in running):
        sys.exit(f"failed: {' '.join(commands[0])}")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return printed, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


if __name__ == "__main__":
    main()
