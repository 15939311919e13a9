"""Columns that a chunk has only where it holds something: of stores without, nothing is other than before."""

import h5py
import numpy as np
import pytest

from mri_hpc.storage.disk.chunk_file import read_header
from mri_hpc.storage.disk.columns import OPTIONAL, ChunkHeader, chunk_id, joined, texts_written
from mri_hpc.storage.disk.commits import Commit, commit_id
from mri_hpc.storage.disk.layout import open_store
from mri_hpc.storage.snapshot.catalogue import current, load_snapshot, publish_snapshot
from mri_hpc.storage.snapshot.folding import fold
from mri_hpc.storage.store import Store
from mri_hpc.store import main


@pytest.fixture
def two_sites(tmp_path, make_pictures, preprocess):
    """A store of pictures without a site, in chunks of 8, and of others of one."""
    make_pictures(tmp_path / "raw", 12)
    make_pictures(tmp_path / "more" / "raw", 12)
    store = tmp_path / "store"
    small = ("--size", 16, "--chunk-images", 8)
    assert preprocess(tmp_path / "raw", store, *small)[0] == 0
    Store.open(store).resolve("newest")
    assert (
        preprocess(tmp_path / "more" / "raw", store, *small, "--site", "ulm", "--accept", "sources")[0] == 0
    )
    return store


def test_columns_without_a_value_are_not_written_and_name_a_chunk_as_before(make_columns):
    columns = make_columns([1, 2])
    empty = columns | {name: np.array([b"", b""]) for name in OPTIONAL}
    assert texts_written(empty) == ("label", "patient", "study")
    assert chunk_id(empty, "r") == chunk_id(columns, "r")
    names = [chunk_id(columns | {name: np.array([b"x", b""])}, "r") for name in OPTIONAL]
    assert len({chunk_id(columns, "r"), *names}) == 1 + len(OPTIONAL)


def test_chunks_with_and_without_are_joined(make_columns):
    plain, told = make_columns([1]), make_columns([2]) | {"kind": np.array([b"t1"])}
    assert joined([plain, told])["kind"].tolist() == [b"", b"t1"]
    assert joined([told, plain])["key"].tolist() == [2, 1]


def test_the_content_digest_speaks_for_them_where_they_hold_something(make_columns):
    def digest(**texts):
        columns = make_columns([1, 2]) | {name: np.array(values) for name, values in texts.items()}
        header = ChunkHeader(
            columns=columns, image_shape=(8, 8), offset=0, recipe_digest="r", versions={}
        )  # fmt: skip
        name = chunk_id(columns, "r")
        commit = Commit(id=commit_id(name, ()), kind="add", chunk=name, images=2, chunk_bytes=1)
        return fold(None, [commit], lambda _name: header).content_digest

    assert digest(kind=[b"", b""]) == digest()
    found = {digest(), digest(kind=[b"a", b""]), digest(kind=[b"", b"a"]), digest(site=[b"a", b""])}
    assert len(found | {digest(kind=[b"b", b""])}) == 5


def test_a_format_that_older_versions_refuse_is_that_of_chunks_and_snapshots_with_such_a_column(two_sites):
    found = {}
    for path in two_sites.glob("chunks/*.h5"):
        with h5py.File(path) as file:
            found.setdefault(int(file.attrs["format"]), set()).update(set(OPTIONAL) & file.keys())
    assert found == {1: set(), 2: {"site"}}
    store = open_store(two_sites)
    before = next(store.snapshots.glob("[!.]*"))
    publish_snapshot(store, current(store))
    after = store.snapshots / current(store).digest
    assert '"format": 2,' in (before / "snapshot.json").read_text()
    assert '"format": 4,' in (after / "snapshot.json").read_text()
    assert not [name for name in OPTIONAL if (before / f"{name}.npy").exists()]
    assert [name for name in OPTIONAL if (after / f"{name}.npy").exists()] == ["site"]


def test_a_snapshot_says_of_each_image_what_its_chunk_says(two_sites, capsys):
    store = open_store(two_sites)
    folded = current(store)
    publish_snapshot(store, folded)
    loaded = load_snapshot(store.snapshots / folded.digest)
    for snapshot in (folded, loaded):
        assert sorted(snapshot.text("site", slice(None)).tolist()) == [b""] * 12 + [b"ulm"] * 12
        assert set(snapshot.text("kind", slice(None)).tolist()) == {b""}
        assert snapshot.counts("kind").tolist() == [24]
        assert snapshot.text("site", 0) in ("", "ulm")
    sites = dict(zip(folded.key.tolist(), folded.text("site", slice(None)).tolist(), strict=True))
    digest = folded.content_digest
    assert main(["compact", str(two_sites)]) == 0
    merged = current(store)
    assert merged.content_digest == digest
    assert dict(zip(merged.key.tolist(), merged.text("site", slice(None)).tolist(), strict=True)) == sites
    assert main(["verify", str(two_sites)]) == 0
    target = two_sites.parent / "all.h5"
    assert main(["export", str(two_sites), "--single", str(target)]) == 0
    assert set(read_header(target).columns["site"].tolist()) == {b"", b"ulm"}
    capsys.readouterr()


def test_a_lost_chunk_is_made_again_with_its_columns(two_sites, tmp_path, capsys):
    store = open_store(two_sites)
    digest = current(store).content_digest
    path = next(p for p in sorted(two_sites.glob("chunks/*.h5")) if "site" in read_header(p).columns)
    path.unlink()
    source = str(tmp_path / "more" / "raw")
    assert main(["verify", str(two_sites), "--repair", "--source", source, "--site", "ulm"]) == 0
    assert current(store).content_digest == digest
    assert set(read_header(path).columns["site"].tolist()) == {b"ulm"}
    capsys.readouterr()
