"""Volumes: from opening their files to slices of 224 × 224, uint8, in memory, on one core.

    python tools/benchmarks/volume_speed.py FOLDER...

Each folder is measured by itself: its NIfTI files, a volume each, or its folders of DICOM, a series each.
Ours finds the series by their headers, and takes fingerprint, pseudonyms, geometry, window, the look for
burnt-in text, slices without a head left out. It is beside nibabel or pydicom with OpenCV, and beside
SimpleITK, MONAI (by what `pip install` gives: pydicom and nibabel) and TorchIO where they are installed:
each turns the volume to its own standard orientation, scales it to 8 bits, and resizes each slice as
acquired. Rounds of all readers follow each other, so that load of the machine meets all alike; what
counts is the processor's time, and ratios within a round. All slices of a volume are counted, also those
that ours leaves out as empty.

2026-11-30, idle, 7 rounds, in slices/s, and ours to SimpleITK 2.5.7, MONAI 1.6.1 and TorchIO 1.2.1: six
volumes of 256 × 256 × 24 float64 in `.nii.gz` 1,032, 2.44 × (2.13 to 3.13), 4.26 × (3.84 to 4.48), 5.24 ×
(4.41 to 5.61); two sagittal series of 35 DICOM slices 1,153, 3.66 × (3.32 to 3.81), 4.63 × (4.10 to 8.76),
6.26 × (5.73 to 6.79); one GE series of 196 slices 1,471, 5.36 × (4.52 to 5.67), 9.28 × (7.21 to 9.59),
8.45 × (7.54 to 9.11). Half of the time of `.nii.gz` is igzip's. Of the sagittal series a fifth each goes
into headers and into the fingerprint, which no peer takes. All parts stand in docs/measurements.md.
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
from mri_hpc.intake.decoding.dicom.listing import find_series
from mri_hpc.intake.decoding.recipe import Recipe
from mri_hpc.intake.files.content import read_content
from mri_hpc.intake.files.sources import list_sources
from mri_hpc.intake.labels.pseudonyms import Pseudonyms

SIDE = 224
PERCENTILES = (0.5, 99.5)
"""Ends of the window of peers, as ours leaves out what is rare at either end."""
PSEUDONYMS = Pseudonyms(bytes(32))

Reader = Callable[[Path], int]
"""From a file, or the folder of a series, to the number of its slices."""


def main() -> None:
    """Measure and print one line a folder and reader."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folders", type=Path, nargs="+", help="folders of NIfTI files, or of series of DICOM")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--plain", action="store_true", help="peers scale from the least to the greatest value"
    )
    options = parser.parse_args()
    cv2.setNumThreads(1)
    os.environ["ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"] = "1"
    readers = {"ours": ours} | peers(is_robust=not options.plain)
    for folder in options.folders:
        _measure(folder, readers, options.rounds)


def _measure(folder: Path, readers: dict[str, Reader], rounds: int) -> None:
    paths = volumes_below(folder)
    rates: dict[str, list[float]] = {name: [] for name in readers}
    for number in range(rounds + 1):
        for name, reader in readers.items():
            started_s = time.process_time()
            slices = sum(reader(path) for path in paths)
            # The first round loads libraries.
            if number:
                rates[name].append(slices / (time.process_time() - started_s))
    print(f"{folder}: {len(paths)} volumes of {slices} slices")
    for name, found in rates.items():
        ratios = [our / its for our, its in zip(rates["ours"], found, strict=True)]
        print(
            f"{name:17} {statistics.median(found):6.0f} slices/s ({min(found):.0f} to {max(found):.0f}), "
            f"ours {statistics.median(ratios):.2f} × ({min(ratios):.2f} to {max(ratios):.2f})"
        )


def volumes_below(folder: Path) -> list[Path]:
    """List NIfTI files, and folders that hold DICOM."""
    files = [path for path in folder.rglob("*") if path.name.endswith((".nii", ".nii.gz"))]
    return sorted({*files, *(path.parent for path in folder.rglob("*.dcm"))})


def ours(path: Path) -> int:
    """Read a volume as preprocess does."""
    if path.is_dir():
        return _our_series(path)
    return _num_slices(path.parent, (path.name,))


