"""What is damaged is made again, and nothing else: `store verify --repair`."""

import contextlib
import errno
import io
import json
import multiprocessing
import os
import shutil
import time

import numpy as np
import pytest

from mri_hpc.base.atomic import TEMP_PREFIX
from mri_hpc.intake.pseudonyms import Pseudonyms, site_key
from mri_hpc.storage.disk import chunk_file as chunk_files
from mri_hpc.storage.disk.chunk_file import read_header
from mri_hpc.storage.disk.commits import publish_retraction
from mri_hpc.storage.disk.layout import GONE_PREFIX, LITTER_AGE_S, open_store
from mri_hpc.storage.reading.reader import Reader
from mri_hpc.storage.snapshot.catalogue import current, resolve
from mri_hpc.storage.upkeep import repair as repairing
from mri_hpc.storage.upkeep.verify import verify
from mri_hpc.store import main
from tests.cli.store.harms import (
    HARMS,
    IMAGE_BYTES,
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
def repair(store, raw, capsys):
    """Repairs the store; returns the exit status, what --json prints, and stderr."""

    def run(*options):
        capsys.readouterr()
        status = main(["verify", str(store), "--repair", "--source", str(raw), "--json", *map(str, options)])
        printed = capsys.readouterr()
        return status, json.loads(printed.out), printed.err

    return run


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


def test_repair_and_its_source_go_together(store, raw, capsys):
    for options in (["--repair"], ["--source", str(raw)], ["--labels", "a.csv"]):
        assert main(["verify", str(store), *options]) == 2
        assert "--repair" in capsys.readouterr().err
    assert main(["verify", str(store), "--repair", "--source", str(raw / "none")]) == 0
    chunks(store)[0].unlink()
    assert main(["verify", str(store), "--repair", "--source", str(raw / "none")]) == 2
    assert "does not exist: --source" in capsys.readouterr().err
