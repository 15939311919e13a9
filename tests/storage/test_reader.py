import errno
import math
import mmap
import os
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from mri_hpc.base.errors import UserError
from mri_hpc.storage.reading import mapped_images
from mri_hpc.storage.reading import reader as reader_module
from mri_hpc.storage.reading.reader import Reader
from mri_hpc.storage.snapshot.catalogue import resolve


@pytest.fixture
def snapshot(filled):
    return resolve(filled)


@pytest.fixture(params=["mapped", "by offset"])
def way(request, monkeypatch):
    """Both ways of reading."""
    monkeypatch.setattr(reader_module, "_can_map", lambda store, snapshot: request.param == "mapped")
    return request.param


@pytest.fixture
def by_offset(monkeypatch):
    monkeypatch.setattr(reader_module, "_can_map", lambda store, snapshot: False)


def path_of(filled, snapshot, row):
    return filled / "chunks" / f"{snapshot.chunks['name'][snapshot.chunk[row]].decode()}.h5"


def by_h5py(filled, snapshot, rows):
    images = []
    for row in rows:
        with h5py.File(path_of(filled, snapshot, row)) as file:
            assert file["key"][snapshot.row[row]] == snapshot.key[row]
            images.append(file["images"][snapshot.row[row]])
    return np.array(images)


def test_rows_come_as_h5py_reads_them_in_the_order_asked_for(filled, snapshot, way):
    rows = np.random.default_rng(1).integers(0, len(snapshot), 200)
    with Reader(filled, snapshot) as reader:
        for part in (rows, np.arange(len(snapshot)), np.array([3, 3, 3]), rows[:1]):
            found = reader.read(part)
            assert found.dtype == np.uint8
            assert np.array_equal(found, by_h5py(filled, snapshot, part))


def test_no_rows_are_no_images(filled, snapshot, way):
    with Reader(filled, snapshot) as reader:
        assert reader.read(np.empty(0, np.int64)).shape == (0, 16, 16)


def test_neighbours_are_read_at_once(filled, snapshot, by_offset, monkeypatch):
    calls = []
    preadv = reader_module.os.preadv

    def noted(descriptor, buffers, offset, *flags):
        calls.extend([offset] * (not flags))
        return preadv(descriptor, buffers, offset, *flags)

    monkeypatch.setattr(reader_module.os, "preadv", noted)
    with Reader(filled, snapshot) as reader:
        reader.read(np.random.default_rng(0).permutation(len(snapshot)))
    assert len(calls) == len(snapshot.chunks)


def test_a_read_that_gives_less_than_asked_for_is_completed(filled, snapshot, by_offset, monkeypatch):
    preadv = reader_module.os.preadv
    rows = np.arange(len(snapshot))
    expected = by_h5py(filled, snapshot, rows)

    def short(descriptor, buffers, offset, *flags):
        return preadv(descriptor, [memoryview(buffers[0]).cast("B")[:100]], offset)

    monkeypatch.setattr(reader_module.os, "preadv", short)
    with Reader(filled, snapshot) as reader:
        assert np.array_equal(reader.read(rows), expected)


def test_few_files_stay_open(filled, snapshot, by_offset, monkeypatch):
    monkeypatch.setattr(reader_module, "MOST_OPEN", 2)
    with Reader(filled, snapshot) as reader:
        rows = np.arange(len(snapshot))
        assert np.array_equal(reader.read(rows), by_h5py(filled, snapshot, rows))
        assert len(reader._open) == 2


def test_a_flipped_bit_is_found(filled, snapshot, way):
    path = path_of(filled, snapshot, 5)
    data = bytearray(path.read_bytes())
    data[int(snapshot.chunks["offset"][snapshot.chunk[5]]) + int(snapshot.row[5]) * 256 + 17] ^= 4
    path.write_bytes(data)
    with Reader(filled, snapshot) as reader:
        reader.read(np.array([6]))
        with pytest.raises(UserError, match=rf"{path.name}, image {snapshot.row[5]}: pixels differ"):
            reader.read(np.array([5]))


def test_every_place_of_a_batch_gets_its_turn_of_being_checked(filled, snapshot):
    checked = set()

    class Watching(Reader):
        def _check(self, images, rows, which):
            checked.add(which)

    random = np.random.default_rng(2)
    for _ in range(200):
        Watching(filled, snapshot).read(random.permutation(len(snapshot))[:8])
    assert checked == set(range(8))


def test_a_missing_and_a_truncated_chunk_are_named(filled, snapshot, way):
    path = path_of(filled, snapshot, 0)
    path.write_bytes(path.read_bytes()[:70_000])
    with pytest.raises(UserError, match=f"{path.name} is cut short"):
        Reader(filled, snapshot).read(np.arange(len(snapshot)))
    path.unlink()
    with pytest.raises(UserError, match=f"{path.name} is missing"):
        Reader(filled, snapshot).read(np.array([0]))


def test_a_chunk_that_is_cut_short_while_it_is_open_is_named(filled, snapshot, way):
    """A mapped one would end the process by SIGBUS."""
    path = path_of(filled, snapshot, 0)
    rows = np.arange(len(snapshot))
    with Reader(filled, snapshot) as reader:
        reader.read(rows)
        with path.open("r+b") as file:
            file.truncate(4096)
        with pytest.raises(UserError, match=f"{path.name} is cut short"):
            reader.read(rows)


