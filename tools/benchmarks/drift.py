"""How often patients are called drifted: halves drawn by chance, as they are, and after planted changes.

    python tools/benchmarks/drift.py ../shared/data/cheng --sets 40

Of a folder with index.csv (path, label, patient). Each set divides the patients in two by chance; one half is
changed, and held against the other as report does. What was measured: docs/measurements.md.
"""

import argparse
import csv
from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

from mri_hpc.results.answers.appearance import extent_of, grey_of
from mri_hpc.results.runs.drift import compare

SIDE = 96
NAMES = ("brightness", "contrast", "extent")
Change = Callable[[np.ndarray], np.ndarray]


def main() -> None:
    """Print a line a change: sets in which anything was called drifted, then each measure."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path, help="a folder with index.csv")
    parser.add_argument("--sets", type=int, default=40)
    options = parser.parse_args()
    images, label = _patients(options.folder)
    as_they_are = _values(images, CHANGES["none"])
    slices = np.array([float(len(one)) for one in images.values()])
    for name, change in CHANGES.items():
        changed = _values(images, change)
        for fewer in (1, 4):
            found = _drifted(as_they_are, changed, slices, label, options.sets, fewer)
            shares = ", ".join(
                f"{measure} {100 * num / options.sets:.0f}" for measure, num in sorted(found.items())
            )
            since = len(label) // 2 // fewer
            print(f"{name} | {len(label) // 2} and {since} patients | {shares or 'none'}", flush=True)


def _patients(folder: Path) -> tuple[dict[str, list[np.ndarray]], np.ndarray]:
    """Read the images of each patient, and whose class is which."""
    images: dict[str, list[np.ndarray]] = defaultdict(list)
    labels = {}
    with (folder / "index.csv").open() as file:
        for row in csv.DictReader(file):
            grey = cv2.imread(str(folder / row["path"]), cv2.IMREAD_GRAYSCALE)
            assert grey is not None, row
            images[row["patient"]].append(cv2.resize(grey, (SIDE, SIDE), interpolation=cv2.INTER_AREA))
            labels[row["patient"]] = row["label"]
    return images, np.unique(list(labels.values()), return_inverse=True)[1]


def _values(images: dict[str, list[np.ndarray]], change: Change) -> np.ndarray:
    """Measure each patient by the mean of the changed images: (patients, measures)."""
    found = []
    for pictures in images.values():
        greys = [grey_of(change(picture)) for picture in pictures]
        found.append(np.mean([[grey.mean(), grey.std(), np.mean(extent_of(grey))] for grey in greys], axis=0))
    return np.array(found)


def _drifted(
    as_they_are: np.ndarray, changed: np.ndarray, slices: np.ndarray, label: np.ndarray, sets: int, fewer: int
) -> Counter[str]:
    found: Counter[str] = Counter()
    for number in range(sets):
        order = np.random.default_rng(number).permutation(len(label))
        half = len(order) // 2
        before, since = order[:half], order[half:][: half // fewer]
        values = {name: (as_they_are[before, at], changed[since, at]) for at, name in enumerate(NAMES)}
        values["slices"] = slices[before], slices[since]
        shares = tuple(np.bincount(label[side], minlength=label.max() + 1) for side in (before, since))
        drifted = [
            one.name for one in compare(values, (shares[0], shares[1]), ("a", "b", "c")) if one.is_drifted
        ]
        found.update(drifted)
        found["anything"] += bool(drifted)
    return found


def _scaled(picture: np.ndarray, by: float) -> np.ndarray:
    middle = cv2.getRotationMatrix2D((SIDE / 2 - 0.5, SIDE / 2 - 0.5), 0, by)
    return np.asarray(cv2.warpAffine(picture, middle, (SIDE, SIDE), flags=cv2.INTER_AREA))


def _power(picture: np.ndarray, exponent: float) -> np.ndarray:
    return np.asarray((255 * (picture / 255.0) ** exponent).astype(np.uint8))


CHANGES: dict[str, Change] = {
    "none": lambda picture: picture,
    "grey values to the 0.9": lambda picture: _power(picture, 0.9),
    "grey values to the 0.75": lambda picture: _power(picture, 0.75),
    "grey values to the 0.5": lambda picture: _power(picture, 0.5),
    "head at 0.9 of the size": lambda picture: _scaled(picture, 0.9),
    "head at 0.75 of the size": lambda picture: _scaled(picture, 0.75),
}

if __name__ == "__main__":
    main()
