"""A store that is there: what is new is added, and what differs is said."""

import os
import shutil

import pytest
from PIL import Image

from mri_hpc.base.errors import UserError
from mri_hpc.storage.adding import loop as adding
from mri_hpc.storage.adding import windowed
from mri_hpc.storage.disk.chunk_file import read_header
from mri_hpc.storage.disk.layout import StoreDir
from mri_hpc.storage.snapshot.catalogue import resolve
from tests.cli.preprocess.store_counts import SMALL, counts, info


def test_unchanged_files_are_not_read_again(raw, store, preprocess, monkeypatch):
    (raw / "glioma" / "broken.jpg").touch()
    preprocess(raw, store, *SMALL)
    read = []
    real = windowed.read_content
    monkeypatch.setattr(windowed, "read_content", lambda root, files: read.extend(files) or real(root, files))
    assert counts(preprocess(raw, store)[1]) == (0, 40, 1)
    assert read == []
    touched = next(iter(sorted(raw.glob("glioma/*/*.jpg"))))
    path = touched.relative_to(raw).as_posix()
    os.utime(touched, ns=(1, 1))
    assert counts(preprocess(raw, store)[1]) == (0, 40, 1)
    assert read == [path]
    assert counts(preprocess(raw, store)[1]) == (0, 40, 1)
    assert read == [path]


def test_other_bytes_are_found_though_the_time_is_that_of_a_file_read_before(raw, store, preprocess):
    victim = sorted(raw.glob("glioma/*/*.jpg"))[0]
    original, time_ns = victim.read_bytes(), victim.stat().st_mtime_ns
    preprocess(raw, store, *SMALL)
    Image.new("L", (32, 32), 9).save(victim)
    os.utime(victim, ns=(time_ns, time_ns))
    assert victim.stat().st_size != len(original)
    assert counts(preprocess(raw, store)[1]) == (0, 39, 1)
    assert counts(preprocess(raw, store, "--replace")[1]) == (1, 39, 0)
    # As from a backup.
    victim.write_bytes(original)
    os.utime(victim, ns=(time_ns, time_ns))
    assert counts(preprocess(raw, store)[1]) == (0, 39, 1)


def test_sources_that_are_looked_up_in_several_parts_are_each_stored_once(
    raw, store, preprocess, monkeypatch
):
    monkeypatch.setattr(adding, "LOOKED_UP", 7)
    assert counts(preprocess(raw, store, *SMALL)[1]) == (40, 0, 0)
    assert counts(preprocess(raw, store)[1]) == (0, 40, 0)
    assert info(store)["images"] == 40


def test_images_of_a_chunk_are_in_order_of_key_so_that_each_is_of_many_patients(raw, store, preprocess):
    preprocess(raw, store, *SMALL)
    for chunk in (store / "chunks").glob("*.h5"):
        keys = read_header(chunk).columns["key"]
        assert (keys[1:] > keys[:-1]).all()


def test_without_the_private_folder_nothing_is_stored_twice(raw, store, preprocess):
    preprocess(raw, store, *SMALL)
    shutil.rmtree(store / "private" / "seen")
    assert counts(preprocess(raw, store)[1]) == (0, 40, 0)
    assert info(store)["shadowed"] == 0


def test_a_changed_source_is_rejected_until_replaced(raw, store, preprocess, make_pictures):
    preprocess(raw, store, *SMALL)
    before = resolve(store)
    victim = sorted(raw.glob("glioma/*/*.jpg"))[0]
    Image.new("L", (32, 32), 9).save(victim)
    _status, out, err = preprocess(raw, store)
    assert counts(out) == (0, 39, 1)
    assert "changed: other bytes" in err
    assert resolve(store).content_digest == before.content_digest
    assert info(store)["rejected"] == 1
    assert counts(preprocess(raw, store)[1]) == (0, 39, 1)
    assert counts(preprocess(raw, store, "--replace")[1]) == (1, 39, 0)
    values = info(store)
    assert (values["images"], values["rejected"], values["shadowed"]) == (40, 0, 1)
    assert values["content_digest"] != before.content_digest
    assert counts(preprocess(raw, store)[1]) == (0, 40, 0)
    fresh = store.with_name("fresh")
    preprocess(raw, fresh, *SMALL)
    assert resolve(fresh).content_digest == resolve(store).content_digest


