"""Share of real test patients called not like the training data: as they are, and after planted changes.

    python tools/benchmarks/unlike.py ../shared/data/cheng work/unlike

Of a folder with index.csv (path, label, patient, fold, plane). For each fold in turn, its patients are held
against a space of the training patients of the other three and their validation patients, as the end of
training does it. Once with all planes, and once with axial slices alone, where the other planes are a change
as well. What was measured: docs/measurements.md.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from mri_hpc.cohort.splits import rows_of, split_of
from mri_hpc.intake.labels.label import PLANES
from mri_hpc.results.answers.appearance import appearance_of
from mri_hpc.results.answers.resemblance import Resemblance
from mri_hpc.results.answers.resemblance_run import resemblance_of
from mri_hpc.storage.store import Reader, Snapshot, Store

SIZE = 96
FOLDS = (1, 2, 3, 4)
AXIAL = PLANES.index("axial")
Change = Callable[[np.ndarray, np.random.Generator], np.ndarray]


def main() -> None:
    """Print a table of shares by change, with all planes and with axial slices alone."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path, help="a folder with index.csv")
    parser.add_argument("work", type=Path, help="folder of the store that is made of it")
    options = parser.parse_args()
    store = _store(options.folder, options.work / "store")
    for is_axial in (False, True):
        found: dict[str, list[bool]] = {}
        for fold in FOLDS:
            for name, alarms in _of_fold(store, fold, is_axial=is_axial).items():
                found.setdefault(name, []).extend(alarms)
        print("\naxial slices alone" if is_axial else "\nall planes")
        for name, alarms in found.items():
            print(f"{name:<36}{100 * np.mean(alarms):6.1f} %  of {len(alarms)}", flush=True)


def _store(folder: Path, store: Path) -> Store:
    if not (store / "snapshots").exists():
        command = [sys.executable, "-m", "mri_hpc.preprocess", "--source", folder]
        options = ["--labels", folder / "index.csv", "--store", store, "--size", SIZE, "--ids", "as-given"]
        subprocess.run([str(word) for word in (*command, *options)], check=True, stdout=sys.stderr)
    return Store.open(store)


def _of_fold(store: Store, fold: int, *, is_axial: bool) -> dict[str, list[bool]]:
    """Tell of each test patient, by change, whether the patient is called unlike."""
    snapshot = store.resolve("newest")
    split = rows_of(split_of(snapshot, test_fold=fold, from_train="validation"))
    plane = np.asarray(snapshot.plane)
    train, validation, test = (
        rows[plane[rows] == AXIAL] if is_axial else rows
        for rows in (split.train, split.validation, split.test)
    )
    with store.reader(snapshot) as reader:
        began = time.monotonic()
        space = resemblance_of(reader, snapshot, train, validation)
        print(
            f"fold {fold}: {space.num_images} training images, {len(space.validation)} validation patients, "
            f"{time.monotonic() - began:.1f} s",
            file=sys.stderr,
        )
        found = {name: _alarms(space, reader, snapshot, test, change) for name, change in CHANGES.items()}
        if is_axial:
            others = split.test[plane[split.test] != AXIAL]
            found["other planes"] = _alarms(space, reader, snapshot, others, CHANGES["none: false alarms"])
        found["one slice, none: false alarms"] = _alarms(
            space, reader, snapshot, _one_each(snapshot, test), CHANGES["none: false alarms"]
        )
    return found


def _one_each(snapshot: Snapshot, rows: np.ndarray) -> np.ndarray:
    """Return one row of each patient, drawn by chance."""
    rows = np.random.default_rng(1).permutation(rows)
    return np.sort(rows[np.unique(np.asarray(snapshot.patient)[rows], return_index=True)[1]])


def _alarms(
    space: Resemblance, reader: Reader, snapshot: Snapshot, rows: np.ndarray, change: Change
) -> list[bool]:
    changed = change(np.array(reader.read(rows)), np.random.default_rng(0))
    distances, patient = space.space.distances(appearance_of(changed)), np.asarray(snapshot.patient)[rows]
    return [space.verdict(distances[patient == one].tolist()).is_unlike for one in np.unique(patient)]


def _scaled(images: np.ndarray, by: float) -> np.ndarray:
    """Show heads larger or smaller about the middle of the image."""
    side = images.shape[1]
    middle = cv2.getRotationMatrix2D((side / 2 - 0.5, side / 2 - 0.5), 0, by)
    return np.stack([cv2.warpAffine(one, middle, (side, side), flags=cv2.INTER_AREA) for one in images])


def _power(images: np.ndarray, exponent: float) -> np.ndarray:
    return (255 * (images / 255.0) ** exponent).astype(np.uint8)


def _swapped(images: np.ndarray) -> np.ndarray:
    """Make dark bright within the head alone, as another sequence might."""
    within = np.clip(230 - images.astype(int), 10, 255).astype(np.uint8)
    return np.where(images > 20, within, images)


def _smooth(images: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Draw coarse clouds, as of no camera."""
    side = images.shape[1]
    clouds = [cv2.resize(random.random((5, 5)), (side, side), interpolation=cv2.INTER_CUBIC) for _ in images]
    return np.clip(255 * np.stack(clouds), 0, 255).astype(np.uint8)


def _text(images: np.ndarray) -> np.ndarray:
    """Show a page of text."""
    page = np.full(images.shape[1:], 255, np.uint8)
    for line in range(8, len(page), 10):
        cv2.putText(page, "Report of the", (2, line), cv2.FONT_HERSHEY_SIMPLEX, 0.35, 0, 1)
    return np.repeat(page[None], len(images), 0)


CHANGES: dict[str, Change] = {
    "none: false alarms": lambda images, _: images,
    "inverted": lambda images, _: 255 - images,
    "contrast swapped within the head": lambda images, _: _swapped(images),
    "brighter (grey values to the 0.5)": lambda images, _: _power(images, 0.5),
    "darker (grey values to the 2)": lambda images, _: _power(images, 2.0),
    "head at half the size": lambda images, _: _scaled(images, 0.5),
    "head at 0.75 of the size": lambda images, _: _scaled(images, 0.75),
    "head at 1.33 of the size": lambda images, _: _scaled(images, 1.33),
    "head at twice the size": lambda images, _: _scaled(images, 2.0),
    "turned by 90 degrees": lambda images, _: np.rot90(images, axes=(1, 2)).copy(),
    "turned by 180 degrees": lambda images, _: images[:, ::-1, ::-1].copy(),
    "no head: black": lambda images, _: np.zeros_like(images),
    "no head: noise": lambda images, random: random.integers(0, 256, images.shape).astype(np.uint8),
    "no head: faint noise": lambda images, random: random.integers(0, 20, images.shape).astype(np.uint8),
    "rubbish: clouds": _smooth,
    "rubbish: a page of text": lambda images, _: _text(images),
}

if __name__ == "__main__":
    main()
