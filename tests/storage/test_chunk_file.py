import re
import shutil
import struct
import subprocess
import sys
import time
import zlib

import h5py
import numpy as np
import pytest

from mri_hpc.base.errors import UserError
from mri_hpc.storage.disk import chunk_file
from mri_hpc.storage.disk.chunk_file import MissingChunk, check_chunk, content_id, publish_chunk, read_header
from mri_hpc.storage.disk.columns import chunk_id
from mri_hpc.storage.disk.pixels import damaged_rows

ATTRIBUTES = {"recipe_digest": "r" * 32, "version_h5py": "1.2"}


@pytest.fixture
def make_chunk(make_columns, tmp_path):
    def make(count, *, side=16, name=None):
        images = np.random.default_rng(count).integers(0, 256, (count, side, side), dtype=np.uint8)
        columns = make_columns(range(1, count + 1))
        columns["crc"] = np.array([zlib.crc32(image.data) for image in images], "<u4")
        path = tmp_path / f"{name or chunk_id(columns, ATTRIBUTES['recipe_digest'])}.h5"
        publish_chunk(path, images, columns, ATTRIBUTES)
        return path, images, columns

    return make


def test_any_hdf5_reader_opens_a_chunk(make_chunk):
    path, images, columns = make_chunk(20)
    with h5py.File(path) as file:
        assert np.array_equal(file["images"], images)
        assert file["images"].maxshape == (None, 16, 16)
        assert file["images"].chunks == (1, 16, 16)
        assert file["images"].compression is None
        assert file["label"].asstr()[:3].tolist() == ["b", "", "a"]
        assert np.array_equal(file["key"], columns["key"])
        assert file.attrs["version_h5py"] == "1.2"


def test_a_chunk_can_be_read_by_tools_of_hdf5_1_8(make_chunk):
    path, _images, _columns = make_chunk(20)
    with h5py.File(path, libver=("earliest", "v108")) as file:
        assert file.id.get_create_plist().get_version()[0] == 0


def test_a_damaged_chunk_that_is_there_is_not_taken_for_the_one_to_publish(make_chunk):
    path, _images, _columns = make_chunk(20)
    make_chunk(20)
    good = path.read_bytes()
    at = read_header(path).offset + 5
    for damaged in (good[:at] + bytes([good[at] ^ 1]) + good[at + 1 :], good[:5000]):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=str(path)):
            make_chunk(20)


def test_images_can_be_appended_to_a_copy(make_chunk, tmp_path):
    path, images, _columns = make_chunk(20)
    shutil.copy(path, tmp_path / "copy.h5")
    with h5py.File(tmp_path / "copy.h5", "r+") as file:
        file["images"].resize(25, axis=0)
        file["images"][20:] = 7
        for name in set(file) - {"images"}:
            file[name].resize(25, axis=0)
    with h5py.File(tmp_path / "copy.h5") as file:
        assert np.array_equal(file["images"][:20], images)
        assert (file["images"][20:] == 7).all()
    check_chunk(path)


@pytest.mark.parametrize(("count", "side"), [(1, 8), (1, 224), (3000, 8), (9000, 16), (1337, 224)])
def test_images_lie_in_one_run(make_chunk, count, side):
    path, images, _columns = make_chunk(count, side=side)
    header = read_header(path)
    found = np.fromfile(path, np.uint8, count=images.size, offset=header.offset).reshape(images.shape)
    assert np.array_equal(found, images)


def test_columns_come_back_as_they_were(make_chunk):
    path, _images, columns = make_chunk(20)
    header = read_header(path)
    assert header.columns.keys() == columns.keys()
    for name, values in columns.items():
        assert header.columns[name].dtype == values.dtype
        assert np.array_equal(header.columns[name], values, equal_nan=values.dtype.kind == "f")
    assert header.image_shape == (16, 16)
    assert content_id(header) == path.stem
    assert header.versions == {"version_h5py": "1.2"}


def test_the_same_input_gives_the_same_bytes(make_chunk):
    first = make_chunk(50, name="first")[0].read_bytes()
    assert make_chunk(50, name="second")[0].read_bytes() == first


