"""Costs of a store of ten million images: time and peak memory of commands, process start included.

    python tools/benchmarks/ten_million.py FOLDER           takes about 3 GB in FOLDER, and removes them

The index is real: chunk columns are folded and published by the store's own code, a commit a chunk, and the
tables of seen files are tidied as compaction leaves them. Chunk files are sparse. Left out are the names,
which none of these commands reads. Peak memory is VmHWM, which counts mapped pages of the index, too.

Sources of the large re-run are real paths: a million hard links to a thousand JPEGs, and a thousand files of
their own that are new. In the small re-runs the source holds 20 new files alone.

2026-11-28, two cores of an AMD EPYC (virtual), ext4, load 1.2, n = 3, process start included. Ten million
images: store info 1.3 s, 237 MB; first batch 1.2 to 1.3 s, 425 MB; 20 new 1.5 to 1.7 s, 449 MB (in one
million 0.5 s, in ten thousand 0.4 s); store info that folds three small commits 2.7 to 2.8 s, 450 MB (aimed
at: below 2 s). 1,000 new of a million sources: 8.8 to 10.5 s, 395 MB.
2026-11-29, two cores of an Intel Xeon (virtual), load 10, n = 6: store info 0.2 s of a processor, 23 MB; that
folds three small commits 2.2 s of a processor, 309 MB.
2026-11-30, load 1.4, n = 2: store info 0.15 s, 24 MB; that folds 1.5 s, 316 MB; first batch 1.5 to 2.0 s,
425 MB; 20 new, with the account at the end, 2.7 to 3.1 s, 768 MB. Later that day, load 1.4, n = 3: 20 new
1.4 to 1.7 s, 119 MB, since the account looks at what has changed alone; as many more 1.5 to 2.1 s, 137 MB.
"""

import argparse
import hashlib
import json
import os
import platform
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from mri_hpc.base.sealed_json import seal
from mri_hpc.intake.decoding.recipe import Recipe
from mri_hpc.intake.files.sources import source_key
from mri_hpc.loading.order import mix64
from mri_hpc.storage.disk.columns import COLUMNS, STRINGS, ChunkHeader
from mri_hpc.storage.disk.commits import ADD, Commit, commit_id
from mri_hpc.storage.disk.layout import StoreDir
from mri_hpc.storage.disk.private_tables import SEEN
from mri_hpc.storage.snapshot.catalogue import publish_snapshot
from mri_hpc.storage.snapshot.folding import fold
from mri_hpc.storage.upkeep.tidying import MOST_FILES, tidy

SIZE = 224
OFFSET = 2**18
CHUNK_IMAGES = 2**26 // SIZE**2
CLASSES = ("glioma", "healthy", "meningioma", "pituitary")
IMAGES_A_PATIENT = 50
TASKS = 16
LINKED_FILES = 1000
STORES = (10_000, 1_000_000, 10_000_000)

# Prints the peak memory of a whole command. Not getrusage: it tells of its parent, too, where that took more.
RUN = """
import importlib, sys
status = importlib.import_module(sys.argv[1]).main(sys.argv[2:])
print(open("/proc/self/status").read().split("VmHWM:")[1].split()[0], file=sys.stderr)
sys.exit(status)
"""
FIRST_BATCH = """
import sys
from pathlib import Path
from mri_hpc.storage.reading.reader import Reader
from mri_hpc.storage.snapshot.catalogue import resolve
from mri_hpc.cohort.splits import rows_of, split_of
from mri_hpc.loading.order import Order
snapshot = resolve(Path(sys.argv[1]))
split = rows_of(split_of(snapshot))
order = Order(rows=split.train, keys=snapshot.key, batch_size=256).shuffled(seed=1, epoch=0)
step = next(order.rows_by_step(rank=0, world_size=1))
images = Reader(Path(sys.argv[1]), snapshot).read(step.rows)
assert images.shape == (len(step.rows), 224, 224) and len(images) > 200, images.shape
print(open("/proc/self/status").read().split("VmHWM:")[1].split()[0], file=sys.stderr)
"""


@dataclass(frozen=True, kw_only=True, eq=False)
class Index:
    """Images that a store is to hold, a value an image."""

    key: np.ndarray
    """uint64, unique."""
    source_hash: np.ndarray
    """uint64."""
    label: np.ndarray
    """Bytes."""
    patient: np.ndarray
    """Bytes."""
    size: int = 40_000
    """Bytes of each source."""
    mtime_ns: int = 1_700_000_000_000_000_000
    """Time of each source."""


def main() -> None:
    """Measure, print a line a figure, and one line of JSON."""
    options = _options()
    folder = Path(tempfile.mkdtemp(prefix="ten-million-", dir=options.folder))
    sources = Path(tempfile.mkdtemp(prefix="ten-million-", dir=options.sources))
    try:
        values = measure(folder, sources, options)
    finally:
        shutil.rmtree(folder)
        shutil.rmtree(sources)
    print(text(values))
    print(json.dumps(values))


