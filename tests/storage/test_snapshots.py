import errno
import mmap
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mri_hpc.base.errors import UserError
from mri_hpc.base.sealed_json import seal, unseal
from mri_hpc.storage.disk import chunk_file, column_file
from mri_hpc.storage.disk.chunk_file import read_sealed_header
from mri_hpc.storage.disk.columns import ChunkHeader, chunk_id
from mri_hpc.storage.disk.commits import Commit, Rejection, commit_id, publish_commit, read_commit
from mri_hpc.storage.disk.layout import open_store
from mri_hpc.storage.snapshot import catalogue as snapshots
from mri_hpc.storage.snapshot import folding, rows, totals
from mri_hpc.storage.snapshot.catalogue import current, load_snapshot, resolve
from mri_hpc.storage.snapshot.table import CHANGED, CHUNKS, array_names, lazy_snapshot
from mri_hpc.storage.upkeep.compaction import compact
from mri_hpc.store import main

HEADERS = {}


def fold(base, new):
    """As folding.fold; new: commits with the columns of their chunks, which may be asked for again later."""
    HEADERS.update({commit.chunk: header for commit, header in new if header})
    return folding.fold(base, [commit for commit, _header in new], HEADERS.__getitem__)


def add(columns=None, rejected=()):
    """A commit and the columns of its chunk, as they would be read from disk."""
    header = None
    name = ""
    if columns is not None:
        header = ChunkHeader(columns=columns, image_shape=(8, 8), offset=1000, recipe_digest="r", versions={})
        name = chunk_id(columns, "r")
    commit = Commit(
        id=commit_id(name, rejected),
        kind="add",
        chunk=name,
        images=len(header) if header else 0,
        chunk_bytes=5000,
        rejected=rejected,
    )
    return commit, header


def reject(key, *, reason="empty file", mtime_ns=1, source_hash=""):
    return Rejection(key=f"{key:016x}", reason=reason, size=1, mtime_ns=mtime_ns, source_hash=source_hash)


def same(a, b):
    arrays = all(
        getattr(a, name).dtype == getattr(b, name).dtype
        and np.array_equal(getattr(a, name), getattr(b, name), equal_nan=getattr(a, name).dtype.kind == "f")
        for name in array_names()
    )
    plain = ("digest", "content_digest", "classes", "reasons", "image_shape", "num_shadowed", "num_twins")
    return arrays and all(getattr(a, name) == getattr(b, name) for name in plain)


COMMIT = st.tuples(
    st.lists(st.integers(1, 12), unique=True, max_size=6),
    st.integers(0, 3),
    st.integers(0, 2),
    st.lists(
        st.tuples(st.integers(1, 14), st.sampled_from(["empty file", CHANGED]), st.integers(0, 2)), max_size=3
    ),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(COMMIT, min_size=1, max_size=6), st.randoms(use_true_random=False))
def test_a_snapshot_is_a_function_of_its_set_of_commits(make_columns_once, drawn, random):
    commits = [
        add(
            make_columns_once(keys, variant=variant, generation=generation) if keys else None,
            [reject(key, reason=reason, mtime_ns=time) for key, reason, time in rejected],
        )
        for keys, variant, generation, rejected in drawn
    ]
    at_once = fold(None, commits)
    shuffled = random.sample(commits, len(commits))
    step_by_step = None
    while shuffled:
        part, shuffled = shuffled[: (size := random.randint(1, 3))], shuffled[size:]
        step_by_step = fold(step_by_step, part)
    assert same(at_once, step_by_step)
    assert (np.diff(at_once.key.astype(np.int64)) > 0).all()


@pytest.fixture(scope="module")
def make_columns_once():
    return _columns_maker()


def _columns_maker():
    from mri_hpc.storage.disk.columns import COLUMNS

    def make(keys, *, variant=0, generation=0):
        keys = np.array(keys, "<u8")
        columns = {
            c.name: np.zeros((len(keys), c.width) if c.width > 1 else len(keys), c.dtype) for c in COLUMNS
        }
        columns["key"] = keys
        columns["generation"][:] = generation
        columns["source_hash"][:] = keys + np.uint64(100 * variant)
        columns["box"][:] = np.nan
        for name in ("label", "patient", "study"):
            values = [
                f"{name[0]}{(int(key) * 5 + variant) % 4}".encode() if (key + variant) % 3 else b""
                for key in keys
            ]
            columns[name] = np.array(values, np.bytes_)
        return columns

    return make


