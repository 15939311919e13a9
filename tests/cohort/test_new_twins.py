"""New twins of test images, which preprocess tells of as they come."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mri_hpc.cohort import new_twins, twins
from mri_hpc.cohort.new_twins import new_twins_of_test
from mri_hpc.storage.store import Store
from mri_hpc.store import main
from tests.cohort.heads import cropped, head

SIZE = ("--size", 224, "--ids", "as-given")
COMPARES = "compares all"


@pytest.fixture
def raw(tmp_path):
    """Two patients of each split, a head each."""
    for number, split in enumerate(("train", "validation", "test") * 2):
        save(tmp_path / "raw" / split / "a" / f"p{number}" / "1.png", head(number))
    return tmp_path / "raw"


@pytest.fixture
def grown(raw, tmp_path, preprocess):
    """The store of them, and what preprocess says of it after each growth."""

    def run():
        status, out, err = preprocess(raw, tmp_path / "store", *SIZE, "--json")
        assert status == 0, err
        return json.loads(out)["account"]["doubts"]

    assert run() == []
    return run


def save(path, image):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.ascontiguousarray(image)).save(path)


def test_a_new_image_that_shows_a_test_slice_is_told_by_key_with_what_to_do(raw, tmp_path, grown):
    save(raw / "train" / "a" / "p8" / "new.png", cropped(head(2)[:, ::-1]))
    save(raw / "train" / "a" / "p8" / "other.png", head(8))
    # Of the same side, or of the same split as its twin: no leak.
    save(raw / "test" / "a" / "p2" / "again.png", head(2)[::-1])
    save(raw / "train" / "a" / "p0" / "again.png", head(0)[::-1])
    (doubt,) = grown()
    assert (doubt["kind"], doubt["count"]) == ("new-twins-of-test-images", 1)
    # Logs of jobs are seen by many, and a path may name a person.
    assert "png" not in doubt["text"]
    store = Store(tmp_path / "store")
    keys = doubt["text"].split("such as ")[1].split(" (")[0].split(" = ")
    path, twin = (store.sources_of([int(key, 16)])[int(key, 16)] for key in keys)
    assert path == "train/a/p8/new.png"
    assert twin in ("test/a/p2/1.png", "test/a/p2/again.png")
    assert f"mri-hpc store audit {tmp_path / 'store'} shows all by path" in doubt["text"]
    # Told once.
    assert grown() == []
    save(raw / "train" / "a" / "p9" / "1.png", head(9))
    assert grown() == []


def test_new_test_images_are_compared_with_images_that_come_beside_them(raw, grown):
    save(raw / "test" / "a" / "p8" / "1.png", head(8))
    save(raw / "validation" / "a" / "p9" / "1.png", 255 - head(8))
    (doubt,) = grown()
    assert doubt["count"] == 1
    assert "(inverted)" in doubt["text"]


def test_test_images_are_looked_at_once(raw, grown, monkeypatch):
    looked_at, look = [], twins.looks_of

    def noted(read, rows, **options):
        looked_at.append(len(rows))
        return look(read, rows, **options)

    monkeypatch.setattr(twins, "looks_of", noted)
    for number, expected in ((8, [2, 1]), (9, [1])):
        save(raw / "train" / "a" / f"p{number}" / "1.png", head(number))
        looked_at.clear()
        assert grown() == []
        assert looked_at == expected


def test_what_was_not_compared_is_said(raw, tmp_path, grown, monkeypatch):
    store = Store(tmp_path / "store")
    for number, harm in enumerate((Path.unlink, lambda path: path.write_bytes(b"harmed"))):
        for part in store.kept_parts("compared"):
            harm(part)
        save(raw / "train" / "a" / f"p{10 + number}" / "1.png", head(10 + number))
        (doubt,) = grown()
        assert doubt["kind"] == "not-compared"
        assert "1 new image was not compared with the test images (the first time)" in doubt["text"]
        assert COMPARES in doubt["text"]
    monkeypatch.setattr(new_twins, "MOST_LOOKED_AT", 1)
    save(raw / "train" / "a" / "p20" / "1.png", head(20))
    (doubt,) = grown()
    assert "new images were compared with 1 of 2 test images" in doubt["text"]
    # The other one is looked at the next time.
    save(raw / "train" / "a" / "p21" / "1.png", head(21))
    assert grown() == []
    for number in (22, 23):
        save(raw / "train" / "a" / f"p{number}" / "1.png", head(number))
    (doubt,) = grown()
    assert "2 new images were not compared with the test images (being over 1)" in doubt["text"]
    monkeypatch.setattr(new_twins, "MOST_IMAGES", 3)
    save(raw / "train" / "a" / "p24" / "1.png", head(24))
    (doubt,) = grown()
    assert "(in a store of over 3)" in doubt["text"]


def test_looks_that_are_harmed_are_made_again(raw, tmp_path, grown):
    store = Store(tmp_path / "store")
    save(raw / "train" / "a" / "p8" / "1.png", head(8))
    grown()
    (part,) = store.kept_parts("looks")
    whole = part.read_bytes()
    encrypted = bytearray(whole)
    encrypted[whole.index(b"PK\1\2") + 8] = 1
    harms = (b"", whole[: len(whole) // 2], b"no archive", bytes(encrypted))
    for number, (harmed, image) in enumerate(
        zip(harms, (head(2)[::-1], head(5)[::-1], 255 - head(2), 255 - head(5)), strict=True)
    ):
        part.write_bytes(harmed)
        save(raw / "train" / "a" / f"p{10 + number}" / "1.png", image)
        (doubt,) = grown()
        assert doubt["count"] == 1
        assert store.kept_parts("looks") == [part]
        assert part.read_bytes() == whole


def test_a_comparison_that_is_stopped_is_made_the_next_time(raw, tmp_path, grown, monkeypatch):
    monkeypatch.setattr("mri_hpc.account.new_twins_of_test", lambda *_words, **_options: [])
    save(raw / "train" / "a" / "p8" / "new.png", head(2)[::-1])
    assert grown() == []
    store = Store(tmp_path / "store")
    assert new_twins_of_test(store, store.current, 1, images=7, is_stopping=lambda: True) == []
    (doubt,) = new_twins_of_test(store, store.current, 0, images=7, is_stopping=lambda: False)
    assert doubt.count == 1


def test_pictures_of_twins_and_looks_go_with_whom_they_show(raw, tmp_path, grown, capsys):
    save(raw / "train" / "a" / "p8" / "new.png", head(2)[::-1])
    grown()
    store = Store(tmp_path / "store")
    assert main(["audit", str(store.path), "--report-only"]) == 0
    pictures = (store.twin_table, store.twin_page, *store.kept_parts("looks"))
    assert len(pictures) == 3
    assert all(path.is_file() for path in pictures)
    assert main(["retract", str(store.path), "--patient", "p2", "--yes"]) == 0
    assert not any(path.exists() for path in pictures)
    capsys.readouterr()
