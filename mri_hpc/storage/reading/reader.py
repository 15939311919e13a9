"""Reading images at the rate of a memory copy: by their offset in the file, past the HDF5 library.

Chunks are mapped side by side where that is safe and pays (see `_can_map`), else read by offset. What is not
in memory yet is asked for a batch at once: a disk gives many images together in the time of a few.
"""

import ctypes
import mmap
import os
import resource
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from mri_hpc.base.errors import StoreDamage
from mri_hpc.storage.disk.layout import StoreDir
from mri_hpc.storage.disk.pixels import is_sound
from mri_hpc.storage.reading.buffers import Buffers
from mri_hpc.storage.reading.mapped_images import MappedImages, fit
from mri_hpc.storage.snapshot.presence import open_chunk
from mri_hpc.storage.snapshot.table import Snapshot

# Most systems allow a process 1,024 open files.
MOST_OPEN = 512
# IOV_MAX on Linux.
MOST_BUFFERS = 1024
PROBED = 4
"""Images of a batch that are looked up in the system's cache to tell whether the batch is on disk."""
# statfs(2). On others, as NFS, a file that changes on its server ends the process that has it mapped.
LOCAL_FILE_SYSTEMS = {0xEF53: "ext4", 0x58465342: "xfs", 0x9123683E: "btrfs", 0x01021994: "tmpfs"}


