"""Promises 1, 3, 4, 12 and 13, as far as the store keeps them."""

import hashlib
import os
import re

import numpy as np
import pytest
from PIL import Image

from mri_hpc.base import atomic
from mri_hpc.intake.files.sources import list_sources, source_key
from mri_hpc.storage.adding import windowed
from mri_hpc.storage.disk.layout import open_store
from mri_hpc.storage.snapshot import catalogue as snapshots
from mri_hpc.storage.snapshot.catalogue import resolve
from mri_hpc.storage.store import Store
from mri_hpc.storage.upkeep.verify import verify
from mri_hpc.store_actions.info import summary

SMALL = ("--size", 16, "--chunk-images", 8)


class Killed(BaseException):
    """Stands for the end of the process."""


def contents(folder):
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture
def raw(tmp_path, make_pictures):
    make_pictures(tmp_path / "raw", 30)
    return tmp_path / "raw"


@pytest.mark.parametrize("moment", range(1, 22))
def test_a_death_before_any_publication_leaves_a_sound_store(tmp_path, raw, preprocess, monkeypatch, moment):
    """Promise 1: dies in place of the n-th link that would publish a file, then the work is done again."""
    real, calls = os.link, []

    def link(*names):
        calls.append(names)
        if len(calls) == moment:
            raise Killed
        return real(*names)

    monkeypatch.setattr(atomic.os, "link", link)
    died = False
    try:
        preprocess(raw, tmp_path / "store", *SMALL)
    except Killed:
        died = True
    monkeypatch.setattr(atomic.os, "link", real)
    store = tmp_path / "store"
    if (store / "recipe.json").exists():
        assert verify(open_store(store)).problems == []
    assert preprocess(raw, store, *SMALL)[0] == 0
    assert preprocess(raw, tmp_path / "clean", *SMALL)[0] == 0
    assert resolve(store).content_digest == resolve(tmp_path / "clean").content_digest
    # A key, a recipe and where the source lies; then seen, names, chunk and commit of each of four units;
    # and which images need not be compared with test images any more.
    assert died == (moment <= 3 + 4 * 4 + 1)


def test_a_chunk_is_visible_only_when_its_commit_names_it(tmp_path, raw, preprocess):
    """Promise 1."""
    store = tmp_path / "store"
    preprocess(raw, store, *SMALL)
    commit = sorted((store / "commits").iterdir())[0]
    commit.unlink()
    assert len(resolve(store)) < 30
    preprocess(raw, store)
    assert len(resolve(store)) == 30


def test_appending_decodes_what_is_new_and_opens_no_folded_chunk(
    tmp_path, raw, preprocess, make_pictures, monkeypatch
):
    """Promise 3."""
    store = tmp_path / "store"
    preprocess(raw, store, *SMALL)
    resolve(store)
    folded = {path.name for path in (store / "chunks").iterdir()}
    decoded, opened = [], []
    decode, read_header = windowed.decode_natively, snapshots.read_sealed_header
    monkeypatch.setattr(windowed, "decode_natively", lambda *a: decoded.append(a) or decode(*a))
    monkeypatch.setattr(
        snapshots, "read_sealed_header", lambda path: opened.append(path) or read_header(path)
    )
    make_pictures(raw, 5, first=30)
    preprocess(raw, store)
    assert len(decoded) == 5
    assert len(resolve(store)) == 35
    assert opened
    assert folded.isdisjoint(path.name for path in opened)


def test_published_files_never_change(tmp_path, raw, preprocess, make_pictures):
    """Promise 4."""
    store = tmp_path / "store"
    preprocess(raw, store, *SMALL)
    resolve(store)
    before = contents(store)
    make_pictures(raw, 12, first=30)
    Image.new("L", (32, 32), 5).save(sorted(raw.glob("*/*/*.jpg"))[0])
    for options in ((), ("--replace",), ("--task", 1, "--tasks", 3)):
        assert preprocess(raw, store, *options)[0] == 0
    resolve(store)
    after = contents(store)
    assert before.items() <= after.items()
    assert len(after) > len(before)


def test_what_identifies_a_person_is_in_the_private_folder_alone(tmp_path, preprocess):
    """Promise 12."""
    raw, store = tmp_path / "raw", tmp_path / "store"
    (raw / "glioma" / "DOE^JANE-19701231").mkdir(parents=True)
    Image.new("L", (32, 32), 80).save(raw / "glioma" / "DOE^JANE-19701231" / "doe_jane_001.png")
    (raw / "glioma" / "DOE^JANE-19701231" / "doe_jane_002.jpg").write_bytes(b"\xff\xd8\xffdamaged")
    status, out, err = preprocess(raw, store, *SMALL)
    assert status == 0
    snapshot = resolve(store)
    assert re.fullmatch(rb"P[A-Z2-7]{16}", snapshot.patient_names[0])
    secret = re.compile(rb"doe|jane|19701231|\.png", re.IGNORECASE)
    for path in store.rglob("*"):
        is_private = (store / "private") in path.parents
        if path.is_file() and not is_private:
            assert not secret.search(path.read_bytes()), path
        assert is_private or not secret.search(os.fsencode(path.relative_to(store)))
    assert not secret.search((out + err).encode())
    (names,) = (store / "private" / "names").iterdir()
    assert "DOE^JANE-19701231" in names.read_text()