@pytest.mark.parametrize("side", [8, 9, 15, 16, 64, 90, 224, 256])
def test_files_of_any_offsets_that_fit_are_rows_of_one_array(tmp_path, side):
    """Also of sides whose images can lie at a large page's edge, and of those that cannot."""
    counts = np.array([3, 1, 20, 7])
    size, random = side * side, np.random.default_rng(side)
    offsets = np.array([4096, 4096 * 3, 0, 4096 * 600])
    offsets -= offsets % math.lcm(mmap.PAGESIZE, math.gcd(size, mapped_images.LARGE_PAGE))
    offsets[1] += math.gcd(size, mmap.PAGESIZE)
    assert mapped_images.fit(offsets, (side, side))
    mapped = mapped_images.MappedImages(offsets=offsets, counts=counts, image_shape=(side, side))
    images = [random.integers(0, 256, (count, side, side), np.uint8) for count in counts]
    for number, (offset, pixels) in enumerate(zip(offsets.tolist(), images, strict=True)):
        path = tmp_path / str(number)
        path.write_bytes(bytes(offset) + pixels.tobytes())
        with path.open("rb") as file:
            mapped.map(number, file.fileno())
    files = np.repeat(np.arange(4), counts)
    rows = np.concatenate([np.arange(count) for count in counts])
    order = random.permutation(len(rows))
    out = np.empty((len(rows), side, side), np.uint8)
    mapped.copy(files[order], rows[order], out)
    assert np.array_equal(out, np.concatenate(images)[order])


def test_files_whose_images_cannot_lie_side_by_side_are_read_by_offset(filled, snapshot):
    assert mapped_images.fit(snapshot.chunks["offset"], (224, 224))
    assert not mapped_images.fit(snapshot.chunks["offset"] + 128, (224, 224))
    assert mapped_images.fit(snapshot.chunks["offset"] + 128, (225, 225))


def test_a_chunk_that_cannot_be_mapped_is_never_taken_for_one_that_is(filled, snapshot, monkeypatch):
    def refuse(*_arguments):
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    monkeypatch.setattr(reader_module, "_can_map", lambda store, snapshot: True)
    monkeypatch.setattr(mapped_images.MappedImages, "map", refuse)
    before = len(list(Path("/proc/self/fd").iterdir()))
    reader = Reader(filled, snapshot)
    for _ in range(2):
        with pytest.raises(OSError, match="Cannot allocate memory"):
            reader.read(np.arange(4))
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_closed_reader_reads_again(filled, snapshot, way):
    reader = Reader(filled, snapshot)
    for _turn in range(2):
        assert np.array_equal(reader.read(np.array([7])), by_h5py(filled, snapshot, [7]))
        reader.close()
        assert not reader._open


def test_files_are_mapped_only_where_it_is_safe_and_pays(filled, snapshot, monkeypatch):
    def is_mapping():
        return Reader(filled, snapshot)._is_mapping

    # As on a local disk, whatever holds the folder of the tests.
    monkeypatch.setattr(reader_module, "_file_system", lambda path: 0xEF53)
    assert is_mapping()
    for name, value in (
        ("_file_system", lambda path: 0x6969),  # NFS
        ("MOST_OPEN", len(snapshot.chunks) - 1),
        ("_memory_bytes", lambda: 2 * int(snapshot.chunks["bytes"].sum()) - 2),
        ("_has_bounded_addresses", lambda: True),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(reader_module, name, value)
            assert not is_mapping(), name


def test_the_type_of_a_file_system_is_that_of_its_mount(tmp_path):
    from pathlib import Path

    assert reader_module._file_system(Path("/proc")) == 0x9FA0
    assert reader_module._file_system(tmp_path / "absent") == 0


def test_a_batch_on_disk_is_asked_for_at_once_and_one_in_memory_is_not(filled, snapshot, way, monkeypatch):
    asked = []
    monkeypatch.setattr(
        reader_module.os, "posix_fadvise", lambda fd, offset, size, advice: asked.append(offset)
    )
    rows = np.arange(len(snapshot))
    with Reader(filled, snapshot) as reader:
        reader.read(rows)
        assert not asked
        preadv = reader_module.os.preadv

        def on_disk(descriptor, buffers, offset, *flags):
            if flags:
                raise BlockingIOError
            return preadv(descriptor, buffers, offset)

        monkeypatch.setattr(reader_module.os, "preadv", on_disk)
        assert np.array_equal(reader.read(rows), by_h5py(filled, snapshot, rows))
    assert len(asked) == len(rows)


def test_a_batch_stays_as_it_is_while_anything_refers_to_it(filled, snapshot, way):
    with Reader(filled, snapshot) as reader:
        batches = [reader.read(np.arange(start, start + 10)) for start in range(0, 50, 10)]
        expected = [batch.copy() for batch in batches]
        slices = [torch.from_numpy(batch)[3:] for batch in batches]
        del batches
        for start in range(50):
            reader.read(np.arange(start, start + 10))
        for image, batch in zip(slices, expected, strict=True):
            assert np.array_equal(image.numpy(), batch[3:])


def test_memory_of_batches_that_nobody_holds_is_used_again(filled, snapshot):
    addresses = set()
    with Reader(filled, snapshot) as reader:
        for size in (20, 19, 20, 7, 20):
            addresses.add(reader.read(np.arange(size)).ctypes.data)
        assert len(addresses) == 1
        (address,) = addresses
        assert address % mmap.PAGESIZE == 0
        held = reader.read(np.arange(20))
        assert held.ctypes.data == address
        assert reader.read(np.arange(20)).ctypes.data != address
