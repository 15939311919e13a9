"""What happens to files of a store, and what must be true of it all the same."""

import numpy as np

from mri_hpc.storage.disk.chunk_file import read_header
from mri_hpc.storage.reading.reader import Reader

IMAGE_BYTES = 16 * 16


def chunks(store):
    return sorted((store / "chunks").glob("[!.]*.h5"))


def flip_pixels(path, *rows):
    header = read_header(path)
    data = bytearray(path.read_bytes())
    for row in rows:
        data[header.offset + IMAGE_BYTES * row + 100] ^= 1
    path.write_bytes(data)


def flip_column(path):
    """A patient's name in a string column: HDF5 still opens the file."""
    data = bytearray(path.read_bytes())
    data[data.index(read_header(path).columns["patient"][0]) + 3] ^= 1
    path.write_bytes(data)


def flip_header(path):
    data = bytearray(path.read_bytes())
    data[1] ^= 1
    path.write_bytes(data)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-300])


def lengthen(path):
    path.write_bytes(path.read_bytes() + b"\0")


def unlink(path):
    path.unlink()


HARMS = (flip_column, flip_header, truncate, lengthen, unlink)


def pixels(store, snapshot):
    with Reader(store, snapshot) as reader:
        return [image.tobytes() for image in reader.read(np.arange(len(snapshot)))]


def cut_short(folder):
    file = folder / "source_hash.npy"
    file.write_bytes(file.read_bytes()[:-1])


def assert_nothing_is_left(store, images):
    for path in store.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert not any(image in data for image in images), path


def chunk_with(store, keys):
    return next(path for path in chunks(store) if np.isin(read_header(path).columns["key"], keys).any())
