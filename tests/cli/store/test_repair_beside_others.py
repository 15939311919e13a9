"""A repair beside retractions, snapshots, readers and another repair."""

import contextlib
import io
import multiprocessing
import os
import time

import numpy as np
import pytest

from mri_hpc.base.atomic import TEMP_PREFIX
from mri_hpc.intake.labels.pseudonyms import Pseudonyms, site_key
from mri_hpc.storage.disk.chunk_file import read_header
from mri_hpc.storage.disk.commits import SamePatient, publish_retraction, publish_same
from mri_hpc.storage.disk.layout import LITTER_AGE_S, open_store
from mri_hpc.storage.reading.reader import Reader
from mri_hpc.storage.snapshot.catalogue import resolve
from mri_hpc.storage.upkeep import repair as repairing
from mri_hpc.storage.upkeep.verify import verify
from mri_hpc.store import main
from tests.cli.store.harms import (
    assert_nothing_is_left,
    chunk_with,
    chunks,
    cut_short,
    flip_header,
    flip_pixels,
    pixels,
    truncate,
    unlink,
)  # fmt: skip

SMALL = ("--size", 16, "--chunk-images", 8)


@pytest.fixture
def store(copy_of_store):
    """40 images of 7 patients in 5 chunks; images 3, 10, 17, 24, 31 and 38 are of patient3."""
    return copy_of_store(40, *SMALL)


@pytest.fixture
def patient3(tmp_path, store):
    """Name, in the store, of a patient who is retracted, and the pixels that must go."""
    name = Pseudonyms(site_key(tmp_path / "site.key")).patient("patient3")
    before = resolve(store)
    rows = np.flatnonzero(before.patient == before.patient_names.tolist().index(name.encode()))
    images = pixels(store, before)
    return name, [int(key) for key in before.key[rows]], [images[row] for row in rows]


@pytest.mark.parametrize(
    ("harm", "is_by_key"), [(flip_pixels, True), (flip_header, True), (truncate, False), (unlink, False)]
)
def test_retracted_images_never_come_back(store, repair, patient3, harm, is_by_key):
    """The retraction was killed before the chunks were rewritten, and one of them is damaged since."""
    name, keys, images = patient3
    path = chunk_with(store, keys)
    header = read_header(path)
    rows = np.flatnonzero(np.isin(header.columns["key"], keys)).tolist()
    publish_retraction(open_store(store), keys if is_by_key else (), [name], "")
    harm(path, *{*rows, 0}) if harm is flip_pixels else harm(path)
    status, printed, _err = repair()
    assert (status, printed["problems"], printed["repair"]["lost"]) == (0, [], [])
    assert_nothing_is_left(store, images)
    now = resolve(store)
    assert len(now) == 34
    assert not np.isin(now.key, keys).any()
    assert verify(open_store(store)).problems == []
    assert main(["compact", str(store), "--keep-days", "0"]) == 0
    assert len(pixels(store, resolve(store))) == 34


def test_a_chunk_whose_patient_is_retracted_while_it_is_made_again_does_not_stay(
    store, repair, patient3, monkeypatch
):
    name, keys, images = patient3
    path = chunk_with(store, keys)
    others = [row for row, key in enumerate(read_header(path).columns["key"].tolist()) if key not in keys]
    flip_pixels(path, others[0])
    real = repairing.replace_pixels

    def late(path, header, *rest):
        # The retraction repairs what it reads before it is through, and so removes the file.
        real(path, header, *rest)
        whole = path.read_bytes()
        with contextlib.redirect_stdout(io.StringIO()):
            assert main(["retract", str(store), "--patient", name, "--yes"]) == 0
        assert not path.exists()
        path.write_bytes(whole)

    monkeypatch.setattr(repairing, "replace_pixels", late)
    assert repair()[0] == 0
    assert not path.exists()
    assert_nothing_is_left(store, images)


def test_nothing_is_made_again_while_a_retraction_cannot_be_read(store, repair, patient3):
    name, _keys, images = patient3
    assert main(["retract", str(store), "--patient", name, "--yes"]) == 0
    (commit,) = (store / "commits").glob("retract-*.json")
    commit.write_text(commit.read_text()[:50])
    path = chunks(store)[0]
    path.unlink()
    status, printed, _err = repair()
    assert status == 2
    assert not path.exists()
    (remark,) = printed["repair"]["remarks"]
    assert f"{commit} may retract images or supersede chunks: no chunk is made again" in remark
    assert_nothing_is_left(store, images)


