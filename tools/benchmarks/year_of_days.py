"""A year in which images come every day: bytes written to a store, and what a day costs as it grows.

    python tools/benchmarks/year_of_days.py FOLDER          takes about 9 GB in FOLDER, and removes them

A day is what three commands do to the store: adding what lies in a new folder, as `preprocess` does, `store
compact`, and the snapshot that a training of that day names. Left out is what they do beside it: looking
through folders and their labels, the account at the end. Made-up pictures of 64 × 64, stored as 224 × 224.
Superseded files are removed at once and not after seven days, which changes no byte that is written. Bytes
written are those that the process handed over (wchar of /proc/self/io).

Held against: bytes written over the year, at most 6 × the bytes stored; the median day of each quarter, at
most 1.2 × the first's; each day, at most what `most_of` says. What was measured: docs/measurements.md.
"""

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import cv2
import numpy as np

from mri_hpc.intake.decoding.recipe import Wishes, wanted_recipe
from mri_hpc.intake.files.units import unit_images
from mri_hpc.intake.labels.folder_labels import FolderLabels
from mri_hpc.intake.labels.labelled_files import labelled_paths
from mri_hpc.storage.store import Store

CLASSES = ("glioma", "meningioma", "pituitary")
IMAGES_A_PATIENT = 10
SIDE = 64
MOST_WRITTEN = 6.0
"""Bytes written over bytes stored."""
MOST_SLOWER = 1.2
"""Median day of a quarter over that of the first."""
FAN_IN = 4
"""Chunks of the target's size that a day rewrites at most."""
BYTES_OF_TABLES = 40 * 2**20
"""Of private tables that are tidied, and of small files, at most."""
BYTES_A_ROW = 100
"""Of a snapshot, at most."""


@dataclass(frozen=True, kw_only=True)
class Day:
    """One day."""

    images: int
    """In the store, in the evening."""
    stored: int
    """Bytes of the chunks that came in."""
    compacted: int
    """Bytes of the chunks that compaction made."""
    written: int
    """All bytes."""
    seconds: float
    processor_s: float


def main() -> None:
    """Live through the year, and print what it cost."""
    options = _options()
    folder = Path(tempfile.mkdtemp(prefix="year-", dir=options.folder))
    os.environ["MRI_KEY_FILE"] = str(folder / "site.key")
    try:
        days = live(
            folder, images=options.images, days=options.days, size=options.size, target_mb=options.target_mb
        )
    finally:
        shutil.rmtree(folder)
    print("\n".join(lines(days, target_mb=options.target_mb)))
    sys.exit(bool(shortfalls(days, target_mb=options.target_mb)))


def live(folder: Path, *, images: int, days: int, size: int, target_mb: int) -> list[Day]:
    """Let as many images come in as many days; return what each day was."""
    path = folder / "store"
    found, first = [], 0
    for number in range(days):
        last = (number + 1) * images // days
        arrived = folder / "arrived" / f"day{number + 1}"
        _deliver(arrived, first, last)
        found.append(_day(arrived, path, size=size, target_mb=target_mb))
        first = last
        print(f"day {number + 1}: {found[-1]}", file=sys.stderr, flush=True)
    return found


def _day(source: Path, path: Path, *, size: int, target_mb: int) -> Day:
    """Store what lies in a folder, compact, and open what a training of this day would name."""
    labels = FolderLabels()
    made = Store.make(path, source)
    key_file = Path(os.environ["MRI_KEY_FILE"])
    intake = made.intake(
        source, labels, wanted_recipe(made.recipe, Wishes(size=size, ids="as-given")), key_file
    )
    sources = intake.sources(labelled_paths(source, labels, ids="as-given", shared=None))
    unit_size = unit_images(intake.recipe.image_bytes, None)
    held, before = _bytes_in(path / "chunks"), _written()
    began, busy = time.perf_counter(), time.process_time()
    assert made.add(intake, sources, unit_size=unit_size).stored == len(sources)
    stored = _bytes_in(path / "chunks") - held
    # Removed at once: that writes nothing.
    compacted = made.compact(target_bytes=target_mb * 2**20, keep_s=0).bytes_written
    snapshot = made.resolve("newest")
    return Day(
        images=len(snapshot),
        stored=stored,
        compacted=compacted,
        written=_written() - before,
        seconds=time.perf_counter() - began,
        processor_s=time.process_time() - busy,
    )


