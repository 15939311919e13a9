"""What is damaged is made again, and nothing else: `store verify --repair`."""

import errno
import os
import shutil

import numpy as np
import pytest

from mri_hpc.intake.labels.pseudonyms import site_key
from mri_hpc.storage.disk import chunk_file as chunk_files
from mri_hpc.storage.disk.chunk_file import read_header
from mri_hpc.storage.disk.commits import publish_retraction
from mri_hpc.storage.disk.layout import GONE_PREFIX, open_store
from mri_hpc.storage.snapshot.catalogue import current, resolve
from mri_hpc.storage.upkeep.verify import verify
from mri_hpc.store import main
from tests.cli.store.harms import (
    HARMS,
    IMAGE_BYTES,
    chunks,
    flip_header,
    flip_pixels,
    pixels,
    unlink,
)  # fmt: skip

SMALL = ("--size", 16, "--chunk-images", 8)


@pytest.fixture
def store(copy_of_store):
    """40 images of 7 patients in 5 chunks; images 3, 10, 17, 24, 31 and 38 are of patient3."""
    return copy_of_store(40, *SMALL)


def sources_of_chunk(store, path):
    """Paths of the sources of a chunk's images, in order."""
    keys = [f"{key:016x}" for key in read_header(path).columns["key"].tolist()]
    lines = "".join(file.read_text() for file in (store / "private" / "names").iterdir()).splitlines()
    paths = dict(line.split(",")[:2] for line in lines)
    return [paths[key] for key in keys]


def test_flipped_pixels_are_made_again_from_their_sources(store, repair):
    path = chunks(store)[1]
    good = path.read_bytes()
    flip_pixels(path, 2, 5)
    status, printed, _err = repair()
    assert status == 0
    assert path.read_bytes() == good
    assert printed["problems"] == []
    assert printed["images"] == 40
    repaired = printed["repair"]
    assert repaired["chunks"] == [path.stem]
    assert (repaired["from_sources"], repaired["from_chunks"], repaired["lost"]) == (2, 0, [])


@pytest.mark.parametrize("is_there", [False, True])
def test_where_no_private_table_names_a_source_it_is_found_by_the_sites_key(
    store, repair, tmp_path, monkeypatch, is_there
):
    path, other = chunks(store)[1], tmp_path / "other.key"
    good = path.read_bytes()
    flip_pixels(path, 2)
    for table in (store / "private" / "names").iterdir():
        table.unlink()
    with monkeypatch.context() as patch:
        patch.setenv("MRI_KEY_FILE", str(other))
        if is_there:
            site_key(other)
        status, printed, err = repair()
    found = "is another site's key than the one" if is_there else "the site's key, is not there"
    assert (status, printed["repair"]["chunks"]) == (2, [])
    assert found in err
    assert err.endswith(": set MRI_KEY_FILE\n")
    assert other.exists() == is_there
    assert repair()[0] == 0
    assert path.read_bytes() == good


def test_a_store_without_its_private_folder_is_repaired_too(store, repair):
    path = chunks(store)[1]
    good = path.read_bytes()
    flip_pixels(path, 2)
    shutil.rmtree(store / "private")
    assert repair()[0] == 0
    assert path.read_bytes() == good


@pytest.mark.parametrize("has_source", [True, False])
def test_images_in_unreadable_sectors_are_made_again_and_the_others_kept(
    store, raw, repair, monkeypatch, has_source
):
    path = chunks(store)[1]
    good, sources = path.read_bytes(), sources_of_chunk(store, path)
    header, file, read = read_header(path), path.stat().st_ino, os.pread
    bad = header.offset + 3 * IMAGE_BYTES

    def read_sectors(descriptor, size, offset):
        if os.fstat(descriptor).st_ino == file and offset <= bad < offset + size:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return read(descriptor, size, offset)

    monkeypatch.setattr(os, "pread", read_sectors)
    findings = verify(open_store(store))
    assert findings.damaged == header.columns["key"][3:4].tolist()
    flip = bytearray(good)
    flip[header.offset + 5 * IMAGE_BYTES] ^= 1
    path.write_bytes(flip)
    if not has_source:
        (raw / sources[3]).unlink()
    status, printed, _err = repair()
    assert printed["repair"]["from_sources"] == 1 + has_source
    if has_source:
        assert (status, path.read_bytes()) == (0, good)
    else:
        zeros = bytes(IMAGE_BYTES)
        assert (status, printed["repair"]["chunks"]) == (2, [])
        assert path.read_bytes() == good[:bad] + zeros + good[bad + IMAGE_BYTES :]