def test_how_chunks_are_cut_does_not_change_the_content(make_columns):
    together = fold(None, [add(make_columns(range(1, 21)))])
    apart = fold(None, [add(make_columns(range(1, 8))), add(make_columns(range(8, 21)))])
    assert together.content_digest == apart.content_digest
    assert together.digest != apart.digest


def test_everything_stored_counts_for_the_content_digest(make_columns):
    digests = set()
    for name in (
        "source_hash",
        "crc",
        "fold",
        "split",
        "slice_index",
        "position",
        "plane",
        "plane_inferred",
        "box",
    ):
        columns = make_columns([2, 4])
        columns[name] = columns[name] + 1
        digests.add(fold(None, [add(columns)]).content_digest)
    for name in ("label", "patient", "study"):
        columns = make_columns([2, 4])
        columns[name] = np.array([b"y", b"z"])
        digests.add(fold(None, [add(columns)]).content_digest)
    digests.add(fold(None, [add(make_columns([2, 4]))]).content_digest)
    assert len(digests) == 13


def test_a_source_stored_twice_is_there_once_and_the_copy_is_counted(make_columns):
    first, second = add(make_columns([1, 2, 3])), add(make_columns([3, 4]))
    snapshot = fold(None, [first, second])
    assert snapshot.key.tolist() == [1, 2, 3, 4]
    assert snapshot.num_shadowed == 1
    winner = min(first[0].chunk, second[0].chunk)
    assert snapshot.chunks["name"][snapshot.chunk[2]].decode() == winner


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_the_one_replaced_most_often_wins_in_any_order(make_columns, order):
    versions = [add(make_columns([5], variant=v, generation=g)) for v, g in ((0, 0), (1, 1), (0, 2))]
    snapshot = fold(None, [versions[i] for i in order])
    assert snapshot.generation.tolist() == [2]
    assert snapshot.num_shadowed == 2


def test_a_class_that_nothing_has_any_more_is_gone(make_columns):
    base = fold(None, [add(make_columns([5], labels=("old",)))])
    assert base.classes == ("old",)
    assert fold(base, [add(make_columns([5], labels=("new",), generation=1))]).classes == ("new",)


def test_unknown_labels_and_patients_are_minus_one(make_columns):
    snapshot = fold(None, [add(make_columns([1, 2], labels=("",), patients=("",)))])
    assert snapshot.label.tolist() == snapshot.patient.tolist() == [-1, -1]
    assert (snapshot.classes, len(snapshot.patient_names)) == ((), 0)


def test_twins_are_counted(make_columns):
    columns = make_columns([1, 2, 3])
    columns["source_hash"][:] = (9, 9, 8)
    snapshot = fold(None, [add(columns)])
    assert snapshot.num_twins == 1

    def parts(name):
        """Parts are as many bytes: of the columns as many rows or other ones."""
        return iter(np.array_split(snapshot.column(name), 3 if name == "source_hash" else 2))

    assert lazy_snapshot({}, snapshot.column, parts=parts).num_twins == 1


def test_a_rejection_is_void_once_its_source_is_stored(make_columns):
    rejected = fold(None, [add(None, [reject(1), reject(2)])])
    assert rejected.is_rejected.tolist() == [True, True]
    snapshot = fold(rejected, [add(make_columns([1]))])
    assert snapshot.rejected["key"][snapshot.is_rejected].tolist() == [2]


def test_a_changed_source_stays_rejected_until_it_replaces_what_is_stored(make_columns):
    changed = reject(1, reason=CHANGED, source_hash=f"{2 * 7919:016x}")
    base = fold(None, [add(make_columns([1])), add(None, [changed])])
    assert base.is_rejected.tolist() == [True]
    assert fold(base, [add(make_columns([1], variant=1, generation=1))]).is_rejected.tolist() == [False]