def test_the_same_input_gives_the_same_bytes_in_another_process(tmp_path):
    code = (
        "import sys, numpy as np; from pathlib import Path;"
        "from mri_hpc.storage.disk.chunk_file import publish_chunk;"
        "from mri_hpc.storage.disk.columns import COLUMNS, STRINGS;"
        "c = {x.name: np.zeros((9, x.width) if x.width > 1 else 9, x.dtype) for x in COLUMNS};"
        "c |= {s: np.array([b'x'] * 9) for s in STRINGS}; im = np.zeros((9, 8, 8), np.uint8);"
        "import zlib; c['crc'][:] = zlib.crc32(im[0].data);"
        "publish_chunk(Path(sys.argv[1]), im, c, {'recipe_digest': 'r'})"
    )
    for name in ("a.h5", "b.h5"):
        subprocess.run([sys.executable, "-c", code, tmp_path / name], check=True)
        second = int(time.time())
        while int(time.time()) == second:
            # HDF5 would note times in whole seconds.
            time.sleep(0.02)
    assert (tmp_path / "a.h5").read_bytes() == (tmp_path / "b.h5").read_bytes()


def test_an_existing_chunk_stays_as_it_is(make_chunk, make_columns):
    path, images, columns = make_chunk(5)
    before = path.read_bytes()
    assert not publish_chunk(path, images, columns, {**ATTRIBUTES, "version_h5py": "9"})
    assert path.read_bytes() == before


def test_a_copy_that_is_removed_before_it_was_looked_at_is_published_again(make_chunk, monkeypatch):
    path, images, columns = make_chunk(3)
    publish_new = chunk_file.publish_new
    answers = []

    def publish_and_lose(*arguments, **options):
        answers.append(publish_new(*arguments, **options))
        if answers == [False]:
            path.unlink()
        return answers[-1]

    monkeypatch.setattr(chunk_file, "publish_new", publish_and_lose)
    assert publish_chunk(path, images, columns, ATTRIBUTES)
    assert answers == [False, True]
    assert len(read_header(path)) == 3


def test_a_chunk_that_is_set_aside_while_hdf5_opens_it_is_missing_or_read_again(make_chunk, monkeypatch):
    path, _images, _columns = make_chunk(3)
    aside, open_file = path.with_name("aside.h5"), h5py.File
    comes_back = [True, False]

    def open_late(*arguments, **options):
        if not comes_back:
            return open_file(*arguments, **options)
        path.rename(aside)
        if comes_back.pop(0):
            aside.rename(path)
        raise OSError("Unable to synchronously open file (can't retrieve stat info for file)")

    monkeypatch.setattr(h5py, "File", open_late)
    with pytest.raises(MissingChunk, match="is missing"):
        read_header(path)
    aside.rename(path)
    comes_back[:] = [True]
    assert len(read_header(path)) == 3


def test_a_chunk_whose_pixels_do_not_give_their_crc_is_never_sealed(make_columns, tmp_path):
    with pytest.raises(UserError, match="differ from their CRC in 3 of 3"):
        publish_chunk(tmp_path / "x.h5", np.ones((3, 8, 8), np.uint8), make_columns([1, 2, 3]), ATTRIBUTES)
    assert list(tmp_path.iterdir()) == []


def test_damage_is_found(make_chunk):
    path, _images, _columns = make_chunk(20)
    data = bytearray(path.read_bytes())
    data[read_header(path).offset + 16 * 16 * 7 + 3] ^= 1
    path.write_bytes(data)
    assert damaged_rows(path, read_header(path)) == [7]
    for damaged in (data[:-100], data[:1000], b""):
        path.write_bytes(damaged)
        with pytest.raises(UserError, match=re.escape(str(path))):
            check_chunk(path)
    path.unlink()
    with pytest.raises(UserError, match="is missing"):
        read_header(path)


def test_the_name_of_a_chunk_follows_from_every_column(make_columns):
    names = {chunk_id(make_columns([1, 2, 3]), "r"), chunk_id(make_columns([1, 2, 3]), "s")}
    for name, values in make_columns([1, 2, 3]).items():
        changed = make_columns([1, 2, 3])
        changed[name] = np.array([b"other", *values[1:]]) if values.dtype.kind == "S" else values + 1
        names.add(chunk_id(changed, "r"))
    assert len(names) == 2 + len(make_columns([1]))


def test_an_index_that_names_an_image_beyond_the_last_is_damage(make_chunk):
    path, _images, _columns = make_chunk(8)
    data = bytearray(path.read_bytes())
    # The entry of the fourth image in HDF5's index: bytes, filters, and where it begins, number by number.
    entry = data.index(struct.pack("<IIQQQ", 256, 0, 3, 0, 0))
    struct.pack_into("<Q", data, entry + 8, 2**59 + 3)
    path.write_bytes(data)
    with pytest.raises(UserError, match="images do not lie in one run"):
        read_header(path)