@pytest.mark.parametrize("harm", HARMS)
def test_a_chunk_is_as_it_was_with_the_columns_that_a_snapshot_knows(store, raw, repair, harm):
    resolve(store)
    path = chunks(store)[0]
    good = path.read_bytes()
    harm(path)
    if harm is not unlink:
        # What is left of the file is enough.
        shutil.rmtree(raw)
        raw.mkdir()
    status, printed, _err = repair()
    assert status == 0
    assert path.read_bytes() == good
    assert printed["repair"]["from_sources"] == (8 if harm is unlink else 0)


@pytest.mark.parametrize("harm", HARMS)
def test_without_a_snapshot_the_sources_tell_the_columns(store, repair, harm):
    path = chunks(store)[0]
    good = path.read_bytes()
    harm(path)
    assert repair()[0] == 0
    assert path.read_bytes() == good


def test_labels_of_a_table_are_asked_for_where_no_snapshot_knows_them(
    tmp_path, store, raw, repair, preprocess
):
    table = tmp_path / "labels.csv"
    paths = sorted(path.relative_to(raw) for path in raw.rglob("*.jpg"))
    table.write_text("path,label,patient\n" + "".join(f"{path},class,{path.stem}\n" for path in paths))
    shutil.rmtree(store)
    assert preprocess(raw, store, *SMALL, "--labels", table)[0] == 0
    path = chunks(store)[0]
    good = path.read_bytes()
    path.unlink()
    status, _said, err = repair()
    assert status == 2
    assert f"{path} cannot be made again: neither a snapshot nor the sources tell what it held" in err
    assert "give the labels that it was made with (--labels)" in err
    assert repair("--labels", table)[0] == 0
    assert path.read_bytes() == good


def test_relabels_are_no_part_of_a_chunk_that_is_made_again(tmp_path, store, raw, repair):
    table = tmp_path / "new.csv"
    paths = sorted(path.relative_to(raw) for path in raw.rglob("*.jpg"))[:20]
    table.write_text("path,label,patient,fold\n" + "".join(f"{path},other,new,3\n" for path in paths))
    assert main(["relabel", str(store), "--labels", str(table), "--source", str(raw)]) == 0
    after = resolve(store)
    path = chunks(store)[3]
    good = path.read_bytes()
    path.unlink()
    (store / "private" / "names").chmod(0o700)
    for file in (store / "private" / "names").iterdir():
        # Now only the snapshot tells the columns, and the listing the sources.
        file.unlink()
    status, printed, _err = repair()
    assert status == 0
    assert printed["repair"]["from_sources"] == 8
    assert path.read_bytes() == good
    assert resolve(store).content_digest == after.content_digest


@pytest.mark.parametrize("damage", [flip_pixels, unlink])
def test_images_whose_sources_are_gone_changed_or_not_read_are_named_and_the_others_made(
    store, raw, repair, capsys, damage
):
    resolve(store)
    path = chunks(store)[0]
    good, sources = path.read_bytes(), sources_of_chunk(store, path)
    damage(path, *range(8)) if damage is flip_pixels else damage(path)
    kept = {name: (raw / name).read_bytes() for name in sources[:3]}
    (raw / sources[0]).unlink()
    (raw / sources[1]).write_bytes(kept[sources[1]] + b"\0")
    (raw / sources[2]).unlink()
    (raw / sources[2]).mkdir()
    status, printed, err = repair()
    assert status == 2
    assert {one["source"]: one["why"] for one in printed["repair"]["lost"]} == {
        sources[0]: "its source is gone",
        sources[1]: "its source has other bytes than those that were stored",
        sources[2]: "not a regular file",
    }
    assert f"3 images cannot be made again, the first: {sources[0]}" in err
    assert "bring it back below --source" in err
    assert printed["repair"]["chunks"] == []
    if damage is flip_pixels:
        assert "pixels of 3 of 8 images differ" in printed["problems"][0]
    else:
        assert not path.exists()
    (raw / sources[2]).rmdir()
    for name, data in kept.items():
        (raw / name).write_bytes(data)
    assert repair()[0] == 0
    assert path.read_bytes() == good
    assert main(["verify", str(store)]) == 0