def _bytes_in(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


def _deliver(source: Path, first: int, last: int) -> None:
    """Write the pictures of one day, each with other pixels."""
    for number in range(first, last):
        patient = number // IMAGES_A_PATIENT
        folder = source / CLASSES[patient % len(CLASSES)] / f"P{patient:06d}"
        folder.mkdir(parents=True, exist_ok=True)
        coarse = np.random.default_rng(number).integers(0, 256, (9, 9), np.uint8)
        picture = cv2.resize(coarse, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC)
        (folder / f"{number:07d}.jpg").write_bytes(cv2.imencode(".jpg", picture)[1].tobytes())


def _written() -> int:
    """Return the bytes that this process has handed over to be written, so far."""
    with Path("/proc/self/io").open() as file:
        return next(int(line.split()[1]) for line in file if line.startswith("wchar"))


def amplification(days: Sequence[Day]) -> float:
    """Return bytes written over bytes that came in."""
    return sum(day.written for day in days) / sum(day.stored for day in days)


def quarters(days: Sequence[Day]) -> list[float]:
    """Return the processor time of the median day of each quarter, seconds."""
    each = len(days) // 4
    return [median(day.processor_s for day in days[each * at : each * (at + 1)]) for at in range(4)]


def most_of(day: Day, target_mb: int) -> int:
    """Return how many bytes a day may write: its own twice, what may have waited, and a snapshot twice."""
    waiting = FAN_IN * target_mb * 2**20 if day.compacted else 0
    return waiting + 2 * day.stored + 2 * BYTES_A_ROW * day.images + BYTES_OF_TABLES


def shortfalls(days: Sequence[Day], *, target_mb: int) -> list[str]:
    """Return what falls short of what the store is held to."""
    found = []
    if (times := amplification(days)) > MOST_WRITTEN:
        found.append(f"{times:.2f} times the bytes stored were written: more than {MOST_WRITTEN:g}")
    first, *others = quarters(days)
    found += [
        f"a quarter's median day is {one / first:.2f} of the first's"
        for one in others
        if one > MOST_SLOWER * first
    ]
    found += [
        f"day {number}: {day.written:,} bytes, more than {most_of(day, target_mb):,}"
        for number, day in enumerate(days, 1)
        if day.written > most_of(day, target_mb)
    ]
    return found


def lines(days: Sequence[Day], *, target_mb: int) -> list[str]:
    """Write it for people."""
    stored, written = (sum(getattr(day, name) for day in days) for name in ("stored", "written"))
    found = [
        f"{days[-1].images:,} images in {len(days)} days: {stored / 1e6:,.0f} MB stored, "
        f"{written / 1e6:,.0f} MB written: {written / stored:.2f} times",
        "median day by quarter: "
        + ", ".join(f"{one:.2f}" for one in quarters(days))
        + " s of a processor, "
        + ", ".join(f"{one:.2f}" for one in _by_clock(days))
        + " s by the clock",
    ]
    for number, day in enumerate(days, 1):
        if day.compacted:
            found.append(
                f"day {number}: {day.compacted / 1e6:,.0f} MB of compaction, {day.written / 1e6:,.0f} MB in"
                f" all (at most {most_of(day, target_mb) / 1e6:,.0f}), {day.seconds:.1f} s"
            )
    return [*found, *shortfalls(days, target_mb=target_mb)]


def _by_clock(days: Sequence[Day]) -> list[float]:
    each = len(days) // 4
    return [median(day.seconds for day in days[each * at : each * (at + 1)]) for at in range(4)]


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path, help="a folder on the disk to measure")
    parser.add_argument("--images", type=int, default=100_000)
    parser.add_argument("--days", type=int, default=365)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--target-mb", type=int, default=256)
    return parser.parse_args()


if __name__ == "__main__":
    main()
