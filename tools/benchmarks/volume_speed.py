"""Volumes of one file: from opening them to slices of 224 × 224, uint8, in memory, on one core.

    python tools/benchmarks/volume_speed.py FOLDER_OF_VOLUMES

Ours (fingerprint, geometry, window, slices without a head left out) beside nibabel with OpenCV, and beside
SimpleITK, MONAI and TorchIO where they are installed: each turns the volume to its own standard orientation,
scales it to 8 bits, and resizes each slice. Rounds of all readers follow each
other, so that load of the machine meets all alike; what counts is the processor's time, and ratios within a
round. All slices of a file are counted, also those that ours leaves out as empty.

2026-11-29, six volumes of 256 × 256 × 24 float64, `.nii.gz`, 5 rounds, 2 cores shared with others (load 12):
ours 817 slices/s, 2.60 × SimpleITK 2.5.7 (2.17 to 3.03), 4.03 × MONAI 1.6.1 (3.97 to 4.37), 5.13 × TorchIO
1.2.1 (4.94 to 5.63), 2.88 × nibabel 5.4 + OpenCV. With --plain: 1.93, 3.49, 4.85 and 2.30 ×. Half of the time
of ours is igzip's, a fifth OpenCV's resizing. 2026-11-30, load 1, 3 rounds: 849 slices/s, 2.03 × SimpleITK
(1.75 to 2.61), 3.90 × MONAI (2.91 to 4.14), 4.71 × TorchIO (3.26 to 5.15).
"""

import argparse
import contextlib
import functools
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mri_hpc.intake.decoding.decoders import decode
from mri_hpc.intake.decoding.recipe import Recipe
from mri_hpc.intake.files.content import read_content

SIDE = 224
PERCENTILES = (0.5, 99.5)
"""Ends of the window of peers, as ours leaves out what is rare at either end."""

Reader = Callable[[Path], int]
"""From a file to the number of its slices."""


def main() -> None:
    """Measure and print one line a reader."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("volumes", type=Path, help="a folder of NIfTI files")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--plain", action="store_true", help="peers scale from the least to the greatest value"
    )
    options = parser.parse_args()
    cv2.setNumThreads(1)
    os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = "1"
    paths = sorted(path for path in options.volumes.rglob("*") if path.name.endswith((".nii", ".nii.gz")))
    readers = {"ours": ours} | peers(is_robust=not options.plain)
    rates: dict[str, list[float]] = {name: [] for name in readers}
    for number in range(options.rounds + 1):
        for name, reader in readers.items():
            started_s = time.process_time()
            slices = sum(reader(path) for path in paths)
            # The first round loads libraries.
            if number:
                rates[name].append(slices / (time.process_time() - started_s))
    for name, found in rates.items():
        ratios = [our / its for our, its in zip(rates["ours"], found, strict=True)]
        print(
            f"{name:17} {statistics.median(found):6.0f} slices/s ({min(found):.0f} to {max(found):.0f}), "
            f"ours {statistics.median(ratios):.2f} × ({min(ratios):.2f} to {max(ratios):.2f})"
        )


def ours(path: Path) -> int:
    """Read a volume as preprocess does."""
    content = read_content(path.parent, [path.name])
    assert content.fingerprint
    samples = list(decode(content, Recipe(size=SIDE)))
    return len(samples) + sum(sample.slices_left_out for sample in samples)


def by_nibabel(path: Path, *, is_robust: bool) -> int:
    """Read a volume by nibabel, turned to the closest canonical orientation."""
    import nibabel

    image: Any = nibabel.as_closest_canonical(nibabel.load(path))
    return len(resized(np.moveaxis(np.asarray(image.dataobj), 2, 0), is_robust=is_robust))


def peers(*, is_robust: bool) -> dict[str, Reader]:
    """Return the readers of others that are installed."""
    found: dict[str, Reader] = {"nibabel + OpenCV": functools.partial(by_nibabel, is_robust=is_robust)}
    with contextlib.suppress(ImportError):
        import SimpleITK

        SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
        found["SimpleITK"] = functools.partial(by_simpleitk, is_robust=is_robust)
    with contextlib.suppress(ImportError):
        import torch

        torch.set_num_threads(1)
        found["MONAI"] = by_monai(is_robust=is_robust)
    with contextlib.suppress(ImportError):
        found["TorchIO"] = by_torchio(is_robust=is_robust)
    return found


def by_simpleitk(path: Path, *, is_robust: bool) -> int:
    """Read a volume by SimpleITK."""
    import SimpleITK

    image = SimpleITK.DICOMOrient(SimpleITK.ReadImage(str(path)), "LPS")
    return len(resized(SimpleITK.GetArrayFromImage(image), is_robust=is_robust))


def by_monai(*, is_robust: bool) -> Reader:
    """Return a reader by MONAI's transforms."""
    from monai import transforms

    scaling: Any = transforms.ScaleIntensity(0, 255)
    if is_robust:
        scaling = transforms.ScaleIntensityRangePercentiles(*PERCENTILES, 0, 255, clip=True)
    pipeline = transforms.Compose([
        transforms.LoadImage(image_only=True, ensure_channel_first=True),
        transforms.Orientation(axcodes="RAS"),
        scaling,
        transforms.Resize((SIDE, SIDE, -1), mode="area"),
    ])  # fmt: skip
    return lambda path: int(pipeline(str(path)).numpy().astype(np.uint8).shape[-1])


def by_torchio(*, is_robust: bool) -> Reader:
    """Return a reader by TorchIO's transforms."""
    import torchio

    scaling = torchio.RescaleIntensity((0, 255), percentiles=PERCENTILES if is_robust else (0, 100))
    pipeline = torchio.Compose([torchio.ToCanonical(), scaling])

    def read(path: Path) -> int:
        image = pipeline(torchio.ScalarImage(path))
        depth = int(image.shape[-1])
        return int(torchio.Resize((SIDE, SIDE, depth))(image).numpy().astype(np.uint8).shape[-1])

    return read


def resized(volume: np.ndarray, *, is_robust: bool) -> list[np.ndarray]:
    """Scale a volume, (n, h, w), to 8 bits, and resize its slices."""
    low, high = np.percentile(volume, PERCENTILES) if is_robust else (volume.min(), volume.max())
    grey = ((np.clip(volume, low, high) - low) * (255 / (high - low))).astype(np.uint8)
    return [cv2.resize(np.ascontiguousarray(one), (SIDE, SIDE), interpolation=cv2.INTER_AREA) for one in grey]


if __name__ == "__main__":
    main()