def test_images_that_a_superseded_chunk_still_holds_need_no_source(store, raw, repair):
    assert main(["compact", str(store)]) == 0
    (path,) = (store / "chunks" / f"{name.decode()}.h5" for name in resolve(store).chunks["name"])
    good = path.read_bytes()
    shutil.rmtree(raw)
    raw.mkdir()
    flip_pixels(path, 3)
    status, printed, _err = repair()
    assert (status, printed["repair"]["from_chunks"]) == (0, 1)
    assert path.read_bytes() == good
    path.unlink()
    status, printed, _err = repair()
    assert (status, printed["repair"]["from_chunks"]) == (0, 40)
    assert path.read_bytes() == good


def test_a_compaction_that_is_left_without_its_chunk_is_made_again_from_what_it_superseded(store, repair):
    """As after two kills: of who removed the file, and of who committed it and would have looked again."""
    before = current(open_store(store))
    assert main(["compact", str(store)]) == 0
    made = resolve(store).chunks["name"][0].decode()
    shutil.rmtree(store / "snapshots")
    (store / "snapshots").mkdir()
    (store / "chunks" / f"{made}.h5").unlink()
    assert main(["info", str(store)]) == 2
    assert repair()[0] == 0
    assert current(open_store(store)).content_digest == before.content_digest


def test_a_chunk_that_a_killed_removal_set_aside_is_put_back(store, repair):
    path = chunks(store)[0]
    path.rename(path.with_name(f"{GONE_PREFIX}{path.name}"))
    status, printed, _err = repair()
    assert (status, printed["repair"]["from_sources"]) == (0, 0)
    assert path.exists()


def test_a_chunk_under_another_name_gives_back_what_it_holds_and_stays_a_stranger(store, raw, repair):
    path = chunks(store)[0]
    good = path.read_bytes()
    stranger = path.with_name("copy.h5")
    path.rename(stranger)
    shutil.rmtree(raw)
    raw.mkdir()
    status, printed, err = repair()
    assert status == 2
    assert path.read_bytes() == stranger.read_bytes() == good
    assert printed["problems"] == [f"{stranger} is no part of the store: move it away"]
    assert "is no part of the store: move it away" in err
    stranger.unlink()
    assert repair()[0] == 0


@pytest.mark.parametrize("is_known", [True, False])
@pytest.mark.parametrize("harm", [flip_header, unlink])
def test_a_chunk_is_laid_out_as_it_was_also_where_chunks_are_laid_out_otherwise_today(
    store, repair, monkeypatch, harm, is_known
):
    """Readers know where the pixels of each file begin from their snapshot."""
    if is_known:
        resolve(store)
    path = chunks(store)[0]
    good = path.read_bytes()
    harm(path)
    monkeypatch.setattr(chunk_files, "METADATA_BYTES", 2**17)
    assert repair()[0] == 0
    assert path.read_bytes() == good


def test_a_chunk_that_was_made_with_more_room_for_strings_keeps_its_size(
    store, raw, repair, make_pictures, preprocess
):
    """As compaction leaves it where the longest name goes."""
    make_pictures(raw, 1, first=40, classes=("a_class_of_a_very_long_name",))
    preprocess(raw, store)
    (row,) = np.flatnonzero(resolve(store).label == 0)
    publish_retraction(open_store(store), [int(resolve(store).key[row])], (), "")
    assert main(["compact", str(store)]) == 0
    now = resolve(store)
    path = store / "chunks" / f"{now.chunks['name'][0].decode()}.h5"
    expected, size = pixels(store, now), path.stat().st_size
    assert read_header(path).columns["label"].dtype.itemsize > 20
    path.unlink()
    assert repair()[0] == 0
    assert path.stat().st_size == size
    assert pixels(store, now) == expected


def test_repair_and_its_source_go_together(store, raw, capsys):
    for options in (["--repair"], ["--source", str(raw)], ["--labels", "a.csv"]):
        assert main(["verify", str(store), *options]) == 2
        assert "--repair" in capsys.readouterr().err
    assert main(["verify", str(store), "--repair", "--source", str(raw / "none")]) == 0
    chunks(store)[0].unlink()
    assert main(["verify", str(store), "--repair", "--source", str(raw / "none")]) == 2
    assert "does not exist: --source" in capsys.readouterr().err
