"""Parts that save work: written once each, joined where they are many, made again where they are harmed."""

import numpy as np
import pytest
from PIL import Image

from mri_hpc.cohort.kept_parts import MOST_PARTS, keep_part, read_parts
from mri_hpc.storage.store import Store

NONE = {"key": np.zeros(0, np.uint64)}


@pytest.fixture
def store(tmp_path, preprocess):
    picture = tmp_path / "raw" / "a" / "p" / "1.png"
    picture.parent.mkdir(parents=True)
    Image.fromarray(np.full((32, 32), 90, np.uint8)).save(picture)
    assert preprocess(tmp_path / "raw", tmp_path / "store")[0] == 0
    return Store(tmp_path / "store")


def part(*keys):
    return {"key": np.array(keys, np.uint64)}


def test_nothing_is_kept_at_first(store):
    assert read_parts(store, "made", NONE) is None


def test_what_is_new_is_a_new_file_and_many_become_one(store):
    for key in range(MOST_PARTS):
        before = {path: path.read_bytes() for path in store.kept_parts("made")}
        keep_part(store, "made", part(key))
        assert all(path.read_bytes() == data for path, data in before.items())
        assert len(store.kept_parts("made")) == key + 1
    keep_part(store, "made", part(MOST_PARTS))
    assert len(store.kept_parts("made")) == 1
    found = read_parts(store, "made", NONE)
    assert sorted(found["key"].tolist()) == list(range(MOST_PARTS + 1))


@pytest.mark.parametrize("harmed", [b"", b"no archive", None])
def test_a_harmed_part_is_left_out_and_can_be_made_again(store, harmed):
    keep_part(store, "made", part(1, 2))
    (first,) = store.kept_parts("made")
    keep_part(store, "made", part(3))
    first.write_bytes(first.read_bytes()[:50] if harmed is None else harmed)
    assert read_parts(store, "made", NONE)["key"].tolist() == [3]
    keep_part(store, "made", part(1, 2))
    assert sorted(read_parts(store, "made", NONE)["key"].tolist()) == [1, 2, 3]


@pytest.mark.parametrize("harm", [b"(", b"'", b"\\", b"\0"])
def test_a_part_whose_header_is_harmed_is_left_out_on_every_python(store, harm):
    # So large that its header is read before its checksum.
    keep_part(store, "made", part(*range(4096)))
    (kept,) = store.kept_parts("made")
    whole = kept.read_bytes()
    start = whole.index(b"{'descr'")
    for at in range(start, whole.index(b"}", start) + 1):
        kept.write_bytes(whole[:at] + harm + whole[at + 1 :])
        found = read_parts(store, "made", NONE)
        assert found is None or found["key"].tolist() == list(range(4096))


def test_a_part_of_another_shape_is_left_out(store):
    keep_part(store, "made", {"key": np.zeros((2, 3), np.float32)})
    assert read_parts(store, "made", NONE) is None
