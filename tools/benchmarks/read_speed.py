"""Reading speed of a store beside np.take from memory, plain h5py and whatever peers are installed.

    python tools/benchmarks/read_speed.py FOLDER            makes a store of 2.6 GB in FOLDER, and removes it
    python tools/benchmarks/read_speed.py FOLDER --peers    with FFCV, MosaicML Streaming, LitData, WebDataset
    python tools/benchmarks/read_speed.py FOLDER --bits     a store of 16 bits beside one of 8, by the byte

A uniform permutation over all images of all chunks, in batches of 256, by one reading thread on every side,
each batch ending as a torch uint8 tensor. The store is made through the real formats and read as training
reads it, the CRC of one image a batch included. All but h5py put their batches into recycled memory.

The machine may be shared: sides take turns in short rounds, all with the rows of that round, and what counts
is the median over rounds of the ratio within a round, with its quartiles: by wall time, and by processor
time, which other work moves less. Slow sides sit out most rounds. One epoch ahead is not counted.

Three states: warm as written (the system holds what the maker of the store wrote, in large pages), cold
(nothing of it in memory), and warm as read (the system holds what random reads brought in, in small pages,
which cost more to find).

Peers come from PyPI, into an environment of their own that has what the store needs, too (h5py, simplejpeg,
opencv-python-headless, tomli_w); none of them is a dependency. FFCV is built from source, with the headers of
OpenCV and libturbojpeg, which PyPI lacks.

2026-11-28, two cores of an AMD EPYC (virtual), ext4, load 1.4, 52,800 images of 224 × 224 in 44 chunks, 88
rounds; ratios to np.take, median (quartiles): warm as written 1.00 (0.91–1.07), 165,929 images/s; as read
0.98 (0.92–1.04); plain h5py 0.13 and 0.17. Cold 4.1 (3.6–4.3) × plain h5py, 18,690 images/s. First batch,
opening included: 6 ms warm, 20 ms cold. Beside peers, by wall time: 1.14 (1.03–1.31) × FFCV; of a run before,
the store as random reads had left it: 11.3 × MosaicML Streaming, 4.9 × LitData, 14.3 × WebDataset.
"""

import argparse
import os
import platform
import shutil
import statistics
import tempfile
import time
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import h5py
import numpy as np
import torch

from mri_hpc.intake.decoding.recipe import Bits, Recipe
from mri_hpc.loading.batches import read_ahead
from mri_hpc.storage.disk.chunk_file import publish_chunk
from mri_hpc.storage.disk.columns import COLUMNS, STRINGS, chunk_id
from mri_hpc.storage.disk.commits import publish_commit
from mri_hpc.storage.disk.layout import StoreDir
from mri_hpc.storage.reading.buffers import Buffers
from mri_hpc.storage.reading.reader import Reader
from mri_hpc.storage.snapshot.catalogue import resolve
from mri_hpc.storage.snapshot.table import Snapshot

Fetch = Callable[[np.ndarray], torch.Tensor]
Play = Callable[[list[np.ndarray]], int]
"""Reads the images of some batches of rows, and returns how many they were."""
BATCH = 256
ROUND_BATCHES = 20
SLOW_EVERY = 10
"""A slow side plays in one of so many rounds."""
COLD_BATCHES = 40
COLD_ROUNDS = 5
FIRST_BATCHES = 9
FFCV_EPOCHS = 30
TAKE, STORE, H5PY = "np.take from memory", "this store", "plain h5py"


@dataclass(frozen=True, kw_only=True)
class Side:
    """One way of reading."""

    play: Play
    is_slow: bool = False


def main() -> None:
    """Measure and print a Markdown table."""
    options = _options()
    torch.set_num_threads(1)
    folder = Path(tempfile.mkdtemp(prefix="read-speed-", dir=options.folder))
    try:
        if options.bits:
            print_bits(folder, options.chunks, options.images, options.size, options.epochs)
            return
        store = make_store(folder / "store", options.chunks, options.images, options.size)
        snapshot = resolve(store.path)
        values = measure(store, snapshot, epochs=options.epochs)
        print(table(values))
        if options.peers:
            # As the peers' own files will be: just written, and never read from the disk.
            shutil.rmtree(store.path)
            store = make_store(store.path, options.chunks, options.images, options.size)
            print_peers(folder, store, resolve(store.path), epochs=options.epochs)
    finally:
        shutil.rmtree(folder)


