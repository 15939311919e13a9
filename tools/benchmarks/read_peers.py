"""Peers that read the same images; each is used where it is installed, and else named as missing.

FFCV gets the same rows in the same order. MosaicML Streaming reads them by index from local shards. LitData
and WebDataset have no uniform order at speed: they go through their shards in a shuffled order of their own.
All of them run with one reading thread, or in the thread that asks.
"""

import importlib.util
import tarfile
from collections.abc import Callable, Iterator
from io import BytesIO
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch

Play = Callable[[list[np.ndarray]], int]
"""Reads the images of some batches of rows, and returns how many they were."""
MODULES = {
    "ffcv": "ffcv", "mosaicml-streaming": "streaming", "litdata": "litdata", "webdataset": "webdataset",
}  # fmt: skip
SHARD_BYTES = 64 * 2**20


def missing() -> list[str]:
    """List peers that are not installed here."""
    return [name for name, module in MODULES.items() if importlib.util.find_spec(module) is None]


def peers(folder: Path, images: np.ndarray, batch: int) -> Iterator[tuple[str, Play]]:
    """Yield each peer that is installed, its data written below `folder`. images: uint8, (n, H, W)."""
    for name, make in zip(MODULES, (_ffcv, _streaming, _litdata, _webdataset), strict=True):
        if name not in missing():
            own = folder / name
            own.mkdir()
            yield name, make(own, images, batch)


class Images:
    """Images as a data set of tuples, as writers of others want it."""

    def __init__(self, images: np.ndarray) -> None:
        self._images = images

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, row: int) -> tuple[np.ndarray]:
        return (self._images[row],)


def _ffcv(folder: Path, images: np.ndarray, batch: int) -> Play:
    from ffcv.fields import NDArrayField
    from ffcv.fields.ndarray import NDArrayDecoder
    from ffcv.loader import Loader, OrderOption
    from ffcv.transforms import ToTensor
    from ffcv.traversal_order.base import TraversalOrder
    from ffcv.writer import DatasetWriter

    class Given(TraversalOrder):  # type: ignore[misc]
        rows = np.arange(len(images))

        def sample_order(self, epoch: int) -> np.ndarray:
            return self.rows

    field = NDArrayField(shape=images.shape[1:], dtype=np.dtype(np.uint8))
    writer = DatasetWriter(str(folder / "images.beton"), {"image": field}, num_workers=1)
    writer.from_indexed_dataset(Images(images))
    loader = Loader(
        str(folder / "images.beton"),
        batch_size=batch,
        num_workers=1,
        os_cache=True,
        order=OrderOption.RANDOM,
        pipelines={"image": [NDArrayDecoder(), ToTensor()]},
    )

    loader.traversal_order = Given(loader)

    def play(batches: list[np.ndarray]) -> int:
        loader.traversal_order.rows = np.concatenate(batches)
        return sum(len(found) for (found,) in loader)

    return play


def _streaming(folder: Path, images: np.ndarray, batch: int) -> Play:
    from streaming import LocalDataset, MDSWriter

    columns = {"image": f"ndarray:uint8:{images.shape[1]},{images.shape[2]}"}
    with MDSWriter(out=str(folder), columns=columns, size_limit=SHARD_BYTES) as writer:
        for image in images:
            writer.write({"image": image})
    data: Any = LocalDataset(str(folder))

    def play(batches: list[np.ndarray]) -> int:
        return sum(
            len(torch.stack([torch.tensor(data[row]["image"]) for row in rows.tolist()])) for rows in batches
        )

    return play


def _one(image: np.ndarray) -> dict[str, np.ndarray]:
    return {"image": image}


def _litdata(folder: Path, images: np.ndarray, batch: int) -> Play:
    from litdata import StreamingDataset
    from litdata.streaming.cache import Cache

    cache = Cache(str(folder), chunk_bytes=SHARD_BYTES)
    for row, image in enumerate(images):
        cache[row] = _one(image)
    cache.done()
    cache.merge()

    def endless() -> Iterator[torch.Tensor]:
        while True:
            for sample in StreamingDataset(str(folder), shuffle=True):
                yield torch.as_tensor(sample["image"])

    return _stacking(endless())


def _webdataset(folder: Path, images: np.ndarray, batch: int) -> Play:
    import webdataset

    shards = []
    a_shard = SHARD_BYTES // images[0].nbytes
    for first in range(0, len(images), a_shard):
        shards.append(str(folder / f"{first:08d}.tar"))
        with tarfile.open(shards[-1], "w") as file:
            for row in range(first, min(first + a_shard, len(images))):
                entry = tarfile.TarInfo(f"{row:08d}.bin")
                entry.size = images[row].nbytes
                file.addfile(entry, BytesIO(images[row].tobytes()))

    def endless() -> Iterator[torch.Tensor]:
        while True:
            for sample in webdataset.WebDataset(shards, shardshuffle=len(shards)).shuffle(1000):
                pixels = np.frombuffer(bytearray(sample["bin"]), np.uint8)
                yield torch.from_numpy(pixels.reshape(images.shape[1:]))

    return _stacking(endless())


def _stacking(samples: Iterator[torch.Tensor]) -> Play:
    def play(batches: list[np.ndarray]) -> int:
        return sum(len(torch.stack(list(islice(samples, len(rows))))) for rows in batches)

    return play
