"""Promises 1, 2 and 13 with sources that vanish, or are written, while they are read, and with very many."""

import contextlib
import errno
import hashlib
import io
import json
import os
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from mri_hpc import preprocess as preprocessing
from mri_hpc.intake.decoding.decoders import decode
from mri_hpc.intake.decoding.recipe import load_recipe
from mri_hpc.intake.files.content import in_memory
from mri_hpc.intake.labels import labelled_files
from mri_hpc.storage.adding import windowed
from mri_hpc.storage.disk.layout import open_store
from mri_hpc.storage.reading.reader import Reader
from mri_hpc.storage.snapshot.catalogue import resolve
from mri_hpc.storage.upkeep.verify import verify
from tests.harness.disks import Disk, can_mount
from tests.harness.scenes import Place, take

SMALL = ("--size", "16", "--chunk-images", "4")


@pytest.mark.skipif(not can_mount(), reason="only root may mount a disk of its own")
def test_a_source_that_is_unmounted_amid_the_work_is_one_line_and_what_was_read_stays(
    tmp_path, make_pictures, preprocess
):
    raw, place = tmp_path / "raw", Place(tmp_path, tmp_path)

    def unmount_amid_work():
        Disk(raw)
        make_pictures(raw, 30)
        read, reads = windowed.read_content, []

        def read_and_unmount(root, files):
            reads.append(files)
            if len(reads) == 10:
                subprocess.run(["umount", "--lazy", raw], check=True)
            return read(root, files)

        windowed.read_content = read_and_unmount
        err = io.StringIO()
        with contextlib.redirect_stderr(err), contextlib.redirect_stdout(io.StringIO()):
            status = preprocessing.main(["--source", str(raw), "--store", str(place.store), *SMALL])
        assert (status, len(reads)) == (2, 30)
        *notes, complaint = err.getvalue().splitlines()
        assert notes[0] == "21 listed files disappeared meanwhile"
        assert f"{raw} lost all its files while they were read, 21 of them unread: is it still" in complaint

    take(place, [unmount_amid_work])
    assert list(raw.iterdir()) == []
    assert len(resolve(place.store)) == 9
    assert verify(open_store(place.store)).problems == []
    make_pictures(raw, 30)
    assert preprocess(raw, place.store)[1].startswith("stored 21, already there 9, rejected 0")
    assert preprocess(raw, tmp_path / "clean", *SMALL)[0] == 0
    assert resolve(place.store).content_digest == resolve(tmp_path / "clean").content_digest


def test_one_file_that_vanishes_amid_the_work_is_told_and_the_others_are_stored(
    tmp_path, make_pictures, preprocess, monkeypatch
):
    paths = make_pictures(tmp_path / "raw", 12)
    read = windowed.read_content

    def read_and_remove(root, files):
        paths[5].unlink(missing_ok=True)
        return read(root, files)

    monkeypatch.setattr(windowed, "read_content", read_and_remove)
    status, out, err = preprocess(tmp_path / "raw", tmp_path / "store", *SMALL)
    assert status == 0
    assert err.startswith("1 listed file disappeared meanwhile\n")
    assert out.startswith("stored 11, already there 0, rejected 0")


def test_a_source_that_cannot_be_listed_afterwards_adds_no_second_document_to_the_counts(
    tmp_path, make_pictures, preprocess, monkeypatch
):
    paths = make_pictures(tmp_path / "raw", 4)
    read = windowed.read_content

    def read_and_remove(root, files):
        paths[3].unlink(missing_ok=True)
        return read(root, files)

    def fail(_root):
        raise OSError(errno.ESTALE, os.strerror(errno.ESTALE))

    monkeypatch.setattr(windowed, "read_content", read_and_remove)
    monkeypatch.setattr(preprocessing, "list_sources", fail)
    status, out, err = preprocess(tmp_path / "raw", tmp_path / "store", *SMALL, "--json")
    assert (status, json.loads(out)["stored"]) == (2, 3)
    assert "lost all its files while they were read, 1 of them unread: is it still mounted?" in err


@pytest.fixture
def vanishes_once_listed(monkeypatch):
    """Has a file go between the listing and the look at it."""

    def arrange(path):
        listing = labelled_files.listing

        def list_and_remove(*words):
            paths = listing(*words)
            path.unlink()
            return paths

        monkeypatch.setattr(labelled_files, "listing", list_and_remove)

    return arrange