def measure(folder: Path, sources: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Measure seconds and peak MB of everything."""
    found: dict[str, list[dict[str, float]]] = {}
    for images in sorted({min(images, options.images) for images in STORES}):
        store = make_store(folder / f"store-{images}", made_up(images))
        if images == options.images:
            where = ["--json", str(store.path)]
            found["store info"] = _rounds(options, "mri_hpc.store", "info", *where)
            found["first batch"] = [_first_batch(store) for _round in range(options.rounds)]
        found[f"20 new in a store of {images:,}"] = list(_few_new(store, sources, options.rounds))
        found[f"store info, {options.rounds} small commits not folded yet, of {images:,}"] = _rounds(
            options, "mri_hpc.store", "info", "--json", str(store.path)
        )
        shutil.rmtree(store.path)
    many = f"1,000 new among {options.links:,} sources"
    found[many] = list(_many_sources(folder / "store", sources / "linked", options))
    return {
        "images": options.images,
        "machine": f"{_processor()}, {os.cpu_count()} cores, Linux {platform.release()}",
        "date": time.strftime("%Y-%m-%d"),
        "load": os.getloadavg()[0],
        "found": found,
    }


def made_up(images: int) -> Index:
    """Make up images of as many patients as a large hospital has."""
    number = np.arange(images, dtype=np.uint64)
    patients = -(-images // IMAGES_A_PATIENT)
    names = np.array([_pseudonym(i) for i in range(patients)], "S17")
    of_patient = (number // np.uint64(IMAGES_A_PATIENT)).astype(np.int64)
    labels = np.array([name.encode() for name in CLASSES])[of_patient % len(CLASSES)]
    return Index(key=mix64(number, 1), source_hash=mix64(number, 2), label=labels, patient=names[of_patient])


def _pseudonym(number: int) -> bytes:
    return b"P" + hashlib.sha256(b"%d" % number).hexdigest()[:16].upper().encode()


def make_store(path: Path, index: Index) -> StoreDir:
    """Make a store as tasks of an array leave it after compaction has tidied, but for pixels and names."""
    store = StoreDir(path)
    path.mkdir(parents=True)
    store.make()
    store.recipe.write_bytes(Recipe(size=SIZE, ids="as-given").to_json())
    headers: dict[str, ChunkHeader] = {}
    commits = []
    for rows in _units(index.key):
        name = hashlib.sha256(index.key[rows].tobytes()).hexdigest()[:32]
        headers[name] = _header(index, rows)
        commits.append(_commit(store, name, len(rows)))
        seen = np.zeros(len(rows), SEEN)
        seen["key"], seen["source_hash"] = index.key[rows], index.source_hash[rows]
        seen["size"], seen["mtime_ns"] = index.size, index.mtime_ns
        (store.seen / f"{commits[-1].id}.bin").write_bytes(seen.tobytes())
    snapshot = fold(None, commits, headers.__getitem__)
    publish_snapshot(store, snapshot)
    before = -1
    while MOST_FILES < (count := len(list(store.seen.iterdir()))) != before:
        before = count
        tidy(store, snapshot.retractions)
    return store


def _units(key: np.ndarray) -> Iterator[np.ndarray]:
    """Yield rows of each chunk: those of a task, by key, cut."""
    order = np.argsort(key)
    task = key[order] % np.uint64(TASKS)
    for index in range(TASKS):
        own = order[task == index]
        yield from np.split(own, range(CHUNK_IMAGES, len(own), CHUNK_IMAGES))


def _header(index: Index, rows: np.ndarray) -> ChunkHeader:
    columns = {c.name: np.zeros((len(rows), c.width)[: 1 + (c.width > 1)], c.dtype) for c in COLUMNS}
    for name in ("fold", "split", "slice_index", "plane"):
        columns[name][:] = -1
    for name in ("position", "box"):
        columns[name][:] = np.nan
    columns["crc"][:] = zlib.crc32(bytes(SIZE**2))
    columns |= {name: getattr(index, name)[rows] for name in ("key", "source_hash", "label", "patient")}
    columns["study"] = np.full(len(rows), b"")
    assert all(name in columns for name in STRINGS)
    return ChunkHeader(
        columns=columns, image_shape=(SIZE, SIZE), offset=OFFSET, recipe_digest="", versions={}
    )


def _commit(store: StoreDir, chunk: str, images: int) -> Commit:
    """Write a commit as publish_commit does, without waiting for the disk; its chunk is a hole."""
    size = OFFSET + images * SIZE**2
    with store.chunk(chunk).open("wb") as file:
        file.truncate(size)
    commit = Commit(
        id=commit_id(chunk, ()), kind=ADD, chunk=chunk, images=images, chunk_bytes=size, who="benchmark"
    )
    store.commit(commit.id).write_bytes(seal(asdict(commit)))
    return commit


def _first_batch(store: StoreDir) -> dict[str, float]:
    return run(["-c", FIRST_BATCH, str(store.path)])


def _rounds(options: argparse.Namespace, *command: str) -> list[dict[str, float]]:
    return [run(["-c", RUN, *command]) for _round in range(options.rounds)]


def _few_new(store: StoreDir, sources: Path, rounds: int) -> Iterator[dict[str, float]]:
    """Add twenty new files a round, each round as a day of its own."""
    for day in range(rounds):
        folder = sources / f"{store.path.name}-day{day}"
        _write_pictures(folder, 20, first=day * 20)
        yield _preprocess(folder, store.path, stored=20)


def _many_sources(path: Path, source: Path, options: argparse.Namespace) -> Iterator[dict[str, float]]:
    store = make_store(path, _link_sources(source, options.links))
    for turn in range(options.rounds):
        _write_pictures(source / CLASSES[0] / f"new{turn}", 1000, first=10_000 + 1000 * turn)
        yield _preprocess(source, store.path, stored=1000)


def _preprocess(source: Path, store: Path, *, stored: int) -> dict[str, float]:
    where = ["--source", str(source), "--store", str(store), "--ids", "as-given", "--json"]
    found = run(["-c", RUN, "mri_hpc.preprocess", *where])
    assert found.pop("stored") == stored, found
    return found


def _link_sources(source: Path, links: int) -> Index:
    """Make a folder of so many paths, and what a store would hold of them."""
    _write_pictures(source.parent / "linked-to", LINKED_FILES, first=0)
    files = sorted((source.parent / "linked-to").rglob("*.jpg"))
    mtime_ns = 1_700_000_000_000_000_000
    size = max(file.stat().st_size for file in files)
    hashes = []
    for file in files:
        # Of one size, and one time.
        file.write_bytes(file.read_bytes().ljust(size, b"\0"))
        os.utime(file, ns=(mtime_ns, mtime_ns))
        hashes.append(int.from_bytes(hashlib.sha256(file.read_bytes()).digest()[:8], "big"))
    keys, labels, patients = [], [], []
    for number in range(links):
        patient = number // IMAGES_A_PATIENT
        label, name = CLASSES[patient % len(CLASSES)], f"patient{patient:06d}"
        if number % IMAGES_A_PATIENT == 0:
            (source / label / name).mkdir(parents=True)
        path = f"{label}/{name}/slice{number:07d}.jpg"
        os.link(files[number % LINKED_FILES], source / path)
        keys.append(source_key(source.name, path))
        labels.append(label.encode())
        patients.append(name.encode())
    return Index(
        key=np.array(keys, np.uint64),
        source_hash=np.array(hashes, np.uint64)[np.arange(links) % LINKED_FILES],
        label=np.array(labels),
        patient=np.array(patients),
        size=size,
        mtime_ns=mtime_ns,
    )


def _write_pictures(folder: Path, count: int, *, first: int) -> None:
    (folder / "glioma").mkdir(parents=True)
    for number in range(first, first + count):
        pixels = np.random.default_rng(number).integers(0, 256, (8, 8), np.uint8)
        picture = cv2.resize(pixels, (512, 512), interpolation=cv2.INTER_CUBIC)
        (folder / "glioma" / f"{number:06d}.jpg").write_bytes(cv2.imencode(".jpg", picture)[1].tobytes())


def run(arguments: list[str]) -> dict[str, float]:
    """Return seconds, peak MB, and where it prints counts how many sources were stored."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    before, start = _processor_s(), time.perf_counter()
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, env=environment, check=False
    )
    seconds, processor_s = time.perf_counter() - start, _processor_s() - before
    if done.returncode:
        sys.exit(f"{arguments[1:]} failed:\n{done.stderr}")
    peak_mb = int(done.stderr.splitlines()[-1]) * 1024 / 1e6
    printed = json.loads(done.stdout) if done.stdout.startswith("{") else {}
    counts = {name: printed[name] for name in ("stored",) if name in printed}
    return {
        "seconds": round(seconds, 2),
        "processor_s": round(processor_s, 2),
        "peak_mb": round(peak_mb),
        **counts,
    }


def text(values: dict[str, Any]) -> str:
    """Write the figures for people."""
    lines = [f"{values['images']:,} images; {values['machine']}, {values['date']}, load {values['load']:.1f}"]
    for what, rounds in values["found"].items():
        took, busy, peak = ([one[name] for one in rounds] for name in ("seconds", "processor_s", "peak_mb"))
        seconds = f"{min(took):.2f} to {max(took):.2f} s ({min(busy):.2f} s of a processor)"
        lines.append(f"{what}: {seconds}, {max(peak):.0f} MB")
    return "\n".join(lines)


def _processor_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _processor() -> str:
    with Path("/proc/cpuinfo").open(encoding="utf-8") as file:
        names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path, help="a folder on the disk to measure")
    parser.add_argument("--sources", type=Path, default=Path("/dev/shm"), help="folder for a million links")
    parser.add_argument("--images", type=int, default=STORES[-1])
    parser.add_argument("--links", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    return parser.parse_args()


if __name__ == "__main__":
    main()
