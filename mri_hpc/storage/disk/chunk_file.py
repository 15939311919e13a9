"""One chunk: an HDF5 file of images and their columns, sealed when it is published. The only user of h5py."""

import errno
import math
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from mri_hpc.base.access import let_group_use
from mri_hpc.base.atomic import publish_new, replace
from mri_hpc.base.documents import refuse_newer
from mri_hpc.base.errors import StoreDamage, UserError
from mri_hpc.intake.decoding.samples import pixel_type_of
from mri_hpc.storage.disk.columns import (
    COLUMNS,
    OPTIONAL,
    STRINGS,
    ChunkHeader,
    chunk_id,
    texts_written,
)
from mri_hpc.storage.disk.damage import advice
from mri_hpc.storage.disk.pixels import damaged_rows, read_at

FORMAT = 2
PLAIN_FORMAT = 1
"""Of a chunk of 8 bits without any optional column: as written by versions that know of no other."""
BITS_OF = {pixel_type_of(bits): bits for bits in (8, 16)}
# Metadata of the chunk index, with room to spare: set aside ahead of the pixels, which so stay in one run.
METADATA_BYTES = 2**16
METADATA_BYTES_AN_IMAGE = 128
# So the pixels of every chunk begin where a page does, and can be mapped side by side (see mapped_images.py).
METADATA_ROUND_BYTES = 4096
COLUMN_RUN = 1024


class MissingChunk(StoreDamage):
    """A chunk that was expected is not there."""


def versions() -> dict[str, str]:
    """Return the versions of what writes chunks."""
    return {"h5py": h5py.__version__, "hdf5": h5py.version.hdf5_version, "numpy": np.__version__}


def publish_chunk(
    path: Path, images: np.ndarray, columns: Mapping[str, np.ndarray], attributes: Mapping[str, str]
) -> bool:
    """Write, check and seal one chunk; False where it was there, and sound. images: unsigned, (n, H, W)."""
    bits = 8 * images.itemsize
    return publish_chunk_of_parts(path, lambda: [images], images.shape, columns, attributes, bits=bits)


def publish_chunk_of_parts(
    path: Path,
    parts: Callable[[], Iterable[np.ndarray]],
    shape: tuple[int, ...],
    columns: Mapping[str, np.ndarray],
    attributes: Mapping[str, str],
    *,
    bits: int,
) -> bool:
    """Do as publish_chunk, one part of the images in memory. parts: as bytes; shape: of all."""

    def write(temp: Path) -> None:
        _write_chunk(temp, parts(), shape, columns, attributes, bits=bits)

    while not publish_new(path, write, check=check_chunk):
        try:
            read_sealed_header(path)
            check_chunk(path)
        except (MissingChunk, FileNotFoundError):
            # No commit named the copy that was there, and so it was removed (see removal.py).
            continue
        return False
    return True


def replace_pixels(path: Path, header: ChunkHeader, made: Mapping[int, bytes], size: int) -> None:
    """Publish a chunk again with the images of some rows made anew, in a file of `size` bytes, at once.

    Nothing is written into the file that is there: who has it open reads on in it. header: its own, sound.
    What can neither be read nor was made becomes zeros.
    """

    def write(temp: Path) -> None:
        with path.open("rb") as old, temp.open("xb") as new:

            def copy(count: int) -> None:
                new.write(read_at(old.fileno(), count, new.tell()).ljust(count, b"\0"))

            copy(header.offset)
            for row in range(len(header)):
                new.write(made[row]) if row in made else copy(header.image_bytes)
            copy(size - new.tell())
        let_group_use(temp)
        written = read_header(temp)
        if content_id(written) != path.stem or made.keys() & set(damaged_rows(temp, written)):
            raise StoreDamage(f"{path}: what was just written reads back otherwise: is the disk failing?")

    replace(path, write)


def replace_chunk(
    path: Path,
    images: Sequence[bytes],
    shape: tuple[int, ...],
    columns: Mapping[str, np.ndarray],
    attributes: Mapping[str, str],
    *,
    bits: int,
    offset: int | None,
    size: int,
) -> None:
    """Publish a chunk in place of the damaged one that may be there, at once, in a file of `size` bytes.

    offset: where the first image begins, as readers know it; None: not known.
    """
    usual_offset, usual_size = layout_of(shape, columns, attributes, bits=bits)
    # The metadata of HDF5, which lie before the images, are given as many bytes as they had.
    more = size - usual_size if offset is None else offset - usual_offset

    def write(temp: Path) -> None:
        parts = (np.frombuffer(image, np.uint8) for image in images)
        _write_chunk(temp, parts, shape, columns, attributes, bits=bits, more_metadata=more)
        missing = size - temp.stat().st_size
        if missing > 0:
            # Its strings had more room than they take. HDF5 looks at nothing behind the end that it knows of.
            with temp.open("ab") as file:
                file.write(bytes(missing))
        check_chunk(temp)
        if missing < 0 or read_header(temp).offset != usual_offset + more:
            raise UserError(
                f"{path} would be laid out otherwise than it was: install the versions of h5py and HDF5 that "
                "h5dump -A shows of other chunks"
            )

    replace(path, write)


