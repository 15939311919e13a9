"""Volumes of one file: from opening them to slices of 224 × 224, uint8, in memory, on one core.

    python tools/benchmarks/volume_speed.py FOLDER_OF_VOLUMES

Ours (fingerprint, geometry, window, slices without a head left out) beside nibabel with OpenCV, and beside
SimpleITK, MONAI and TorchIO where they are installed: each turns the volume to its own standard orientation,
scales it from its least to its greatest value, and resizes each slice. Rounds of all readers follow each
other, so that load of the machine meets all alike; what counts is the processor's time, and ratios within a
round. All slices of a file are counted, also those that ours leaves out as empty.
"""

import argparse
import contextlib
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

Reader = Callable[[Path], int]
"""From a file to the number of its slices."""


def main() -> None:
    """Measure and print one line a reader."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("volumes", type=Path, help="a folder of NIfTI files")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = "1"
    paths = sorted(path for path in options.volumes.rglob("*") if path.name.endswith((".nii", ".nii.gz")))
    readers = {"ours": ours, "nibabel + OpenCV": by_nibabel} | peers()
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


def by_nibabel(path: Path) -> int:
    """Read a volume by nibabel, turned to the closest canonical orientation."""
    import nibabel

    image: Any = nibabel.as_closest_canonical(nibabel.load(path))
    return len(resized(np.moveaxis(np.asarray(image.dataobj), 2, 0)))


def peers() -> dict[str, Reader]:
    """Return the readers that are installed besides."""
    found: dict[str, Reader] = {}
    with contextlib.suppress(ImportError):
        import SimpleITK

        SimpleITK.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
        found["SimpleITK"] = by_simpleitk
    with contextlib.suppress(ImportError):
        import torch

        torch.set_num_threads(1)
        import monai  # noqa: F401

        found["MONAI"] = by_monai()
    with contextlib.suppress(ImportError):
        import torchio  # noqa: F401

        found["TorchIO"] = by_torchio()
    return found


def by_simpleitk(path: Path) -> int:
    """Read a volume by SimpleITK."""
    import SimpleITK

    image = SimpleITK.DICOMOrient(SimpleITK.ReadImage(str(path)), "LPS")
    return len(resized(SimpleITK.GetArrayFromImage(image)))


def by_monai() -> Reader:
    """Return a reader by MONAI's transforms."""
    from monai import transforms

    pipeline = transforms.Compose([
        transforms.LoadImage(image_only=True, ensure_channel_first=True),
        transforms.Orientation(axcodes="RAS"),
        transforms.ScaleIntensity(0, 255),
        transforms.Resize((SIDE, SIDE, -1), mode="area"),
    ])  # fmt: skip
    return lambda path: int(pipeline(str(path)).numpy().astype(np.uint8).shape[-1])


def by_torchio() -> Reader:
    """Return a reader by TorchIO's transforms."""
    import torchio

    pipeline = torchio.Compose([torchio.ToCanonical(), torchio.RescaleIntensity((0, 255))])

    def read(path: Path) -> int:
        image = pipeline(torchio.ScalarImage(path))
        depth = int(image.shape[-1])
        return int(torchio.Resize((SIDE, SIDE, depth))(image).numpy().astype(np.uint8).shape[-1])

    return read


def resized(volume: np.ndarray) -> list[np.ndarray]:
    """Scale a volume, (n, h, w), from its least to its greatest value, and resize its slices."""
    low, high = float(volume.min()), float(volume.max())
    grey = ((volume - low) * (255 / (high - low))).astype(np.uint8)
    return [cv2.resize(np.ascontiguousarray(one), (SIDE, SIDE), interpolation=cv2.INTER_AREA) for one in grey]


if __name__ == "__main__":
    main()
