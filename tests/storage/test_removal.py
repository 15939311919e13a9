"""Files of chunks go while others publish, commit, read and retract: what a commit names is never lost."""

import os
import shutil
import threading
import time

import numpy as np
import pytest

from mri_hpc.storage.adding import loop as adding
from mri_hpc.storage.adding import unit
from mri_hpc.storage.disk.layout import GONE_PREFIX, LITTER_AGE_S, open_store
from mri_hpc.storage.reading.reader import Reader
from mri_hpc.storage.snapshot import presence
from mri_hpc.storage.snapshot.catalogue import current, resolve
from mri_hpc.storage.upkeep import compaction, tidying
from mri_hpc.storage.upkeep.compaction import compact
from mri_hpc.storage.upkeep.verify import verify
from mri_hpc.store import main

SMALL = ("--size", 16, "--chunk-images", 8)
PATIENCE_S = 120


@pytest.fixture
def uncommitted(filled):
    """Makes a chunk one that no commit names; returns its name, and what commits it again."""

    def take():
        store = open_store(filled)
        snapshot = current(store)
        commit = store.commit(snapshot.commits[0].decode())
        text = commit.read_bytes()
        commit.unlink()
        late = current(store)
        (name,) = set(snapshot.chunks["name"].tolist()) - set(late.chunks["name"].tolist())
        return name.decode(), lambda: commit.write_bytes(text)

    return take


@pytest.fixture
def interrupted(monkeypatch):
    """Lets something happen once, right before a function is called."""

    def arm(module, name, event):
        real, events = getattr(module, name), [event]

        def call(*arguments, **options):
            if events:
                events.pop()()
            return real(*arguments, **options)

        monkeypatch.setattr(module, name, call)

    return arm


def retract(store, patient="patient3"):
    assert main(["retract", str(store), "--patient", patient, "--yes"]) == 0


def set_aside(path):
    """As a removal that was killed leaves it."""
    path.rename(path.with_name(f"{GONE_PREFIX}0a1b2c3d-{path.name}"))


def test_a_chunk_that_is_committed_while_it_is_being_removed_stays(filled, uncommitted, interrupted):
    store = open_store(filled)
    name, commit = uncommitted()
    interrupted(presence, "move", commit)
    assert not presence.remove(store, name)
    assert verify(store).problems == []


def test_a_removal_takes_nothing_away_that_another_has_set_aside(filled, uncommitted, monkeypatch):
    """The first saw no commit; then there was one, and the second set aside what was published again."""
    store = open_store(filled)
    name, commit = uncommitted()
    data = store.chunk(name).read_bytes()
    has_moved, has_removed = threading.Event(), threading.Event()
    live_now = presence._live_now

    def second():
        assert not presence.remove(store, name)

    other = threading.Thread(target=second)

    def looked(*arguments):
        live = live_now(*arguments)
        if threading.current_thread() is other:
            has_moved.set()
            assert has_removed.wait(PATIENCE_S)
        else:
            commit()
            store.chunk(name).write_bytes(data)
            other.start()
            assert has_moved.wait(PATIENCE_S)
        return live

    monkeypatch.setattr(presence, "_live_now", looked)
    assert presence.remove(store, name)
    has_removed.set()
    other.join()
    assert verify(store).problems == []


def test_a_removal_that_was_killed_half_way_is_ended(filled):
    store = open_store(filled)
    set_aside(sorted(store.chunks.iterdir())[0])
    (store.chunks / f"{GONE_PREFIX}0a1b2c3d-{'0' * 32}.h5").write_bytes(b"old")
    compact(store)
    assert verify(store).problems == []
    assert not list(store.chunks.glob(f"{GONE_PREFIX}*"))