def test_resolving_publishes_columns_that_are_mapped_not_read(filled):
    snapshot = resolve(filled)
    assert (filled / "snapshots" / snapshot.digest / "snapshot.json").is_file()
    assert isinstance(snapshot.key.base.base.obj, mmap.mmap)
    assert len(snapshot) == 60
    assert snapshot.classes == ("glioma", "meningioma")
    assert snapshot.image_shape == (16, 16)
    assert len(snapshot.chunks) == 8
    dtypes = {
        "key": "u8", "label": "i2", "patient": "i4", "fold": "i2", "split": "i1", "box": "f4", "plane": "i1",
        "plane_inferred": "?", "chunk": "i4", "row": "i4", "crc": "u4",
    }  # fmt: skip
    assert {name: getattr(snapshot, name).dtype for name in dtypes} == {
        n: np.dtype(t) for n, t in dtypes.items()
    }


def test_a_column_that_lies_in_memory_otherwise_is_saved_as_it_is(tmp_path):
    values = np.arange(12, dtype="<f4").reshape(3, 4).T
    crc = column_file.save_column(tmp_path / "box.npy", values)
    assert np.array_equal(np.load(tmp_path / "box.npy"), values)
    assert np.array_equal(column_file.ColumnFile(tmp_path / "box.npy", crc).array(), values)


def test_mapped_snapshots_keep_no_descriptor(filled):
    folder = filled / "snapshots" / resolve(filled).digest
    before = len(list(Path("/proc/self/fd").iterdir()))
    loaded = [load_snapshot(folder) for _time in range(50)]
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert {len(snapshot.key) for snapshot in loaded} == {60}


@pytest.mark.parametrize("number", [errno.EMFILE, errno.EACCES, errno.ENOMEM])
def test_a_sound_snapshot_that_cannot_be_opened_is_not_called_damaged(filled, monkeypatch, number):
    folder = filled / "snapshots" / resolve(filled).digest

    def refuse(_descriptor):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(column_file, "mapped_whole", refuse)
    with pytest.raises(OSError) as refused:
        load_snapshot(folder)
    assert refused.value.errno == number


def test_an_old_snapshot_is_found_by_its_digest(filled, tmp_path, make_pictures, preprocess):
    old = resolve(filled)
    make_pictures(tmp_path / "raw", 5, first=60)
    preprocess(tmp_path / "raw", filled)
    new = resolve(filled)
    assert (len(old), len(new)) == (60, 65)
    assert same(resolve(filled, old.digest), old)
    assert resolve(filled, new.digest[:12]).digest == new.digest
    with pytest.raises(UserError, match=f"has no snapshot 'zz'; there are: .*{old.digest}"):
        resolve(filled, "zz")


def test_folding_on_opens_no_chunk_that_is_folded(filled, tmp_path, make_pictures, preprocess, monkeypatch):
    resolve(filled)
    make_pictures(tmp_path / "raw", 3, first=60)
    preprocess(tmp_path / "raw", filled)
    opened = []
    monkeypatch.setattr(
        snapshots, "read_sealed_header", lambda path: opened.append(path) or read_sealed_header(path)
    )
    assert len(resolve(filled)) == 63
    assert len(opened) == 1
    resolve(filled)
    assert len(opened) == 1


def test_a_snapshot_on_top_of_another_is_the_one_folded_anew(filled, tmp_path, make_pictures, preprocess):
    resolve(filled)
    make_pictures(tmp_path / "raw", 9, first=60)
    preprocess(tmp_path / "raw", filled)
    store = open_store(filled)
    on_top = current(store)
    assert len(list(store.snapshots.iterdir())) == 1
    commits = [read_commit(store, name) for name in store.commit_ids()]
    anew = fold(None, [(commit, chunk_file.read_header(store.chunk(commit.chunk))) for commit in commits])
    assert same(on_top, anew)


def test_of_all_snapshots_only_the_one_that_is_folded_on_is_opened_whole(
    filled, tmp_path, make_pictures, preprocess, monkeypatch
):
    monkeypatch.setattr(snapshots, "FEW_LEFT", 0)
    for first in (60, 63, 66):
        newest = resolve(filled).digest
        make_pictures(tmp_path / "raw", 3, first=first)
        preprocess(tmp_path / "raw", filled)
    opened = []
    monkeypatch.setattr(
        snapshots, "load_snapshot", lambda folder: opened.append(folder.name) or load_snapshot(folder)
    )
    assert len(current(open_store(filled))) == 69
    assert opened == [newest]


