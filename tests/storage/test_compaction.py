import contextlib
import os
import shutil
import time
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mri_hpc.base import atomic
from mri_hpc.base.errors import UserError
from mri_hpc.storage.disk.chunk_file import read_header
from mri_hpc.storage.disk.commits import publish_compaction, publish_retraction
from mri_hpc.storage.disk.layout import LITTER_AGE_S, open_store
from mri_hpc.storage.reading.reader import Reader
from mri_hpc.storage.snapshot.catalogue import resolve
from mri_hpc.storage.snapshot.table import CHUNKS
from mri_hpc.storage.upkeep import compaction
from mri_hpc.storage.upkeep.compaction import compact, look_ahead
from mri_hpc.storage.upkeep.groups import FAN_IN, TIERS, View, groups_to_merge
from mri_hpc.storage.upkeep.verify import verify

SMALL = ("--size", 16, "--chunk-images", 8)
DAY_S = 24 * 3600


class Killed(BaseException):
    """Stands for the end of the process."""


def pixels(path, snapshot):
    with Reader(path, snapshot) as reader:
        return {
            int(key): image.tobytes()
            for key, image in zip(snapshot.key, reader.read(np.arange(len(snapshot))), strict=True)
        }


def test_compacting_keeps_the_content_and_lessens_the_files(filled):
    store, before = open_store(filled), resolve(filled)
    images = pixels(filled, before)
    done = compact(store)
    after = resolve(filled)
    assert (done.chunks_before, done.chunks_after, len(after.chunks)) == (8, 1, 1)
    assert after.digest != before.digest
    assert after.content_digest == before.content_digest
    assert pixels(filled, after) == images
    assert verify(store).problems == []
    assert compact(store).bytes_written == 0


def test_a_dry_run_says_what_compacting_does_and_does_nothing(filled):
    store = open_store(filled)
    names = sorted(path for path in filled.rglob("*"))
    found = look_ahead(store)
    assert sorted(path for path in filled.rglob("*")) == names
    done = compact(store)
    assert (found.chunks_before, found.chunks_after) == (done.chunks_before, done.chunks_after)


def test_superseded_files_stay_for_those_who_read_and_go_at_a_later_compaction(filled, monkeypatch):
    store, before = open_store(filled), resolve(filled)
    images = pixels(filled, before)
    assert compact(store).removed == []
    assert len(list(store.chunks.iterdir())) == 9
    now = time.time()
    monkeypatch.setattr(compaction.time, "time", lambda: now + 6 * DAY_S)
    assert compact(store).removed == []
    monkeypatch.setattr(compaction.time, "time", lambda: now + 8 * DAY_S)
    assert len(compact(store).removed) == 8
    assert len(list(store.chunks.iterdir())) == 1
    old = resolve(filled, before.digest)
    assert (old.digest, old.content_digest) == (before.digest, before.content_digest)
    assert pixels(filled, old) == images
    assert verify(store).problems == []


def test_a_run_on_an_older_snapshot_reads_images_that_were_replaced_since(filled, tmp_path, preprocess):
    from PIL import Image

    before = resolve(filled)
    images = pixels(filled, before)
    for path in sorted((tmp_path / "raw").rglob("*.jpg"))[:3]:
        Image.new("L", (32, 32), 5).save(path)
    assert preprocess(tmp_path / "raw", filled, "--replace")[1].startswith("stored 3,")
    compact(open_store(filled), keep_s=0)
    assert len(list((filled / "chunks").iterdir())) == 1
    assert pixels(filled, resolve(filled, before.digest)) == images
    newest = resolve(filled)
    assert sum(pixels(filled, newest)[key] != image for key, image in images.items()) == 3
    assert compact(open_store(filled)).bytes_written == 0


def test_copies_of_two_arrays_are_dropped(filled, tmp_path, preprocess, make_pictures):
    other = tmp_path / "other"
    preprocess(tmp_path / "raw", other, "--size", 16, "--chunk-images", 9)
    for folder in ("chunks", "commits"):
        for path in (other / folder).iterdir():
            shutil.copy(path, filled / folder)
    snapshot = resolve(filled)
    assert snapshot.num_shadowed == 60
    done = compact(open_store(filled), keep_s=0)
    assert done.images_dropped == 60
    after = resolve(filled)
    assert (after.num_shadowed, len(after.chunks), after.content_digest) == (0, 1, snapshot.content_digest)


def test_a_compaction_based_on_what_is_no_longer_so_is_not_taken(filled):
    store = open_store(filled)
    view = compaction._look(store)
    (group,) = groups_to_merge(view, compaction.TARGET_BYTES)
    assert publish_compaction(store, 1, chunk="", images=0, superseded=())
    files = sorted(store.chunks.iterdir())
    assert not compaction._rewrite(store, view, group, 1, compaction.Compacted())
    assert sorted(store.chunks.iterdir()) == files
    assert compact(store).chunks_after == 1