def test_replacing_back_and_forth_ends_with_the_last(raw, store, preprocess):
    victim = sorted(raw.glob("glioma/*/*.jpg"))[0]
    original = victim.read_bytes()
    preprocess(raw, store, *SMALL)
    first = resolve(store).content_digest
    Image.new("L", (32, 32), 9).save(victim)
    preprocess(raw, store, "--replace")
    victim.write_bytes(original)
    assert counts(preprocess(raw, store, "--replace")[1]) == (1, 39, 0)
    assert resolve(store).content_digest == first


def test_a_file_that_was_still_arriving_is_stored_once_it_is_whole(raw, store, preprocess):
    victim = sorted(raw.glob("glioma/*/*.jpg"))[0]
    whole = victim.read_bytes()
    victim.write_bytes(whole[: len(whole) // 2])
    assert counts(preprocess(raw, store, *SMALL)[1]) == (39, 0, 1)
    victim.write_bytes(whole)
    assert counts(preprocess(raw, store)[1]) == (1, 39, 0)
    assert info(store)["rejected"] == 0


def test_twins_are_stored_and_counted(raw, store, preprocess):
    victim = sorted(raw.glob("glioma/*/*.jpg"))[0]
    shutil.copy(victim, victim.with_name("twin.jpg"))
    assert counts(preprocess(raw, store, *SMALL)[1]) == (41, 0, 0)
    assert info(store)["twins"] == 1


def test_a_label_that_differs_from_the_store_is_reported_and_the_stored_one_stays(
    raw, store, preprocess, tmp_path
):
    names = sorted(path.relative_to(raw).as_posix() for path in raw.glob("*/*/*.jpg"))
    table = tmp_path / "labels.csv"
    table.write_text("path,label\n" + "".join(f"{name},A\n" for name in names))
    preprocess(raw, store, *SMALL, "--labels", table)
    table.write_text(
        "path,label\n" + "".join(f"{name},{'B' if i < 3 else 'A'}\n" for i, name in enumerate(names))
    )
    _status, out, err = preprocess(raw, store, "--labels", table)
    assert counts(out) == (0, 40, 0)
    assert "3 labels, patients, folds or splits differ from those stored, which stay" in err
    assert info(store)["classes"] == {"A": 40}


def test_files_missing_in_the_csv_are_rejected_until_they_are_in_it(raw, store, preprocess):
    names = sorted(path.relative_to(raw).as_posix() for path in raw.glob("*/*/*.jpg"))
    (raw / "labels.csv").write_text("path,label\ngone.jpg,x\n" + "".join(f"{name},x\n" for name in names[1:]))
    _status, out, err = preprocess(raw, store, *SMALL)
    assert counts(out) == (39, 0, 1)
    assert "rejected 1: no label in CSV" in err
    assert "1 row of the CSV names files that are not in the source" in err
    (raw / "labels.csv").write_text("path,label\n" + "".join(f"{name},x\n" for name in names))
    assert counts(preprocess(raw, store)[1]) == (1, 39, 0)


def test_another_recipe_is_refused_and_shown(raw, store, preprocess):
    preprocess(raw, store, *SMALL)
    status, _out, err = preprocess(raw, store, "--size", 32, "--fit", "stretch")
    assert status == 2
    assert "size 16 there, 32 here; fit letterbox there, stretch here" in err
    assert preprocess(raw, store, "--ids", "as-given")[0] == 2


def test_a_store_that_lost_its_recipe_is_not_given_another(raw, store, preprocess):
    preprocess(raw, store, *SMALL)
    (store / "recipe.json").unlink()
    status, _out, err = preprocess(raw, store)
    assert (status, err.count("\n")) == (2, 1)
    assert "recipe.json is missing, but not the images: restore it" in err
    assert not (store / "recipe.json").exists()


def test_without_the_private_folder_another_site_key_is_refused(raw, store, preprocess, monkeypatch):
    preprocess(raw, store, *SMALL)
    shutil.rmtree(store / "private")
    monkeypatch.setenv("MRI_KEY_FILE", str(store.with_name("other.key")))
    status, _out, err = preprocess(raw, store)
    assert status == 2
    assert "made with another site key" in err
    assert not store.with_name("other.key").exists()


def test_damaged_notes_of_what_was_seen_only_cost_reading_again(raw, store, preprocess):
    preprocess(raw, store, *SMALL)
    (seen,) = (store / "private" / "seen").iterdir()
    whole = seen.read_bytes()
    for data in (b"", b"x", whole[:-9], bytes(len(whole))):
        seen.write_bytes(data)
        assert counts(preprocess(raw, store)[1]) == (0, 40, 0)


def test_patients_folds_and_splits_that_differ_from_the_store_are_reported(raw, store, preprocess, tmp_path):
    names = sorted(path.relative_to(raw).as_posix() for path in raw.glob("*/*/*.jpg"))
    table = tmp_path / "labels.csv"

    def differing(columns, cells):
        table.write_text(f"path,label{columns}\n" + "".join(f"{name},A{cells}\n" for name in names))
        status, out, err = preprocess(raw, store, *SMALL, "--labels", table)
        assert (status, sum(counts(out)[1:])) == (0, 0 if "stored 40" in out else 40)
        return "differ" in err

    assert not differing(",patient,fold,split", ",P1,2,")
    assert not differing(",patient,fold,split", ",P1,2,")
    assert not differing("", "")
    assert differing(",patient,fold,split", ",P2,2,")
    assert differing(",patient,fold,split", ",P1,3,")
    assert differing(",patient,fold,split", ",P1,2,test")


def test_sizes_and_fit_of_the_store_are_taken_up_where_none_is_typed(raw, store, preprocess, make_pictures):
    preprocess(raw, store, "--size", 24, "--fit", "stretch", "--ids", "as-given")
    make_pictures(raw, 3, first=40)
    assert counts(preprocess(raw, store)[1]) == (3, 40, 0)
    assert resolve(store).image_shape == (24, 24)


def test_litter_older_than_a_day_is_swept_and_younger_is_not(raw, store, preprocess):
    preprocess(raw, store, *SMALL)
    old, young = store / "chunks" / ".tmp-a-1-b-x.h5", store / "chunks" / ".tmp-a-2-b-y.h5"
    for file in (old, young):
        file.touch()
    folder = store / "snapshots" / ".tmp-a-3-c-ab12"
    folder.mkdir()
    (folder / "key.npy").touch()
    for path in (old, folder):
        os.utime(path, (1, 1))
    preprocess(raw, store)
    assert (old.exists(), folder.exists(), young.exists()) == (False, False, True)


def test_many_commits_are_folded_at_a_start(raw, store, preprocess, monkeypatch):
    preprocess(raw, store, *SMALL, "--chunk-images", 1)
    monkeypatch.setattr("mri_hpc.storage.adding.known.UNFOLDED_COMMITS", 40)
    preprocess(raw, store)
    assert len(list((store / "snapshots").iterdir())) == 1


def test_folding_costs_a_commit_no_more_in_a_large_store_than_in_a_small_one(
    raw, store, preprocess, monkeypatch
):
    """A snapshot is as large as the store: the larger it is, the more commits share the cost of the next."""
    preprocess(raw, store, *SMALL)
    resolve(store)
    monkeypatch.setattr("mri_hpc.storage.adding.known.UNFOLDED_COMMITS", 2)
    monkeypatch.setattr("mri_hpc.storage.adding.known.FOLDED_IMAGES_A_COMMIT", 10)
    snapshots = []
    for number in range(8):
        Image.new("L", (32, 32), 100 + number).save(raw / "glioma" / f"new{number}.png")
        preprocess(raw, store)
        snapshots.append(len(list((store / "snapshots").iterdir())))
    assert snapshots == [1, 1, 1, 1, 2, 2, 2, 2]


@pytest.mark.parametrize(
    "words", [("--accept", "ids", "same-ids"), ("--group", "nobody here"), ("--size", 0)]
)
def test_who_is_refused_has_no_store_and_no_key_left_behind(raw, store, preprocess, monkeypatch, words):
    monkeypatch.setenv("MRI_KEY_FILE", str(store.with_name("new.key")))
    before = sorted(store.parent.rglob("*"))
    assert preprocess(raw, store.parent / "deep" / "store", *words)[0] == 2
    assert sorted(store.parent.rglob("*")) == before


def test_who_has_a_damaged_key_has_no_store_left_behind(raw, store, preprocess, monkeypatch):
    key = store.with_name("new.key")
    key.write_text("00")
    key.chmod(0o600)
    monkeypatch.setenv("MRI_KEY_FILE", str(key))
    status, _out, err = preprocess(raw, store, *SMALL)
    assert (status, "is not a site key" in err, store.exists()) == (2, True, False)


def test_where_no_folder_can_be_private_none_is_left_behind(raw, store, preprocess, monkeypatch):
    def keeps_no_permissions(_store):
        raise UserError("this file system keeps no permissions")

    monkeypatch.setattr(StoreDir, "_make_private", keeps_no_permissions)
    assert preprocess(raw, store / "deep" / "store", *SMALL)[0] == 2
    assert not store.exists()