def test_where_the_best_snapshot_lacks_a_column_the_next_one_is_folded_on(
    filled, tmp_path, make_pictures, preprocess, monkeypatch
):
    digests, opened = [], []
    monkeypatch.setattr(
        snapshots, "read_sealed_header", lambda path: opened.append(path) or read_sealed_header(path)
    )
    for first in (60, 63, 66):
        digests.append(resolve(filled).digest)
        make_pictures(tmp_path / "raw", 3, first=first)
        preprocess(tmp_path / "raw", filled)
    for best, left in ((digests[2], 2), (digests[1], 3)):
        (filled / "snapshots" / best / "crc.npy").unlink()
        opened.clear()
        assert len(current(open_store(filled))) == 69
        assert len(opened) == left


def test_columns_that_are_made_once_are_those_that_are_made_each_time(
    filled, tmp_path, make_pictures, preprocess, monkeypatch
):
    resolve(filled)
    make_pictures(tmp_path / "raw", 9, first=60, patients=100)
    preprocess(tmp_path / "raw", filled)
    once = current(open_store(filled))
    assert once.column("crc") is once.column("crc")
    monkeypatch.setattr(folding, "FEW_ROWS", 0)
    each_time = current(open_store(filled))
    assert each_time.column("crc") is not each_time.column("crc")
    assert same(once, each_time)


def test_rows_of_several_values_are_put_in_between_as_they_are():
    part, new = np.array([[1, np.nan], [3, 4]], "<f4"), np.array([[5, 6], [np.nan, 8]], "<f4")
    before = np.array([0, 1])
    assert np.array_equal(
        rows._insert(part, before, new), np.insert(part, before, new, axis=0), equal_nan=True
    )


def test_a_longer_name_that_comes_in_between_is_not_cut():
    joined = rows._joined_tables(np.array([b"a", b"c"]), np.array([b"a", b"bbbb"]))
    assert (joined.tolist(), joined.dtype) == ([b"a", b"bbbb", b"c"], np.dtype("S4"))


def test_chunks_that_a_compaction_removes_between_listing_and_folding_are_looked_for_again(
    filled, monkeypatch
):
    store, content = open_store(filled), resolve(filled).content_digest
    shutil.rmtree(store.snapshots)
    store.snapshots.mkdir()

    def compact_first(opened, chunk):
        monkeypatch.setattr(snapshots, "header_of", header_of)
        # They are superseded, and then removed.
        compact(opened, keep_s=0)
        compact(opened, keep_s=0)
        assert not opened.chunk(chunk).exists()
        return header_of(opened, chunk)

    header_of = snapshots.header_of
    monkeypatch.setattr(snapshots, "header_of", compact_first)
    assert current(store).content_digest == content


def test_a_chunk_that_is_missing_while_nothing_was_compacted_is_said(filled):
    store = open_store(filled)
    next(store.chunks.iterdir()).unlink()
    with pytest.raises(UserError, match="repair it: mri-hpc store verify"):
        current(store)


def test_what_systems_leave_among_the_snapshots_is_passed_over(filled, capsys):
    digest = resolve(filled).digest
    (filled / "snapshots" / ".DS_Store").write_bytes(b"Bud1")
    assert snapshots.published(open_store(filled)) == [digest]
    for words in (["info"], ["verify"], ["compact"], ["verify"]):
        assert main([*words, str(filled)]) == 0, capsys.readouterr().err


def test_no_store_and_an_empty_store_are_said_apart(tmp_path, preprocess):
    with pytest.raises(UserError, match=r"is not a store \(found nothing"):
        resolve(tmp_path / "store")
    (tmp_path / "raw" / "a").mkdir(parents=True)
    (tmp_path / "raw" / "a" / "1.jpg").touch()
    preprocess(tmp_path / "raw", tmp_path / "store")
    with pytest.raises(UserError, match=r"holds no image \(1 sources were rejected\)"):
        resolve(tmp_path / "store")