def make_store(path: Path, chunks: int, images: int, size: int) -> StoreDir:
    """Make a store of random images, published as preprocess publishes them."""
    store, recipe = _empty_store(path, Recipe(size=size, ids="as-given"))
    for chunk in range(chunks):
        publish(store, recipe, chunk, chunks, images)
    return store


def _empty_store(path: Path, recipe: Recipe) -> tuple[StoreDir, Recipe]:
    store = StoreDir(path)
    path.mkdir(parents=True)
    store.make()
    store.recipe.write_bytes(recipe.to_json())
    return store, recipe


def publish(store: StoreDir, recipe: Recipe, chunk: int, chunks: int, images: int) -> dict[str, float]:
    """Publish one of so many chunks of random images; measure seconds an image, but for the noise."""
    white = 2**recipe.bits
    shape = (images, recipe.size, recipe.size)
    pixels = np.random.default_rng(chunk).integers(0, white, shape, f"<u{recipe.bits // 8}")

    def write(_batches: list[np.ndarray]) -> int:
        columns = _columns(np.arange(images, dtype="<u8") * chunks + chunk, pixels)
        name = chunk_id(columns, recipe.digest())
        attributes = {"recipe_digest": recipe.digest(), "chunk_id": name}
        publish_chunk(store.chunk(name), pixels, columns, attributes)
        publish_commit(store, chunk=name, images=images, rejected=(), versions={})
        return images

    return {"round": chunk, **_timed(write, [])}