class Reader:
    """Reads rows of one snapshot. Opens files when they are first needed; for one thread at a time."""

    def __init__(self, store: Path, snapshot: Snapshot, *, is_read_once: bool = False) -> None:
        """Open no file yet. is_read_once: nothing is mapped, which would not pay, and counts as memory."""
        self._store = StoreDir(store)
        self._snapshot = snapshot
        self._shape = _shape_in_bytes(snapshot)
        self._image_bytes = snapshot.image_bytes
        # Columns mapped from the snapshot's file are a class of their own, and slower to take values from.
        self._chunk, self._row = np.asarray(snapshot.chunk), np.asarray(snapshot.row)
        self._first = np.array(snapshot.chunks["offset"], np.int64)
        self._images = np.array(snapshot.chunks["images"], np.int64)
        self._ends = (self._first + self._images * self._image_bytes).tolist()
        self._is_mapping = not is_read_once and _can_map(self._store, snapshot)
        self._mapped: MappedImages | None = None
        self._open: OrderedDict[int, int] = OrderedDict()
        self._buffers = Buffers()
        self._byte = [bytearray(1)]

    def read(self, rows: np.ndarray) -> np.ndarray:
        """Read images of these rows of the snapshot, in this order: unsigned, (B, H, W). rows: int64, (B,).

        They stay as they are while anything refers to them: the array, a slice, or a tensor made from it.
        The CRC of one image of each batch is checked. StoreDamage names the chunk that is missing or damaged.
        """
        rows = np.asarray(rows, np.int64)
        images = self._buffers.empty((len(rows), *self._shape))
        self._fetch_from_disk(rows)
        if self._is_mapping:
            self._copy_mapped(rows, images)
        else:
            self._read_by_offset(rows, images)
        if len(rows):
            # A function of the batch, not of state: which image is checked does not depend on history.
            self._check(images, rows, int(rows.sum() % len(rows)))
        return images.view(self._snapshot.pixel_type)

    def close(self) -> None:
        """Close all files; the reader opens them again when it is used again."""
        self._mapped = None
        while self._open:
            self._close_oldest()

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def __del__(self) -> None:
        # Numbers of open files are not closed by being forgotten.
        if "_open" in vars(self):
            self.close()

    def _fetch_from_disk(self, rows: np.ndarray) -> None:
        """Have the system fetch all rows at once, without waiting, where they are not in memory."""
        probed = rows[:: max(1, len(rows) // PROBED)][:PROBED]
        if all(self._is_in_memory(chunk, offset) for chunk, offset in self._offsets(probed)):
            return
        for chunk, offset in self._offsets(rows):
            os.posix_fadvise(self._file(chunk), offset, self._image_bytes, os.POSIX_FADV_WILLNEED)

    def _copy_mapped(self, rows: np.ndarray, images: np.ndarray) -> None:
        chunks = self._chunk.take(rows)
        for chunk in set(chunks.tolist()):
            descriptor = self._open.get(chunk) or self._file(chunk)
            # For every batch: reading a mapped file beyond an end that has moved would end the process.
            if os.lseek(descriptor, 0, os.SEEK_END) < self._ends[chunk]:
                raise self._cut_short(chunk)
        if len(rows):
            assert self._mapped
            self._mapped.copy(chunks, self._row.take(rows), images)

    def _read_by_offset(self, rows: np.ndarray, images: np.ndarray) -> None:
        pixels, size = images.reshape(-1).data, self._image_bytes
        for chunk, offset, in_batch in self._runs(rows):
            self._read_run(chunk, offset, [pixels[i * size : (i + 1) * size] for i in in_batch])

    def _offsets(self, rows: np.ndarray) -> Iterator[tuple[int, int]]:
        """Yield chunk and offset in its file of each row. Plain integers: numpy's cost as much as a read."""
        chunks = self._chunk.take(rows)
        offsets = self._first.take(chunks) + self._row.take(rows).astype(np.int64) * self._image_bytes
        return zip(chunks.tolist(), offsets.tolist(), strict=True)

    def _runs(self, rows: np.ndarray) -> Iterator[tuple[int, int, list[int]]]:
        """Yield (chunk, offset in its file, indices in the batch) of images that are neighbours in a file."""
        chunks = self._chunk.take(rows)
        offsets = self._first.take(chunks) + self._row.take(rows).astype(np.int64) * self._image_bytes
        order = np.lexsort((offsets, chunks))
        chunks, offsets = chunks[order], offsets[order]
        is_start = np.ones(len(rows), bool)
        is_start[1:] = (np.diff(chunks) != 0) | (np.diff(offsets) != self._image_bytes)
        starts = np.flatnonzero(is_start).tolist()
        # Plain lists: a single image a run is the common case, and numpy scalars cost as much as reading it.
        in_batch, files, begins = order.tolist(), chunks.tolist(), offsets.tolist()
        for start, end in zip(starts, [*starts[1:], len(in_batch)], strict=False):
            for first in range(start, end, MOST_BUFFERS):
                yield files[first], begins[first], in_batch[first : min(end, first + MOST_BUFFERS)]

    def _read_run(self, chunk: int, offset: int, buffers: list[memoryview]) -> None:
        """Fill buffers with consecutive images of one chunk."""
        got = self._pread(chunk, buffers, offset)
        if got == len(buffers) * self._image_bytes:
            return
        # A signal or a network file system may give less than was asked for; the rest is read image by image.
        for i in range(got // self._image_bytes, len(buffers)):
            self._read_rest(chunk, offset + i * self._image_bytes, buffers[i])

    def _read_rest(self, chunk: int, offset: int, buffer: memoryview) -> None:
        done = 0
        while done < len(buffer):
            got = self._pread(chunk, [buffer[done:]], offset + done)
            if not got:
                raise self._cut_short(chunk)
            done += got

    def _pread(self, chunk: int, buffers: list[memoryview], offset: int) -> int:
        try:
            return os.preadv(self._file(chunk), buffers, offset)
        except OSError as error:
            # A read does not say of which file.
            error.filename = str(self._path(chunk))
            raise

    def _is_in_memory(self, chunk: int, offset: int) -> bool:
        """Tell whether a read there would not wait for the disk; False also where the system cannot say."""
        descriptor = self._file(chunk)
        try:
            return os.preadv(descriptor, self._byte, offset, os.RWF_NOWAIT) == 1
        except OSError:
            return False

    def _check(self, images: np.ndarray, rows: np.ndarray, which: int) -> None:
        row = int(rows[which])
        if not is_sound(images[which].data, int(self._snapshot.crc[row])):
            path = self._path(int(self._snapshot.chunk[row]))
            raise StoreDamage(
                f"{path}, image {int(self._snapshot.row[row])}: pixels differ from their CRC; "
                f"run: mri-hpc store verify {self._store.path}"
            )

    def _path(self, chunk: int) -> Path:
        return self._store.chunk(self._snapshot.chunks["name"][chunk].decode())

    def _cut_short(self, chunk: int) -> StoreDamage:
        return StoreDamage(f"{self._path(chunk)} is cut short; run: mri-hpc store verify {self._store.path}")

    def _file(self, chunk: int) -> int:
        """Return the descriptor of a chunk, opened if need be; close the one used longest ago of too many."""
        if chunk in self._open:
            self._open.move_to_end(chunk)
            return self._open[chunk]
        if len(self._open) >= MOST_OPEN:
            self._close_oldest()
        path = self._path(chunk)
        try:
            descriptor = open_chunk(self._store, path.stem)
        except FileNotFoundError:
            raise StoreDamage(f"{path} is missing; run: mri-hpc store verify {self._store.path}") from None
        # Open counts as mapped: one that could not be mapped is not.
        try:
            if self._is_mapping:
                self._map(chunk, descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        self._open[chunk] = descriptor
        return descriptor

    def _map(self, chunk: int, descriptor: int) -> None:
        if os.fstat(descriptor).st_size < self._ends[chunk]:
            raise self._cut_short(chunk)
        if self._mapped is None:
            self._mapped = MappedImages(offsets=self._first, counts=self._images, image_shape=self._shape)
        self._mapped.map(chunk, descriptor)

    def _close_oldest(self) -> None:
        os.close(self._open.popitem(last=False)[1])


def _shape_in_bytes(snapshot: Snapshot) -> tuple[int, int]:
    """Return the shape of an image as bytes, which is all that reading knows of it."""
    height, width = snapshot.image_shape
    return height, width * snapshot.pixel_type.itemsize


def _can_map(store: StoreDir, snapshot: Snapshot) -> bool:
    """Tell whether mapping all chunks is safe, and pays, as it does when they are read again from memory."""
    return (
        len(snapshot.chunks) <= MOST_OPEN
        and fit(np.asarray(snapshot.chunks["offset"]), _shape_in_bytes(snapshot))
        and int(snapshot.chunks["bytes"].sum()) <= _memory_bytes() // 2
        and not _has_bounded_addresses()
        and _file_system(store.chunks) in LOCAL_FILE_SYSTEMS
    )


def _memory_bytes() -> int:
    return os.sysconf("SC_PHYS_PAGES") * mmap.PAGESIZE


def _has_bounded_addresses() -> bool:
    """Tell whether what this process maps counts against a limit (ulimit -v), though it takes no memory."""
    return resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY


def _file_system(path: Path) -> int:
    """Return the number that statfs(2) gives a file system's type; 0 where it gives none."""
    # The type is the first member, and the whole is smaller than this.
    answer = (ctypes.c_long * 64)()
    libc = ctypes.CDLL(None, use_errno=True)
    return int(answer[0]) if libc.statfs(os.fsencode(path), ctypes.byref(answer)) == 0 else 0