def test_who_misses_a_chunk_that_a_killed_removal_has_set_aside_puts_it_back(filled):
    store, snapshot = open_store(filled), resolve(filled)
    with Reader(filled, snapshot) as reader:
        pixels = reader.read(np.arange(len(snapshot)))
    set_aside(store.chunk(snapshot.chunks["name"][0].decode()))
    with Reader(filled, snapshot) as reader:
        assert np.array_equal(reader.read(np.arange(len(snapshot))), pixels)
    set_aside(store.chunk(snapshot.chunks["name"][1].decode()))
    shutil.rmtree(store.snapshots / snapshot.digest)
    assert current(store).content_digest == snapshot.content_digest
    set_aside(store.chunk(snapshot.chunks["name"][2].decode()))
    assert verify(store).problems == []


def test_two_compactions_find_the_same_litter(filled, interrupted, uncommitted):
    store = open_store(filled)
    name, _commit = uncommitted()
    old = time.time() - LITTER_AGE_S - 1
    os.utime(store.chunk(name), (old, old))
    interrupted(compaction, "_is_due", lambda: compact(store))
    compact(store)
    assert not store.chunk(name).exists()
    assert verify(store).problems == []


@pytest.mark.parametrize("module", [unit, compaction])
@pytest.mark.parametrize("is_before", [True, False])
def test_a_chunk_whose_file_is_removed_as_litter_around_its_commit_is_published_again(
    tmp_path, make_pictures, preprocess, monkeypatch, module, is_before
):
    """Whoever removes it has looked for the commit before."""
    name = "publish_commit" if module is unit else "publish_compaction"
    real, removed = getattr(module, name), []

    def remove(path):
        path.unlink()
        removed.append(path)

    def call(store, *arguments, **options):
        path = store.chunk(options["chunk"])
        if is_before and not removed:
            remove(path)
        done = real(store, *arguments, **options)
        if not is_before:
            remove(path)
        return done

    make_pictures(tmp_path / "raw", 30)
    with monkeypatch.context() as patched:
        if module is unit:
            patched.setattr(module, name, call)
        preprocess(tmp_path / "raw", tmp_path / "store", *SMALL)
    if module is compaction:
        monkeypatch.setattr(module, name, call)
    compact(open_store(tmp_path / "store"), keep_s=0)
    assert removed
    assert len(resolve(tmp_path / "store")) == 30
    assert verify(open_store(tmp_path / "store")).problems == []


@pytest.mark.parametrize(
    ("module", "name"), [(adding, "_reject_retracted"), (adding, "seal"), (unit, "publish_commit")]
)
def test_who_is_retracted_while_a_task_reads_is_not_stored_by_it(
    tmp_path, filled, make_pictures, preprocess, interrupted, module, name
):
    """Before a unit is sealed, while it is, and between its chunk and its commit."""
    make_pictures(tmp_path / "raw", 90)
    if name == "_reject_retracted":
        interrupted(adding, "_take", lambda: retract(filled))
    else:
        interrupted(module, name, lambda: retract(filled))
    status, _out, err = preprocess(tmp_path / "raw", filled)
    assert status == 0, err
    snapshot = current(open_store(filled))
    assert len(snapshot.withheld) == 0
    assert np.isin(snapshot.retracted_keys, snapshot.key).sum() == 0
    assert len(snapshot) == 90 - len([path for path in (tmp_path / "raw").rglob("patient3/*")])
    assert not [path for path in filled.rglob("*.csv") if b"patient3" in without_rejected(path.read_bytes())]
    found = verify(open_store(filled))
    assert (found.problems, found.images) == ([], len(snapshot))


def without_rejected(data):
    return b"\n".join(line for line in data.splitlines() if b"retracted: " not in line)


def test_lines_of_who_is_retracted_during_a_compaction_are_not_written_back(filled, interrupted, monkeypatch):
    monkeypatch.setattr(tidying, "MOST_FILES", 2)
    interrupted(tidying, "publish_private", lambda: retract(filled))
    compact(open_store(filled))
    assert not [path for path in (filled / "private").rglob("*.csv") if b"patient3" in path.read_bytes()]


def test_what_is_compacted_while_it_is_verified_is_not_called_damaged(filled):
    store = open_store(filled)

    def compacted_first(ids):
        compact(store, keep_s=0)
        return ids

    assert verify(store, progress=compacted_first).problems == []