def layout_of(
    shape: tuple[int, ...], columns: Mapping[str, np.ndarray], attributes: Mapping[str, str], *, bits: int
) -> tuple[int, int]:
    """Return the offset of the pixels of a chunk as it is written today, and the bytes of its file."""
    frame = os.memfd_create("chunk")
    try:
        return _write_frame(frame, shape, columns, attributes, bits=bits), os.fstat(frame).st_size
    finally:
        os.close(frame)


def read_header(path: Path) -> ChunkHeader:
    """Read the header of a chunk; StoreDamage where the file is missing or damaged."""
    before = _changed_ns(path)
    try:
        with h5py.File(path, "r", locking=False) as file:
            return _read_header(file, path)
    except FileNotFoundError:
        raise _missing(path) from None
    except (OSError, KeyError, ValueError, RuntimeError, TypeError, OverflowError, MemoryError) as error:
        # HDF5 looks at the path more than once, and the file may be set aside, and put back, in between.
        if _changed_ns(path) != before:
            return read_header(path)
        # HDF5 says it in several lines.
        reason = " ".join(str(error).split())[:200]
        raise StoreDamage(f"{path} cannot be read as a chunk ({reason}): {advice(path)}") from None


def hdf5_numbers(path: Path) -> list[tuple[int, int]]:
    """Return where the numbers of an HDF5 file begin and end; OSError or ValueError: it cannot be told."""
    found: list[tuple[int, int]] = []

    def note(_name: str, one: Any) -> None:
        if not isinstance(one, h5py.Dataset) or one.dtype.kind in "SOV":
            return
        if one.chunks:
            one.id.chunk_iter(lambda run: found.append((run.byte_offset, run.byte_offset + run.size)))
        elif (start := one.id.get_offset()) is not None:
            found.append((start, start + one.id.get_storage_size()))

    with h5py.File(path, "r", locking=False) as file:
        file.visititems(note)
    return found


def _changed_ns(path: Path) -> int:
    """Return the time at which a file, or its name, was last changed; 0 where that cannot be known."""
    try:
        return path.stat().st_ctime_ns
    except FileNotFoundError:
        raise _missing(path) from None
    except OSError:
        return 0


def _missing(path: Path) -> MissingChunk:
    return MissingChunk(f"{path} is missing: a commit names it; {advice(path)}")


def read_sealed_header(path: Path) -> ChunkHeader:
    """Read the header of a published chunk; StoreDamage where its columns did not give it its name."""
    header = read_header(path)
    if content_id(header) != path.stem:
        raise StoreDamage(f"{path}: its columns are not those that it was sealed with: {advice(path)}")
    return header


def check_chunk(path: Path) -> None:
    """Raise StoreDamage where pixels of a chunk differ from their CRC."""
    header = read_header(path)
    damaged = damaged_rows(path, header)
    if damaged:
        raise StoreDamage(
            f"{path}: pixels differ from their CRC in {len(damaged)} of {len(header)} images: remove it, "
            "and run preprocess again"
        )


def content_id(header: ChunkHeader) -> str:
    """Return the name that a chunk's content gives it."""
    return chunk_id(header.columns, header.recipe_digest)


def _write_chunk(
    path: Path,
    parts: Iterable[np.ndarray],
    shape: tuple[int, ...],
    columns: Mapping[str, np.ndarray],
    attributes: Mapping[str, str],
    *,
    bits: int,
    more_metadata: int = 0,
) -> None:
    """Write the bytes of a chunk's file: what HDF5 puts before the pixels, the pixels, and what follows."""
    # A file that lives in memory, with a hole in place of the pixels: where a disk fills up under it, the
    # HDF5 library ends the process by a segmentation fault.
    frame = os.memfd_create("chunk")
    try:
        try:
            begin = _write_frame(frame, shape, columns, attributes, bits=bits, more_metadata=more_metadata)
        except RuntimeError as error:
            # What HDF5 says where a limit on the size of files (ulimit -f) forbids even this one.
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG), str(path)) from error
        end = begin + math.prod(shape) * pixel_type_of(bits).itemsize
        with path.open("xb") as file:
            file.write(os.pread(frame, begin, 0))
            for images in parts:
                file.write(np.ascontiguousarray(images).data)
            assert file.tell() == end
            file.write(os.pread(frame, os.fstat(frame).st_size - end, end))
        let_group_use(path)
    finally:
        os.close(frame)


