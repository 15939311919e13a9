"""Plant changed copies of real slices across folds, audit the store, and count what was found.

    python tools/benchmarks/planted_twins.py ../shared/data/cheng

Of a folder with index.csv (path, label, patient, fold), all slices and as many changed copies: by a JPEG of
quality 70, resizing, cropping by up to 5 % on each side, brightness and contrast, inversion, mirroring, or
turning, by turns. A copy is of another patient, of the next fold, and every third one of another class. Runs
`preprocess` and `store audit --json`. What was measured: docs/measurements.md.
"""

import argparse
import csv
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from twin_speed import changed


def main() -> None:
    """Plant copies, audit, and print recall, precision, and label conflicts found."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path, help="a folder with index.csv")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        planted = _plant(options.folder, Path(work) / "raw")
        store = str(Path(work) / "store")
        _run("mri_hpc.preprocess", "--source", str(Path(work) / "raw"), "--store", store, "--ids", "as-given")
        found = _run("mri_hpc.store", "audit", store, "--report-only", "--json")
    _count(planted, [[Path(name).name for name in group["images"]] for group in found["twins"]])


def _plant(folder: Path, raw: Path) -> dict[str, bool]:
    """Write slices, copies and their table; return whether a copy's class is another one, by name."""
    with (folder / "index.csv").open() as file:
        rows = list(csv.DictReader(file))
    classes = sorted({row["label"] for row in rows})
    raw.mkdir()
    planted, lines = {}, []
    for number, row in enumerate(rows):
        image = cv2.imread(str(folder / row["path"]), cv2.IMREAD_GRAYSCALE)
        assert image is not None
        name = f"{number:05d}.png"
        copy = changed(image, number)
        cv2.imwrite(str(raw / name), image)
        cv2.imwrite(str(raw / f"copy-{name}"), np.ascontiguousarray(copy))
        is_other = number % 3 == 0
        label = classes[(classes.index(row["label"]) + is_other) % len(classes)]
        lines.append([name, row["label"], row["patient"], row["fold"]])
        lines.append([f"copy-{name}", label, f"copy-{row['patient']}-{label}", int(row["fold"]) % 4 + 1])
        planted[name] = is_other
    with (raw / "labels.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["path", "label", "patient", "fold"], *lines])
    return planted


def _run(*words: str) -> dict[str, Any]:
    done = subprocess.run([sys.executable, "-m", *words], check=True, stdout=subprocess.PIPE, text=True)
    return dict(json.loads(done.stdout)) if "--json" in words else {}


def _count(planted: dict[str, bool], groups: list[list[str]]) -> None:
    pairs = {name: {name, f"copy-{name}"} for name in planted}
    found = [name for name, pair in pairs.items() if any(pair <= set(group) for group in groups)]
    right = [group for group in groups if len({name.removeprefix("copy-") for name in group}) == 1]
    conflicts = sum(planted[name] for name in found)
    print(f"{len(found)} of {len(planted)} planted twins found, by change: ", end="")
    print([sum(int(name[:5]) % 7 == change for name in found) for change in range(7)])
    print(f"{len(right)} of {len(groups)} groups are of one slice")
    print(f"{conflicts} of {sum(planted.values())} label conflicts among them found")


if __name__ == "__main__":
    main()