def test_nothing_is_made_again_while_it_cannot_be_read_who_is_one_patient(store, repair, patient3):
    name = patient3[0]
    publish_same(
        open_store(store), [SamePatient(first=name, second="PA", revision=1, is_same=True)], "joined"
    )
    (commit,) = (store / "commits").glob("same-*.json")
    commit.write_text(commit.read_text()[:50])
    chunks(store)[0].unlink()
    status, printed, _err = repair()
    assert status == 2
    assert len(chunks(store)) == 4
    (remark,) = printed["repair"]["remarks"]
    assert f"{commit} may retract images" in remark


def test_images_of_who_is_one_with_a_retracted_patient_are_not_made_again(store, repair, patient3):
    """Joined at the moment when the other was retracted, whose names did not tell of it yet."""
    name, _keys, images = patient3
    publish_retraction(open_store(store), [], ["PA"], "withdrawn")
    publish_same(
        open_store(store), [SamePatient(first=name, second="PA", revision=1, is_same=True)], "joined"
    )
    for path in chunks(store):
        path.unlink()
    repair()
    assert_nothing_is_left(store, images)


def forget_commits(folder):
    for name in ("commits.npy", "snapshot.json"):
        (folder / name).write_bytes(b"")


def lose_files(folder):
    for file in folder.iterdir():
        file.unlink()


def make_litter(folder):
    """What another machine was writing when it was killed, two days ago."""
    path = folder / f"{TEMP_PREFIX}elsewhere-key.npy"
    path.touch()
    os.utime(path, (time.time() - 2 * LITTER_AGE_S,) * 2)
    return path


@pytest.mark.parametrize("harm", [cut_short, forget_commits, lose_files])
def test_a_damaged_snapshot_is_folded_again_also_when_it_is_not_the_newest(
    store, raw, repair, make_pictures, preprocess, harm
):
    old = resolve(store).digest
    folder = store / "snapshots" / old
    good = {file.name: file.read_bytes() for file in folder.iterdir()}
    make_pictures(raw, 3, first=40)
    preprocess(raw, store)
    resolve(store)
    harm(folder)
    left = make_litter(folder)
    if (folder / "snapshot.json").exists():
        os.utime(folder / "snapshot.json", (1e9, 1e9))
    flip_pixels(chunks(store)[0], 1)
    status, printed, _err = repair()
    assert (status, printed["problems"]) == (0, [])
    assert printed["repair"]["snapshots"] == [old]
    assert not left.exists()
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == good
    # By it the growth of the store is counted.
    assert harm is lose_files or (folder / "snapshot.json").stat().st_mtime == 1e9


def test_a_snapshot_that_cannot_be_folded_again_is_said(store, raw, repair):
    old = resolve(store).digest
    assert main(["compact", str(store), "--keep-days", "0"]) == 0
    cut_short(store / "snapshots" / old)
    aside = raw.rename(raw.with_name("aside"))
    raw.mkdir()
    status, _said, err = repair()
    assert status == 2
    assert f"{old} cannot be folded again, since chunks of its time are gone" in err
    raw.rmdir()
    aside.rename(raw)
    assert repair()[0] == 0
    assert len(pixels(store, resolve(store, old))) == 40


def test_who_has_the_damaged_file_open_reads_on_in_it(store, repair):
    snapshot = resolve(store)
    expected = pixels(store, snapshot)
    path = chunks(store)[0]
    rows = np.flatnonzero(snapshot.chunk == snapshot.chunks["name"].tolist().index(path.stem.encode()))
    flip_pixels(path, int(snapshot.row[rows[0]]))
    with Reader(store, snapshot) as reader:
        assert reader.read(rows[1:2])[0].tobytes() == expected[rows[1]]
        assert repair()[0] == 0
        assert reader.read(rows[1:2])[0].tobytes() == expected[rows[1]]
    assert pixels(store, snapshot) == expected
    assert len(list(store.rglob(".*"))) == 0


def test_two_repairs_at_once_do_no_harm(store, raw, monkeypatch):
    before = resolve(store)
    expected = pixels(store, before)
    files = {path: path.read_bytes() for path in chunks(store)}
    first, second, third, *_others = files
    flip_pixels(first, 0, 1)
    second.unlink()
    truncate(third)
    fork = multiprocessing.get_context("fork")
    argv = ["verify", str(store), "--repair", "--source", str(raw)]
    both = [fork.Process(target=lambda: os._exit(main(argv))) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    assert {path: path.read_bytes() for path in chunks(store)} == files
    assert pixels(store, resolve(store, before.digest)) == expected
