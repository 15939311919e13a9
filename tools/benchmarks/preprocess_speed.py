"""Preprocessing speed beside Pillow and the bare decoder, and how far the pixels are from the exact ones.

    python tools/benchmarks/preprocess_speed.py FOLDER_OF_IMAGES

The images are written anew as 512 × 512 colour JPEGs of quality 90, and become 224 × 224 grey. Sides take
turns, round by round, on one thread each; each ratio is the median over rounds of processor time. The exact
way decodes every pixel before it averages over areas.

2026-11-23, two shared cores of an AMD EPYC under load from other work, 300 slices of Cheng's figshare
set, n = 3: 1,212 images a second and core, 3.2 × Pillow, 0.88 of the bare calls; 0.63 grey levels from
the exact pixels on average, 1.07 in the worst image, 35 at most (a few pixels at sharp edges). Two tasks
at once gave 1.3 × one while other work held both cores: to be measured again on an idle machine.
"""

import argparse
import io
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import simplejpeg
from PIL import Image

from mri_hpc.intake.recipe import Recipe
from mri_hpc.intake.samples import decode

RECIPE = Recipe()
SIDE = 512
SUFFIXES = (".jpg", ".jpeg", ".png")


def main() -> None:
    """Measure and print one line a figure, and JSON."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("images", type=Path, help="a folder of images")
    parser.add_argument("--most", type=int, default=300, help="images to take")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    paths = sorted(path for path in options.images.rglob("*") if path.suffix.lower() in SUFFIXES)
    every = max(1, len(paths) // options.most)
    sources = [as_jpeg(path) for path in paths[::every][: options.most]]
    values = {"images": len(sources), **rates(sources, options.rounds), **distance(sources)}
    values |= tasks(sources, options.rounds)
    print(text(values))
    print(json.dumps(values))


def as_jpeg(path: Path) -> bytes:
    """A picture as a 512 × 512 colour JPEG."""
    file = io.BytesIO()
    with Image.open(path) as picture:
        picture.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
    return file.getvalue()


def ours(data: bytes) -> np.ndarray:
    """As preprocess decodes, all checks included."""
    return decode(data, RECIPE)[0].pixels


def pillow(data: bytes) -> np.ndarray:
    """As most scripts do it."""
    with Image.open(io.BytesIO(data)) as picture:
        return np.asarray(picture.convert("L").resize(RECIPE.image_shape))


def bare(data: bytes) -> np.ndarray:
    """The two calls that the work comes down to."""
    grey = simplejpeg.decode_jpeg(data, "GRAY", min_height=RECIPE.size, min_width=RECIPE.size)
    return cv2.resize(grey[:, :, 0], RECIPE.image_shape, interpolation=cv2.INTER_AREA)


def exact(data: bytes) -> np.ndarray:
    """Every pixel decoded, then averaged over areas."""
    grey = simplejpeg.decode_jpeg(data, "GRAY")
    return cv2.resize(grey[:, :, 0], RECIPE.image_shape, interpolation=cv2.INTER_AREA)


def rates(sources: list[bytes], rounds: int) -> dict[str, list[float]]:
    """Images a second of processor time, a value a round, of each side."""
    sides: dict[str, Callable[[bytes], np.ndarray]] = {"ours": ours, "pillow": pillow, "bare": bare}
    found: dict[str, list[float]] = {name: [] for name in sides}
    for _round in range(rounds):
        for name, side in sides.items():
            start = time.process_time()
            for data in sources:
                side(data)
            found[name].append(len(sources) / (time.process_time() - start))
    return found


def distance(sources: list[bytes]) -> dict[str, float]:
    """Grey levels between our pixels and the exact ones: over all, of the worst image, and the largest."""
    apart = [np.abs(ours(data).astype(int) - exact(data)) for data in sources]
    return {
        "distance_mean": float(np.mean(apart)),
        "distance_worst_image": max(float(one.mean()) for one in apart),
        "distance_largest": int(np.max(apart)),
    }


def tasks(sources: list[bytes], rounds: int) -> dict[str, list[float]]:
    """Images a second of wall time of whole preprocesses, by one task and by two at once, a value a round."""
    found: dict[str, list[float]] = {"one_task": [], "two_tasks": []}
    with tempfile.TemporaryDirectory() as folder:
        raw = Path(folder) / "raw" / "class"
        raw.mkdir(parents=True)
        copies = 8
        for number, data in enumerate(sources * copies):
            # Other bytes for each, or all would be twins.
            (raw / f"{number:06d}.jpg").write_bytes(data + number.to_bytes(4, "big"))
        for turn in range(min(rounds, 3)):
            for name, count in (("one_task", 1), ("two_tasks", 2)):
                seconds = _seconds(raw.parent, Path(folder) / f"store-{turn}-{count}", count)
                found[name].append(len(sources) * copies / seconds)
    return found


def text(values: dict) -> str:
    """The figures for people."""
    to_pillow = statistics.median(a / b for a, b in zip(values["ours"], values["pillow"], strict=True))
    to_bare = statistics.median(a / b for a, b in zip(values["ours"], values["bare"], strict=True))
    two = statistics.median(
        two / one for one, two in zip(values["one_task"], values["two_tasks"], strict=True)
    )
    return (
        f"{values['images']} JPEGs of {SIDE} × {SIDE} to {RECIPE.size} × {RECIPE.size}: "
        f"{statistics.median(values['ours']):,.0f} images a second and core, {to_pillow:.2f} × Pillow, "
        f"{to_bare:.2f} of the bare decode and resize\n"
        f"two tasks at once: {two:.2f} × one, start of Python included\n"
        f"from the exact decode: {values['distance_mean']:.2f} grey levels on average, "
        f"{values['distance_worst_image']:.2f} in the worst image, {values['distance_largest']} at most"
    )


def _seconds(source: Path, store: Path, count: int) -> float:
    start = time.perf_counter()
    command = [sys.executable, "-m", "mri_hpc.preprocess", "--source", str(source), "--store", str(store)]
    command += ["--ids", "as-given", "--tasks", str(count)]
    running = [
        subprocess.Popen(
            [*command, "--task", str(task)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        for task in range(count)
    ]
    failed = [process for process in running if process.wait()]
    if failed:
        sys.exit(f"preprocess failed: {' '.join(command)}")
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