def test_a_rejected_file_that_vanishes_once_it_is_listed_is_gone_and_not_rejected_again(
    tmp_path, make_pictures, preprocess, vanishes_once_listed
):
    make_pictures(tmp_path / "raw", 4)
    pipe = tmp_path / "raw" / "glioma" / "pipe.jpg"
    os.mkfifo(pipe)
    where = tmp_path / "raw", tmp_path / "store", *SMALL
    assert preprocess(*where)[1].startswith("stored 4, already there 0, rejected 1")
    vanishes_once_listed(pipe)
    status, out, err = preprocess(*where)
    assert status == 0
    assert err.startswith("1 listed file disappeared meanwhile\n")
    assert out.startswith("stored 0, already there 4, rejected 0")


def test_a_stored_file_that_vanishes_once_it_is_listed_is_not_told_of_as_labelled_otherwise(
    tmp_path, make_pictures, preprocess, vanishes_once_listed
):
    first, *others = make_pictures(tmp_path / "raw", 4)
    where = tmp_path / "raw", tmp_path / "store", *SMALL
    preprocess(*where)
    labels = tmp_path / "labels.csv"
    rows = [f"{path.relative_to(tmp_path / 'raw')},{path.parts[-3]}" for path in others]
    labels.write_text("\n".join(["path,label", f"{first.relative_to(tmp_path / 'raw')},other", *rows]))
    vanishes_once_listed(first)
    _status, _out, err = preprocess(*where, "--labels", labels)
    assert err.startswith("1 listed file disappeared meanwhile\nin the store: ")


def test_a_file_of_a_year_that_no_column_holds_is_stored_as_any_other(tmp_path, make_pictures, preprocess):
    first, *_others = make_pictures(tmp_path / "raw", 4)
    # In 2286; a file system that ends sooner takes its last one.
    os.utime(first, ns=(0, 10**19))
    where = tmp_path / "raw", tmp_path / "store", *SMALL
    assert preprocess(*where)[1].startswith("stored 4, already there 0, rejected 0")
    assert preprocess(*where)[1].startswith("stored 0, already there 4, rejected 0")


def test_what_is_stored_is_hashed_from_the_very_bytes_that_were_decoded(
    tmp_path, make_pictures, preprocess, monkeypatch
):
    """A file that changes after it was read, and before it is decoded."""
    (path,) = make_pictures(tmp_path / "raw", 1)
    before = path.read_bytes()

    read = windowed.read_content

    def read_before_a_change(root, files):
        content = read(root, files)
        Image.new("L", (32, 32), 200).save(path)
        return content

    monkeypatch.setattr(windowed, "read_content", read_before_a_change)
    store = tmp_path / "store"
    assert preprocess(tmp_path / "raw", store, *SMALL)[0] == 0
    snapshot = resolve(store)
    assert snapshot.source_hash.tolist() == [int.from_bytes(hashlib.sha256(before).digest()[:8], "big")]
    path.with_suffix(".before").write_bytes(before)
    with Reader(store, snapshot) as reader:
        [pixels] = reader.read(np.arange(1))
    recipe = load_recipe(open_store(store).recipe)
    assert np.array_equal(pixels, next(decode(in_memory(before), recipe)).pixels)
    path.with_suffix(".before").unlink()
    assert "rejected 1: changed" in preprocess(tmp_path / "raw", store)[2]


FILES = 10_000


def test_ten_thousand_files_in_one_folder_are_listed_in_one_pass_and_all_stored(tmp_path, preprocess):
    folder = tmp_path / "raw" / "glioma"
    folder.mkdir(parents=True)
    Image.new("L", (16, 16)).save(folder / "0.bmp")
    for number in range(1, FILES):
        os.link(folder / "0.bmp", folder / f"{number}.bmp")
    listed = []
    is_watching = True

    def note(event, arguments):
        # No hook can be taken away again.
        if is_watching and event in ("os.scandir", "os.listdir"):
            listed.append(str(arguments[0]))

    sys.addaudithook(note)
    status, out, _err = preprocess(tmp_path / "raw", tmp_path / "store", "--size", 16)
    is_watching = False
    below = [path for path in listed if path.startswith(str(tmp_path / "raw"))]
    assert (status, below) == (0, [str(tmp_path / "raw"), str(folder)])
    assert out.startswith(f"stored {FILES}, already there 0, rejected 0")
    assert len(resolve(tmp_path / "store")) == FILES