def _our_series(folder: Path) -> int:
    series = find_series(folder, list_sources(folder), kept=None)
    found = 0
    for name in series.ids:
        first = series.first_of(name)
        named = series.named(first)
        assert PSEUDONYMS.patient(named.patient) and PSEUDONYMS.study(named.study)
        found += _num_slices(folder, series.files_of(first))
    return found


def _num_slices(folder: Path, files: tuple[str, ...]) -> int:
    content = read_content(folder, files)
    assert content.fingerprint
    samples = list(decode(content, Recipe(size=SIDE)))
    return len(samples) + sum(sample.slices_left_out for sample in samples)


def by_plain_libraries(path: Path, *, is_robust: bool) -> int:
    """Read a volume by nibabel, turned to the closest canonical orientation, or a series by pydicom."""
    if path.is_dir():
        return len(resized(_by_pydicom(path), is_robust=is_robust))
    import nibabel

    image: Any = nibabel.as_closest_canonical(nibabel.load(path))
    return len(resized(np.asarray(image.dataobj).T, is_robust=is_robust))


def _by_pydicom(folder: Path) -> np.ndarray:
    import pydicom

    files: list[Any] = [pydicom.dcmread(path) for path in folder.glob("*.dcm")]
    normal = np.cross(files[0].ImageOrientationPatient[:3], files[0].ImageOrientationPatient[3:])
    files.sort(key=lambda file: float(np.dot(file.ImagePositionPatient, normal)))
    return np.stack([file.pixel_array for file in files])


def peers(*, is_robust: bool) -> dict[str, Reader]:
    """Return the readers of others that are installed."""
    found: dict[str, Reader] = {"plain + OpenCV": functools.partial(by_plain_libraries, is_robust=is_robust)}
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

    if path.is_dir():
        reader = SimpleITK.ImageSeriesReader()
        reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(path)))
        read = reader.Execute()
    else:
        read = SimpleITK.ReadImage(str(path))
    image = SimpleITK.DICOMOrient(read, "LPS")
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
    ])  # fmt: skip
    resizers = {axis: transforms.Resize(in_plane(axis, keep=-1), mode="area") for axis in range(3)}

    def read(path: Path) -> int:
        image = pipeline(str(path))
        axis = acquired(image.shape[1:])
        return int(resizers[axis](image).numpy().astype(np.uint8).shape[1 + axis])

    return read


def by_torchio(*, is_robust: bool) -> Reader:
    """Return a reader by TorchIO's transforms."""
    import torchio

    scaling = torchio.RescaleIntensity((0, 255), percentiles=PERCENTILES if is_robust else (0, 100))
    pipeline = torchio.Compose([torchio.ToCanonical(), scaling])

    def read(path: Path) -> int:
        image = pipeline(torchio.ScalarImage(path))
        axis = acquired(image.shape[1:])
        resize = torchio.Resize(in_plane(axis, keep=int(image.shape[1 + axis])))
        return int(resize(image).numpy().astype(np.uint8).shape[1 + axis])

    return read


def acquired(shape: tuple[int, ...]) -> int:
    """Return the axis of fewest voxels, along which all volumes here were acquired."""
    return int(np.argmin(shape))


def in_plane(axis: int, *, keep: int) -> tuple[int, ...]:
    """Return the size of a volume whose slices across an axis were resized. keep: their number."""
    return tuple(keep if one == axis else SIDE for one in range(3))


def resized(volume: np.ndarray, *, is_robust: bool) -> list[np.ndarray]:
    """Scale a volume to 8 bits, and resize its slices as acquired."""
    volume = np.moveaxis(volume, acquired(volume.shape), 0)
    low, high = np.percentile(volume, PERCENTILES) if is_robust else (volume.min(), volume.max())
    grey = ((np.clip(volume, low, high) - low) * (255 / (high - low))).astype(np.uint8)
    return [cv2.resize(np.ascontiguousarray(one), (SIDE, SIDE), interpolation=cv2.INTER_AREA) for one in grey]


if __name__ == "__main__":
    main()