def test_a_column_comes_in_parts_that_are_the_whole(tmp_path, monkeypatch):
    monkeypatch.setattr(column_file, "BLOCK_BYTES", 4096)
    columns = {
        "box": np.arange(8000, dtype="<f4").reshape(2000, 4),
        "key": np.arange(5000, dtype="<u8"),
        "plane": np.arange(9000).astype("i1"),
        # Of such a width that a value would be cut in two.
        "chunks": np.zeros(300, CHUNKS),
        "nothing": np.empty((0, 4), "<f4"),
    }
    for name, values in columns.items():
        path = tmp_path / f"{name}.npy"
        file = column_file.ColumnFile(path, column_file.save_column(path, values))
        parts = list(file.parts())
        assert np.array_equal(np.concatenate(parts), values), name
        assert {part.shape[1:] for part in parts} == {values.shape[1:]}
        assert (len(parts) > 1) == (name in ("box", "key", "plane"))


def test_a_damaged_column_gives_no_part(tmp_path):
    path = tmp_path / "key.npy"
    crc = column_file.save_column(path, np.arange(2**20, dtype="<u8"))
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    with pytest.raises(ValueError, match=r"key\.npy differs from its checksum"):
        next(column_file.ColumnFile(path, crc).parts())


@pytest.mark.parametrize("harm", [b"(", b"'", b"\\", b"\0"])
def test_a_damaged_header_of_a_column_is_a_damaged_column(tmp_path, harm):
    path = tmp_path / "key.npy"
    crc = column_file.save_column(path, np.arange(4, dtype="<u8"))
    whole = path.read_bytes()
    texts = {whole[:at] + harm + whole[at + 1 :] for at in range(10, whole.index(b"}") + 1)}
    for damaged in texts - {whole}:
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"."):
            column_file.ColumnFile(path, crc).array()


def test_a_damaged_snapshot_is_named(filled):
    snapshot = resolve(filled)
    folder = filled / "snapshots" / snapshot.digest
    for file in sorted({*folder.iterdir()} - {folder / totals.FILE}):
        whole = file.read_bytes()
        flipped = bytearray(whole)
        flipped[-1 if file.suffix == ".npy" else whole.index(b"glioma")] ^= 4
        for data in (b"", whole[:50], bytes(flipped)):
            file.write_bytes(data)
            with pytest.raises(UserError, match=r"repair it: mri-hpc store verify .* --repair --source DIR"):
                same(load_snapshot(folder), snapshot)
        file.write_bytes(whole)
    assert same(load_snapshot(folder), snapshot)


def test_a_damaged_snapshot_is_never_folded_on(filled, tmp_path, make_pictures, preprocess):
    folder = filled / "snapshots" / resolve(filled).digest
    make_pictures(tmp_path / "raw", 1, first=60)
    for name in ("commits.npy", "patient.npy"):
        file = folder / name
        whole = file.read_bytes()
        file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
        status, _out, err = preprocess(tmp_path / "raw", filled)
        assert (status, err.count("\n")) == (2, 1)
        assert f"{name} differs from its checksum): repair it: mri-hpc store verify {filled} --repair" in err
        file.write_bytes(whole)


def test_a_chunk_whose_columns_were_changed_is_never_folded(filled):
    import h5py

    chunk = sorted((filled / "chunks").iterdir())[0]
    with h5py.File(chunk, "r+") as file:
        file["fold"][0] = 3
    with pytest.raises(UserError, match="its columns are not those that it was sealed with"):
        resolve(filled)


def test_a_commit_whose_content_does_not_give_its_name_is_refused(filled):
    store = open_store(filled)
    name = store.commit_ids()[0]
    path = store.commit(name)
    values = unseal(path.read_bytes())
    whole = path.read_bytes()
    longer = whole.replace(b'"images": ', b'"images": 1')
    for data in (b"", b"\xff", longer, seal({**values, "chunk": "0"}), seal({**values, "rejected": [{}]})):
        path.write_bytes(data)
        with pytest.raises(UserError, match="is damaged"):
            read_commit(store, name)
    publish_commit(store, chunk="", images=0, rejected=[reject(1)], versions={})
    later = store.commit(commit_id("", [reject(1)]))
    later.write_bytes(seal({**unseal(later.read_bytes()), "kind": "merge"}))
    with pytest.raises(UserError, match="kind 'merge', unknown to this version"):
        read_commit(store, later.stem)