def test_no_key_of_a_source_can_be_made_by_guessing_its_path(tmp_path, raw, preprocess):
    """Promise 12: who guesses paths, in which patients are named, tells no patient by the shared files."""
    (raw / "glioma" / "damaged.jpg").write_bytes(b"\xff\xd8\xffdamaged")
    preprocess(raw, tmp_path / "store", *SMALL)
    preprocess(raw, tmp_path / "released", *SMALL, "--ids", "as-given")
    guesses = np.array([source_key("raw", path) for path in list_sources(raw)], "<u8")
    snapshot, released = resolve(tmp_path / "store"), resolve(tmp_path / "released")
    assert set(released.key.tolist()) | set(released.rejected["key"].tolist()) == set(guesses.tolist())
    for part in ("chunks", "commits", "snapshots"):
        for path in (tmp_path / "store" / part).rglob("*.*"):
            data = path.read_bytes()
            assert not [key for key in guesses if key.tobytes() in data or b"%016x" % key in data], path
    assert len(snapshot) == len(released)


def test_the_private_folder_is_its_owners_alone(tmp_path, raw, preprocess):
    """Promise 12."""
    store = tmp_path / "store"
    before = os.umask(0o002)
    try:
        preprocess(raw, store, *SMALL)
        os.utime(sorted(raw.glob("*/*/*.jpg"))[0], ns=(1, 1))
        preprocess(raw, store)
    finally:
        os.umask(before)
    modes = {path: path.stat().st_mode & 0o777 for path in (store / "private").rglob("*")}
    assert (store / "private").stat().st_mode & 0o777 == 0o700
    assert {mode for path, mode in modes.items() if path.is_dir()} == {0o700}
    assert {mode for path, mode in modes.items() if path.is_file()} == {0o600}
    assert {path.stat().st_mode & 0o777 for path in (store / "chunks").iterdir()} == {0o664}


def test_patients_and_images_are_named_by_the_key_and_not_the_store(tmp_path, raw, preprocess, monkeypatch):
    """Promise 12."""
    patients, images = [], []
    for store, key in (("first", "site.key"), ("second", "site.key"), ("third", "other.key")):
        monkeypatch.setenv("MRI_KEY_FILE", str(tmp_path / key))
        preprocess(raw, tmp_path / store, *SMALL)
        snapshot = resolve(tmp_path / store)
        patients.append(set(snapshot.patient_names.tolist()))
        images.append(set(snapshot.key.tolist()))
    for names in (patients, images):
        assert names[0] == names[1]
        assert not names[0] & names[2]
    status, _out, err = preprocess(raw, tmp_path / "first")
    assert status == 2
    assert "made with another site key" in err


def test_every_source_is_stored_or_listed_as_rejected_with_its_reason(tmp_path, raw, preprocess):
    """Promise 13."""
    odd = raw / "glioma"
    (odd / "empty.jpg").touch()
    (odd / "page.png").write_bytes(b"<!doctype html><p>moved")
    (odd / "pointer.jpg").write_bytes(b"version https://git-lfs.github.com/spec/v1\n")
    (odd / "cut.jpg").write_bytes(sorted(raw.glob("glioma/*/*.jpg"))[0].read_bytes()[:300])
    (odd / "scan.dcm").write_bytes(bytes(128) + b"DICM")
    Image.new("L", (4, 4)).save(odd / "tiny.png")
    Image.new("1", (9000, 9000)).save(odd / "bomb.png")
    os.mkfifo(odd / "pipe.jpg")
    (odd / "loop.jpg").symlink_to("loop.jpg")
    (odd / "absent.jpg").symlink_to("nowhere")
    (raw / "readme.txt").write_text("hello")
    files = sum(len(names) for _folder, _folders, names in os.walk(raw))
    status, out, err = preprocess(raw, tmp_path / "store", *SMALL)
    assert status == 0
    assert out.startswith("stored 30, already there 0, rejected 11 ")
    values = summary(Store.open(tmp_path / "store"))
    assert values["images"] + values["rejected"] == files == 41
    assert len(values["reasons"]) == 11
    for reason, count in values["reasons"].items():
        assert f"rejected {count}: {reason}" in err
    again = preprocess(raw, tmp_path / "store")
    assert again[1].startswith("stored 0, already there 30, rejected 11 ")
    assert summary(Store.open(tmp_path / "store")) == values