def _write_frame(
    descriptor: int,
    shape: tuple[int, ...],
    columns: Mapping[str, np.ndarray],
    attributes: Mapping[str, str],
    *,
    bits: int,
    more_metadata: int = 0,
) -> int:
    """Write everything of a chunk but its pixels; return the offset at which they belong.

    more_metadata: bytes by which that offset is to be larger than usual.
    """
    # The driver sec2 refuses a path that is a link to no named file.
    with h5py.File(
        f"/proc/self/fd/{descriptor}",
        "w",
        driver="stdio",
        libver="earliest",
        # Some file systems know no flock, which HDF5 would ask for.
        locking=False,
        meta_block_size=_metadata_bytes(shape[0]) + more_metadata,
    ) as file:
        texts = texts_written(columns)
        is_plain = bits == 8 and len(texts) == len(STRINGS)
        file.attrs["format"] = PLAIN_FORMAT if is_plain else FORMAT
        for name, value in sorted(attributes.items()):
            file.attrs[name] = value
        images = _make_images(file, shape, bits)
        for column in COLUMNS:
            _write_column(file, column.name, columns[column.name], column.dtype)
        for name in texts:
            values = columns[name]
            _write_column(file, name, values, h5py.string_dtype("utf-8", max(1, values.dtype.itemsize)))
        file.flush()
        return _one_run(images)


def _metadata_bytes(num_images: int) -> int:
    size = METADATA_BYTES + METADATA_BYTES_AN_IMAGE * num_images
    return -(-size // METADATA_ROUND_BYTES) * METADATA_ROUND_BYTES


def _make_images(file: h5py.File, shape: tuple[int, ...], bits: int) -> h5py.Dataset:
    """Make a dataset that can grow, of one HDF5 chunk an image, all allocated at once and so in one run."""
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_chunk((1, *shape[1:]))
    properties.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    properties.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    properties.set_obj_track_times(False)
    space = h5py.h5s.create_simple(shape, (h5py.h5s.UNLIMITED, *shape[1:]))
    pixel = h5py.h5t.STD_U8LE if bits == 8 else h5py.h5t.STD_U16LE
    return h5py.Dataset(h5py.h5d.create(file.id, b"images", pixel, space, properties))


def _write_column(file: h5py.File, name: str, values: np.ndarray, dtype: Any) -> None:
    run = (min(max(1, len(values)), COLUMN_RUN), *values.shape[1:])
    growing = (None, *values.shape[1:])
    # h5py converts to strings of declared encoding only where numpy carries the declaration.
    file.create_dataset(name, data=values.astype(dtype), maxshape=growing, chunks=run, track_times=False)


def _read_header(file: h5py.File, path: Path) -> ChunkHeader:
    found = int(file.attrs["format"])
    refuse_newer(path, found, reads=FORMAT)
    if found not in (PLAIN_FORMAT, FORMAT):
        raise StoreDamage(
            f"{path} has chunk format {found}, this version reads up to {FORMAT}: use the version that "
            "made it"
        )
    names = [*(column.name for column in COLUMNS), *STRINGS, *(name for name in OPTIONAL if name in file)]
    images = file["images"]
    # Looked at first: damaged metadata can promise any number of values.
    bits = BITS_OF.get(images.dtype)
    if bits is None or images.nbytes > path.stat().st_size:
        raise ValueError("more pixels than the file can hold")
    if any(len(file[name]) != len(images) for name in names):
        raise ValueError("columns of different lengths")
    columns = {name: file[name][...] for name in names}
    return ChunkHeader(
        columns=columns,
        image_shape=(int(images.shape[1]), int(images.shape[2])),
        bits=bits,
        offset=_one_run(images),
        recipe_digest=str(file.attrs["recipe_digest"]),
        versions={name: str(value) for name, value in file.attrs.items() if name.startswith("version_")},
    )


def _one_run(images: h5py.Dataset) -> int:
    """Return the offset of the first image; ValueError where the images do not lie one after the other."""
    if not len(images):
        raise ValueError("no images")
    offsets: dict[int, int] = {}

    def note(stored: Any) -> None:
        # Of damaged metadata it may be any number.
        offsets[stored.chunk_offset[0]] = stored.byte_offset

    images.id.chunk_iter(note)
    first, image_bytes = offsets.get(0, -1), images.shape[1] * images.shape[2] * images.dtype.itemsize
    if first < 0 or offsets != {row: first + row * image_bytes for row in range(len(images))}:
        raise ValueError("images do not lie in one run")
    return first