def test_whoever_comes_second_takes_no_chunk_away_from_the_first(filled, monkeypatch):
    """Both publish the same chunk; the second has no commit for it, and must not remove it."""
    store = open_store(filled)
    real, views = compaction.publish_compaction, []

    def late(*arguments, **options):
        if not views:
            views.append(1)
            compact(store)
        return real(*arguments, **options)

    monkeypatch.setattr(compaction, "publish_compaction", late)
    compact(store)
    assert verify(store).problems == []
    assert len(resolve(filled)) == 60


def test_a_chunk_that_a_killed_task_never_committed_goes_after_a_day(filled, monkeypatch):
    store = open_store(filled)
    stray = sorted(store.chunks.iterdir())[0]
    commit = next(p for p in store.commits.iterdir() if stray.stem in p.read_text())
    commit.unlink()
    compact(store)
    assert stray.exists()
    old = time.time() - LITTER_AGE_S - 1
    os.utime(stray, (old, old))
    assert compact(store).removed == [stray]
    assert verify(store).problems == []


def test_pixels_that_are_damaged_are_not_copied(filled):
    chunk = sorted((filled / "chunks").iterdir())[3]
    data = bytearray(chunk.read_bytes())
    data[read_header(chunk).offset + 300] ^= 1
    chunk.write_bytes(data)
    with pytest.raises(
        UserError, match=rf"{chunk.name}: pixels differ from their CRC; see: mri-hpc store verify"
    ):
        compact(open_store(filled))
    assert len(list((filled / "chunks").iterdir())) == 8


def fake_view(sizes):
    rows = [(f"{number:032d}".encode(), 0, 1, size) for number, size in enumerate(sizes)]
    snapshot = SimpleNamespace(chunks=np.array(rows, CHUNKS))
    return View(snapshot=snapshot, number=0, staying={})


@settings(max_examples=200, deadline=None)
@given(st.lists(st.integers(1, 2_000), max_size=300))
def test_after_planning_there_are_no_more_chunks_than_bytes_ask_for_and_a_few(sizes):
    target = 1000
    groups = groups_to_merge(fake_view(sizes), target)
    merged = {name for group in groups for name in group.names}
    assert sum(len(group.names) for group in groups) == len(merged)
    left = len(sizes) - len(merged) + len(groups)
    assert left <= sum(sizes) / target + TIERS * (FAN_IN - 1)
    for group in groups:
        assert group.bytes < 2 * target


def test_daily_compaction_of_daily_additions_rewrites_a_byte_a_few_times():
    """A thousand days: files within bytes / target and a few, and each byte rewritten about once a tier."""
    target, day, chunks, written = 1000, 10, [], 0
    for _day in range(1000):
        chunks.append(day)
        while groups := groups_to_merge(fake_view(chunks), target):
            for group in groups:
                written += group.bytes
                chunks = [size for i, size in enumerate(chunks) if f"{i:032d}" not in group.names] + [
                    group.bytes
                ]
                break
        assert len(chunks) <= day * 1000 / target + TIERS * (FAN_IN - 1)
    assert len(chunks) <= 10 + 12
    assert written <= 5 * 1000 * day


@pytest.mark.parametrize("moment", range(1, 8))
def test_a_death_before_any_publication_or_removal_loses_nothing(filled, monkeypatch, moment):
    store, content = open_store(filled), resolve(filled).content_digest
    calls = []

    def dying(real):
        def call(*arguments, **options):
            calls.append(arguments)
            if len(calls) == moment:
                raise Killed
            return real(*arguments, **options)

        return call

    with monkeypatch.context() as patched:
        patched.setattr(atomic.os, "link", dying(os.link))
        patched.setattr(atomic.Path, "rename", dying(atomic.Path.rename))
        with contextlib.suppress(Killed):
            compact(store, keep_s=0)
        died = len(calls) == moment
    assert died
    compact(store, keep_s=0)
    assert resolve(filled).content_digest == content
    assert verify(store).problems == []
    assert len(list(store.chunks.iterdir())) == 1


def test_images_of_a_retracted_patient_leave_the_disk(filled):
    store, snapshot = open_store(filled), resolve(filled)
    name = snapshot.patient_names[0].decode()
    gone = snapshot.key[snapshot.patient == 0]
    publish_retraction(store, (), [name], "asked")
    seen = resolve(filled)
    assert len(seen) == 60 - len(gone)
    assert sorted(seen.withheld["key"].tolist()) == sorted(gone.tolist())
    compact(store)
    for path in store.chunks.iterdir():
        assert not np.isin(read_header(path).columns["key"], gone).any()
    after = resolve(filled)
    assert after.content_digest == seen.content_digest
    assert len(after.withheld) == 0
    assert np.array_equal(after.retracted_keys, gone)
    assert verify(store).problems == []