def print_bits(folder: Path, chunks: int, images: int, size: int, epochs: int) -> None:
    """Print how fast a store of 16 bits is written and read beside one of 8: by the byte, in turns.

    It has half as many images a chunk, and a batch, so that both move as many bytes at a time.
    """
    made = {
        bits: _empty_store(folder / str(bits), Recipe(size=size, ids="as-given", bits=bits))
        for bits in get_args(Bits)
    }
    written: dict[int, list[dict[str, float]]] = {bits: [] for bits in made}
    for chunk in range(chunks):
        for bits in list(made)[:: 1 if chunk % 2 else -1]:
            written[bits].append(publish(*made[bits], chunk, chunks, 8 * images // bits))
    plain, deep = (_ahead(by_store(store, resolve(store.path))) for store, _recipe in made.values())
    sides = {"8": Side(play=plain), "16": Side(play=lambda parts: deep([rows[::2] // 2 for rows in parts]))}
    read = _warm(sides, _batches(chunks * images), epochs)
    for what, rounds in (("written", list(written.values())), ("read, warm", list(read.values()))):
        by_byte = [{**one, "wall_s": one["wall_s"] / 2, "cpu_s": one["cpu_s"] / 2} for one in rounds[1]]
        wall, cpu = (_ratios(by_byte, rounds[0], by) for by in ("wall_s", "cpu_s"))
        print(f"16 bits {what}: {wall} × 8 bits by the byte, by processor time {cpu}, {len(by_byte)} rounds")
    print(f"load {os.getloadavg()[0]:.1f}, {chunks} chunks of {images} images of 8 bits of {size} × {size}")


def measure(store: StoreDir, snapshot: Snapshot, *, epochs: int) -> dict[str, Any]:
    """Measure every side in every state."""
    batches = _batches(len(snapshot))
    images = _all_images(store, snapshot)
    values: dict[str, Any] = {
        "images": len(snapshot),
        "chunks": len(snapshot.chunks),
        "image_shape": snapshot.image_shape,
        "epochs": epochs,
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Linux {platform.release()}",
        "load": [os.getloadavg()[0]],
        "warm as written": _warm(_sides(images, store, snapshot), batches, epochs),
        "cold": _cold(store, snapshot, batches[:COLD_BATCHES]),
        "first_batch_ms": {
            state: [_first_batch_ms(store, snapshot, rows, state) for rows in batches[:FIRST_BATCHES]]
            for state in ("cold", "warm")
        },
    }
    _ahead(by_store(store, snapshot))(batches)
    values["warm as read"] = _warm(_sides(images, store, snapshot), batches, epochs)
    values["load"].append(os.getloadavg()[0])
    return values


def print_peers(folder: Path, store: StoreDir, snapshot: Snapshot, *, epochs: int) -> None:
    """Print a line for each peer that is installed, which plays the same rounds as np.take and this store."""
    from read_peers import missing, peers

    print(f"not installed: {', '.join(missing()) or 'none'}")
    images, batches = _all_images(store, snapshot), _batches(len(snapshot))
    for name, play in peers(folder, images, BATCH):
        sides = _sides(images, store, snapshot)
        is_slow = name != "ffcv"
        sides[name] = Side(play=play, is_slow=is_slow)
        del sides[H5PY]
        # FFCV makes its batches' memory anew for every pass: in short rounds that would weigh too much.
        length = (epochs, ROUND_BATCHES) if is_slow else (FFCV_EPOCHS, len(batches))
        rounds = _warm(sides, batches, *length)
        by_wall, by_cpu = (_ratios(rounds[STORE], rounds[name], by) for by in ("wall_s", "cpu_s"))
        print(f"this store is {by_wall} × {name}, by processor time {by_cpu}", flush=True)
        shutil.rmtree(folder / name)


def _batches(images: int) -> list[np.ndarray]:
    """Return full batches of a uniform permutation."""
    rows = np.random.default_rng(1).permutation(images)
    return [rows[start : start + BATCH] for start in range(0, images - BATCH + 1, BATCH)]


def _sides(images: np.ndarray, store: StoreDir, snapshot: Snapshot) -> dict[str, Side]:
    return {
        TAKE: Side(play=_ahead(in_memory(images))),
        STORE: Side(play=_ahead(by_store(store, snapshot))),
        H5PY: Side(play=_ahead(by_h5py(store, snapshot)), is_slow=True),
    }


def _ahead(fetch: Fetch) -> Play:
    """Fetch through the thread that reads ahead."""
    return lambda batches: sum(len(batch) for batch in read_ahead(iter(batches), fetch))


def _warm(
    sides: dict[str, Side], batches: list[np.ndarray], epochs: int, a_round: int = ROUND_BATCHES
) -> dict[str, list[dict[str, float]]]:
    """Measure each side in each of its rounds. a_round: batches of a round."""
    parts = [batches[i : i + a_round] for i in range(0, len(batches), a_round)]
    for side in sides.values():
        side.play(parts[0] if side.is_slow else batches)
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in sides}
    for number, part in enumerate(parts * epochs):
        playing = [name for name, side in sides.items() if not side.is_slow or number % SLOW_EVERY == 0]
        # No side always comes first.
        for name in playing if number % 2 else playing[::-1]:
            rounds[name].append({"round": number, **_timed(sides[name].play, part)})
    return rounds


def _timed(play: Play, batches: list[np.ndarray]) -> dict[str, float]:
    """Measure seconds of wall and of processor time for an image."""
    wall, cpu = time.perf_counter(), time.process_time()
    images = play(batches)
    return {"wall_s": (time.perf_counter() - wall) / images, "cpu_s": (time.process_time() - cpu) / images}


def in_memory(images: np.ndarray) -> Fetch:
    """Read by np.take, into recycled memory. images: uint8, (n, H, W)."""
    buffers = Buffers()

    def fetch(rows: np.ndarray) -> torch.Tensor:
        out = buffers.empty((len(rows), *images.shape[1:]))
        # Of its modes, the default one copies everything twice.
        np.take(images, rows, axis=0, out=out, mode="clip")
        return torch.from_numpy(out)

    return fetch


def by_store(store: StoreDir, snapshot: Snapshot) -> Fetch:
    """Read as training does."""
    reader = Reader(store.path, snapshot)
    return lambda rows: torch.from_numpy(reader.read(rows))


def by_h5py(store: StoreDir, snapshot: Snapshot) -> Fetch:
    """Read as a plain Dataset over h5py files does, with its images stacked by the loader."""
    names = [name.decode() for name in snapshot.chunks["name"].tolist()]
    images = [h5py.File(store.chunk(name), "r", locking=False)["images"] for name in names]
    chunk, row = snapshot.chunk.tolist(), snapshot.row.tolist()
    return lambda rows: torch.stack([torch.from_numpy(images[chunk[i]][row[i]]) for i in rows.tolist()])


def table(values: dict[str, Any]) -> str:
    """Write the figures as Markdown."""
    shape = values["image_shape"]
    load = " and ".join(f"{one:.1f}" for one in values["load"])
    lines = [
        f"{values['images']:,} images of {shape[0]} × {shape[1]} in {values['chunks']} chunks, batches of "
        f"{BATCH}, one reading thread, {values['epochs']} epochs in rounds of {ROUND_BATCHES} batches; "
        f"{values['machine']}, {time.strftime('%Y-%m-%d')}, load {load} before and after",
        "",
        "| state | side | images/s, median | ratio to np.take, quartiles | by processor time | rounds |",
        "|---|---|---|---|---|---|",
    ]
    states = {name: values[name] for name in ("warm as written", "warm as read")}
    for state, sides in states.items():
        for name, rounds in sides.items():
            rate = 1 / statistics.median(one["wall_s"] for one in rounds)
            ratios = [_ratios(rounds, sides[TAKE], by) for by in ("wall_s", "cpu_s")]
            lines.append(f"| {state} | {name} | {rate:,.0f} | {ratios[0]} | {ratios[1]} | {len(rounds)} |")
    for name, rounds in values["cold"].items():
        rate = 1 / statistics.median(one["wall_s"] for one in rounds)
        lines.append(f"| cold | {name} | {rate:,.0f} | | | {len(rounds)} |")
    first = {state: statistics.median(ms) for state, ms in values["first_batch_ms"].items()}
    least = {state: min(ms) for state, ms in values["first_batch_ms"].items()}
    cold = _ratios(values["cold"][STORE], values["cold"][H5PY], "wall_s")
    lines += [
        "",
        f"Cold, this store is {cold} × plain h5py. First batch, opening included, median and least: "
        f"{first['warm']:.0f} and {least['warm']:.0f} ms warm, "
        f"{first['cold']:.0f} and {least['cold']:.0f} ms cold.",
    ]
    return "\n".join(lines)


def _ratios(side: list[dict[str, float]], other: list[dict[str, float]], by: str) -> str:
    """Compute by what factor a side is faster in the rounds that both played: median and quartiles."""
    others = {one["round"]: one[by] for one in other}
    ratios = [others[one["round"]] / one[by] for one in side if one["round"] in others]
    low, middle, high = np.percentile(ratios, (25, 50, 75))
    return f"{middle:.2f} ({low:.2f}–{high:.2f})"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("folder", type=Path, help="a folder on the disk to measure, with room for the store")
    parser.add_argument("--chunks", type=int, default=44)
    parser.add_argument("--images", type=int, default=1200, help="images a chunk")
    parser.add_argument("--size", type=int, default=224, help="side of an image")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--bits", action="store_true", help="16 bits beside 8, and nothing else")
    parser.add_argument("--peers", action="store_true", help="with the peers that are installed")
    return parser.parse_args()


def _columns(keys: np.ndarray, pixels: np.ndarray) -> dict[str, np.ndarray]:
    columns = {c.name: np.zeros((len(keys), c.width)[: 1 + (c.width > 1)], c.dtype) for c in COLUMNS}
    crcs = np.array([zlib.crc32(image.data) for image in pixels], "<u4")
    names = {name: np.full(len(keys), b"a") for name in STRINGS}
    return columns | {"key": keys, "source_hash": keys, "crc": crcs} | names


def _all_images(store: StoreDir, snapshot: Snapshot) -> np.ndarray:
    images = np.empty((len(snapshot), *snapshot.image_shape), np.uint8)
    with Reader(store.path, snapshot) as reader:
        for start in range(0, len(images), BATCH):
            rows = np.arange(start, min(start + BATCH, len(images)))
            images[rows[0] : rows[-1] + 1] = reader.read(rows)
    return images


def _cold(
    store: StoreDir, snapshot: Snapshot, batches: list[np.ndarray]
) -> dict[str, list[dict[str, float]]]:
    """Measure both sides that read from disk with nothing of the chunks in memory, in turns."""
    makes = {STORE: by_store, H5PY: by_h5py}
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in makes}
    for number in range(COLD_ROUNDS):
        for name, make in makes.items():
            _forget(store)
            rounds[name].append({"round": number, **_timed(_ahead(make(store, snapshot)), batches)})
    return rounds


def _first_batch_ms(store: StoreDir, snapshot: Snapshot, rows: np.ndarray, state: str) -> float:
    """Measure from opening to the first batch; warm: the system holds it already, from a reader before."""
    if state == "cold":
        _forget(store)
    else:
        by_store(store, snapshot)(rows)
    start = time.perf_counter()
    by_store(store, snapshot)(rows)
    return (time.perf_counter() - start) * 1e3


def _forget(store: StoreDir) -> None:
    """Take the chunks out of the system's cache; no process may have them mapped."""
    os.sync()
    for path in store.chunks.iterdir():
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


if __name__ == "__main__":
    main()
