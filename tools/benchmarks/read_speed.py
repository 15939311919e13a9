"""Reading speed of a store beside np.take from memory, plain h5py and whatever peers are installed.

    python tools/benchmarks/read_speed.py FOLDER            makes a store of 2.6 GB in FOLDER, and removes it

A uniform permutation over all images of all chunks, in batches of 256, by one reading thread on every side,
each batch ending as a torch uint8 tensor. The store is made through the real formats and read as training
reads it, the CRC of one image a batch included. Sides take turns, epoch by epoch, and each ratio is the
median over epochs: absolute figures move with whatever else the machine does, the ratio of processor time
least. All but h5py put their batches into the same kind of recycled memory.

Three states: warm as written (the system holds what the maker of the store wrote, in large pages), cold
(nothing of it in memory), and warm as read (the system holds what random reads brought in, in small pages,
which cost more to find).

2026-11-23, two shared cores of an AMD EPYC (virtual), ext4, 52,800 images in 44 chunks, n = 7, under
heavy load from other work (ranges are wide; to be measured again on an idle machine). By processor time,
to np.take: 1.04 (0.71–2.53) warm as written, 0.81 (0.60–1.11) warm as read, plain h5py 0.11–0.17. Cold:
2.9–3.8 × plain h5py. First batch: 38 ms warm and 49 ms cold at a load of 5, 131 ms at a load of 9.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import tempfile
import time
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import torch

from mri_hpc.chunks.buffers import Buffers
from mri_hpc.chunks.chunk import publish_chunk
from mri_hpc.chunks.columns import COLUMNS, STRINGS, chunk_id
from mri_hpc.chunks.commits import publish_commit
from mri_hpc.chunks.layout import StoreDir
from mri_hpc.chunks.reader import Reader
from mri_hpc.chunks.snapshots import resolve
from mri_hpc.chunks.table import Snapshot
from mri_hpc.intake.recipe import Recipe
from mri_hpc.loading.batches import read_ahead

Fetch = Callable[[np.ndarray], torch.Tensor]
BATCH = 256
COLD_BATCHES = 40


def main() -> None:
    """Measure and print a Markdown table and one line of JSON."""
    options = _options()
    torch.set_num_threads(1)
    folder = Path(tempfile.mkdtemp(prefix="read-speed-", dir=options.folder))
    try:
        store = make_store(folder / "store", options.chunks, options.images, options.size)
        snapshot = resolve(store.path)
        values = measure(store, snapshot, epochs=options.epochs)
    finally:
        shutil.rmtree(folder)
    print(table(values))
    print(json.dumps(values))


def make_store(path: Path, chunks: int, images: int, size: int) -> StoreDir:
    """A store of random images, published as preprocess publishes them."""
    store = StoreDir(path)
    path.mkdir(parents=True)
    store.make()
    recipe = Recipe(size=size, ids="as-given")
    store.recipe.write_bytes(recipe.to_json())
    random = np.random.default_rng(0)
    for chunk in range(chunks):
        pixels = random.integers(0, 256, (images, size, size), np.uint8)
        columns = _columns(np.arange(images, dtype="<u8") * chunks + chunk, pixels)
        name = chunk_id(columns, recipe.digest())
        attributes = {"recipe_digest": recipe.digest(), "chunk_id": name}
        publish_chunk(store.chunk(name), pixels, columns, attributes)
        publish_commit(store, chunk=name, images=images, rejected=(), versions={})
    return store


def measure(store: StoreDir, snapshot: Snapshot, *, epochs: int) -> dict[str, Any]:
    """What every side does in every state."""
    rows = np.random.default_rng(1).permutation(len(snapshot))
    batches = [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]
    images = _all_images(store, snapshot)
    as_written = _warm(store, snapshot, images, batches, epochs)
    cold = {
        name: _cold(store, make, batches[:COLD_BATCHES]) for name, make in _sides_on_disk(store, snapshot)
    }
    first_cold = _seconds_of_first_batch(store, snapshot, batches[0], is_cold=True)
    _rate(by_store(store, snapshot), batches)
    first_warm = min(_seconds_of_first_batch(store, snapshot, batches[0], is_cold=False) for _ in range(3))
    return {
        "images": len(snapshot),
        "chunks": len(snapshot.chunks),
        "image_shape": snapshot.image_shape,
        "epochs": epochs,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Linux {platform.release()}",
        "warm as written": as_written,
        "warm as read": _warm(store, snapshot, images, batches, epochs),
        "cold": cold,
        "first_batch_ms": {"cold": first_cold * 1e3, "warm": first_warm * 1e3},
    }


def _warm(
    store: StoreDir, snapshot: Snapshot, images: np.ndarray, batches: list[np.ndarray], epochs: int
) -> dict[str, dict[str, list[float]]]:
    """Images a second, and processor seconds, of each side and epoch; an epoch before them is not counted."""
    sides = {"np.take from memory": in_memory(images)}
    sides |= {name: make() for name, make in _sides_on_disk(store, snapshot)}
    results: dict[str, dict[str, list[float]]] = {name: {"rate": [], "cpu_s": []} for name in sides}
    for epoch in range(epochs + 1):
        for name, fetch in sides.items():
            start = time.process_time()
            rate = _rate(fetch, batches)
            if epoch:
                results[name]["rate"].append(rate)
                results[name]["cpu_s"].append(time.process_time() - start)
    return results


def in_memory(images: np.ndarray) -> Fetch:
    """np.take, into recycled memory. images: uint8, (n, H, W)."""
    buffers = Buffers()

    def fetch(rows: np.ndarray) -> torch.Tensor:
        out = buffers.empty((len(rows), *images.shape[1:]))
        # Of its modes, the default one copies everything twice.
        np.take(images, rows, axis=0, out=out, mode="clip")
        return torch.from_numpy(out)

    return fetch


def by_store(store: StoreDir, snapshot: Snapshot) -> Fetch:
    """As training reads."""
    reader = Reader(store.path, snapshot)
    return lambda rows: torch.from_numpy(reader.read(rows))


def by_h5py(store: StoreDir, snapshot: Snapshot) -> Fetch:
    """As a plain Dataset over h5py files does, with its images stacked by the loader."""
    names = [name.decode() for name in snapshot.chunks["name"].tolist()]
    images = [h5py.File(store.chunk(name), "r", locking=False)["images"] for name in names]
    chunk, row = snapshot.chunk.tolist(), snapshot.row.tolist()
    return lambda rows: torch.stack([torch.from_numpy(images[chunk[i]][row[i]]) for i in rows.tolist()])


def table(values: dict[str, Any]) -> str:
    """The figures as Markdown."""
    shape = values["image_shape"]
    lines = [
        f"{values['images']:,} images of {shape[0]} × {shape[1]} in {values['chunks']} chunks, batches of "
        f"{BATCH}, one reading thread, {values['epochs']} epochs; {values['machine']}, "
        f"{time.strftime('%Y-%m-%d')}",
        "",
        "| state | side | images/s, median | ratio to np.take | by processor time |",
        "|---|---|---|---|---|",
    ]
    for state in ("warm as written", "warm as read"):
        results = values[state]
        take = results["np.take from memory"]
        for name, side in results.items():
            ratio, by_cpu = _ratios(side["rate"], take["rate"]), _ratios(take["cpu_s"], side["cpu_s"])
            lines.append(
                f"| {state} | {name} | {statistics.median(side['rate']):,.0f} | {ratio} | {by_cpu} |"
            )
    lines += [f"| cold | {name} | {rate:,.0f} | | |" for name, rate in values["cold"].items()]
    ours, h5py_rate = values["cold"].values()
    first = values["first_batch_ms"]
    lines += [
        "",
        f"Cold, this store is {ours / h5py_rate:.1f} × plain h5py. First batch, opening included: "
        f"{first['warm']:.0f} ms warm, {first['cold']:.0f} ms cold.",
    ]
    return "\n".join(lines)


def _ratios(a: list[float], b: list[float]) -> str:
    """Median of the ratios pair by pair, and their range."""
    ratios = [x / y for x, y in zip(a, b, strict=True)]
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f}–{max(ratios):.2f})"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path, help="a folder on the disk to measure, with room for the store")
    parser.add_argument("--chunks", type=int, default=44)
    parser.add_argument("--images", type=int, default=1200, help="images a chunk")
    parser.add_argument("--size", type=int, default=224, help="side of an image")
    parser.add_argument("--epochs", type=int, default=7)
    return parser.parse_args()


def _columns(keys: np.ndarray, pixels: np.ndarray) -> dict[str, np.ndarray]:
    columns = {c.name: np.zeros((len(keys), c.width)[: 1 + (c.width > 1)], c.dtype) for c in COLUMNS}
    crcs = np.array([zlib.crc32(image.data) for image in pixels], "<u4")
    names = {name: np.full(len(keys), b"a") for name in STRINGS}
    return columns | {"key": keys, "source_hash": keys, "crc": crcs} | names


def _sides_on_disk(store: StoreDir, snapshot: Snapshot) -> Iterable[tuple[str, Callable[[], Fetch]]]:
    yield "this store", lambda: by_store(store, snapshot)
    yield "plain h5py", lambda: by_h5py(store, snapshot)


def _all_images(store: StoreDir, snapshot: Snapshot) -> np.ndarray:
    images = np.empty((len(snapshot), *snapshot.image_shape), np.uint8)
    with Reader(store.path, snapshot) as reader:
        for start in range(0, len(images), BATCH):
            rows = np.arange(start, min(start + BATCH, len(images)))
            images[rows[0] : rows[-1] + 1] = reader.read(rows)
    return images


def _rate(fetch: Fetch, batches: list[np.ndarray]) -> float:
    """Images a second through the thread that reads ahead."""
    start = time.perf_counter()
    images = sum(len(batch) for batch in read_ahead(iter(batches), fetch))
    return images / (time.perf_counter() - start)


def _cold(store: StoreDir, make: Callable[[], Fetch], batches: list[np.ndarray]) -> float:
    """Median of three runs, with nothing of the chunks in memory."""
    rates = []
    for _run in range(3):
        _forget(store)
        rates.append(_rate(make(), batches))
    return statistics.median(rates)


def _seconds_of_first_batch(store: StoreDir, snapshot: Snapshot, rows: np.ndarray, *, is_cold: bool) -> float:
    if is_cold:
        _forget(store)
    start = time.perf_counter()
    by_store(store, snapshot)(rows)
    return time.perf_counter() - start


def _forget(store: StoreDir) -> None:
    """Take the chunks out of the system's cache; nobody may have them mapped."""
    os.sync()
    for path in store.chunks.iterdir():
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


if __name__ == "__main__":
    main()
