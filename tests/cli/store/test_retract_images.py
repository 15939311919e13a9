"""Single images leave the store: by name, or because the source does not hold their files any more."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mri_hpc.base.errors import UserError
from mri_hpc.storage.disk.layout import open_store
from mri_hpc.storage.reading.reader import Reader
from mri_hpc.storage.snapshot.catalogue import current, resolve
from mri_hpc.storage.upkeep.verify import verify
from mri_hpc.store import main
from tests.cli.store.harms import assert_nothing_is_left
from tests.harness.powers import without_powers

SMALL = ("--size", 16, "--chunk-images", 8, "--ids", "as-given")


@pytest.fixture
def store(copy_of_store):
    """40 images of 7 patients, with the names that they were given."""
    return copy_of_store(40, *SMALL)


@pytest.fixture
def retract(store, capsys):
    """Runs store retract on the store: (status, stdout, stderr)."""

    def run(*words):
        capsys.readouterr()
        status = main(["retract", str(store), *map(str, words)])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run


def first(raw, label="glioma"):
    return sorted(raw.glob(f"{label}/*/*.jpg"))[0]


def key_of(store, path):
    """The key that the private folder gives a path below the source."""
    lines = "".join(file.read_text() for file in (store / "private" / "names").iterdir()).splitlines()
    return next(line.split(",")[0] for line in lines if line.split(",")[1] == path)


def test_an_image_is_gone_from_the_snapshot_the_disk_and_the_private_tables(store, raw, retract):
    before, file = resolve(store), first(raw)
    name = file.relative_to(raw).as_posix()
    key = int(key_of(store, name), 16)
    with Reader(store, before) as reader:
        (image,) = reader.read(np.flatnonzero(before.key == key))
    status, out, _err = retract("--image", file, "--why", "blurred", "--yes")
    assert (status, out[:18]) == (0, "1 image retracted,")
    after = resolve(store)
    assert len(after) == 39
    assert key not in after.key
    assert name not in "".join(one.read_text() for one in (store / "private" / "names").iterdir())
    assert main(["compact", str(store), "--keep-days", "0"]) == 0
    assert_nothing_is_left(store, [image.tobytes()])
    assert verify(open_store(store)).problems == []
    (record,) = (store / "commits").glob("retract-*.json")
    values = json.loads(record.read_text())
    assert (values["why"], values["retracted_patients"]) == ("blurred", [])
    assert values["retracted_keys"] == [f"{key:016x}"]


def test_an_image_is_named_by_its_key_its_path_from_here_or_its_path_below_the_source(
    store, raw, retract, monkeypatch
):
    one, two, three = sorted(raw.glob("glioma/*/*.jpg"))[:3]
    monkeypatch.chdir(raw / "glioma")
    words = [key_of(store, one.relative_to(raw).as_posix()), two.relative_to(raw / "glioma")]
    assert retract("--image", *words, three.relative_to(raw), "--yes")[0] == 0
    assert len(resolve(store)) == 37
    # What a kill has interrupted is ended by doing it again.
    assert retract("--image", two, "--yes")[:2] == (0, retract("--image", two, "--yes")[1])
    status, _out, err = retract("--image", "glioma/none.jpg", "--yes")
    assert (status, err.count("\n")) == (2, 1)
    assert "has no image 'glioma/none.jpg': name it by key, or by the path of its file" in err


def test_a_path_of_two_sources_is_refused_with_the_keys(store, raw, retract, preprocess, tmp_path):
    other = tmp_path / "other" / "elsewhere"
    name = first(raw).relative_to(raw)
    (other / name).parent.mkdir(parents=True)
    shutil.copy(first(raw), other / name)
    assert preprocess(other, store)[1].startswith("stored 1,")
    status, _out, err = retract("--image", name, "--yes")
    assert status == 2
    assert f"has 2 images of a file '{name}': name one by key: " in err
    assert retract("--image", err.split()[-1], "--yes")[0] == 0
    assert len(resolve(store)) == 40


def test_a_retracted_image_stays_out_while_its_file_stays_and_comes_in_under_another_name(
    store, raw, retract, preprocess
):
    file = first(raw)
    retract("--image", file, "--yes")
    for _again in range(2):
        _status, out, err = preprocess(raw, store)
        assert out.startswith("stored 0, already there 39, rejected 1 ")
        assert "rejected 1: retracted: this image was taken out (it comes back in under another file" in err
    assert "its patient" not in err
    # Compaction takes lines of what is retracted out, and not of what the user has to find.
    assert main(["compact", str(store)]) == 0
    listed = "".join(one.read_text() for one in (store / "private" / "names").iterdir())
    assert file.relative_to(raw).as_posix() in listed
    file.rename(file.with_stem("again"))
    assert preprocess(raw, store)[1].startswith("stored 1, already there 39, rejected 0 ")


def test_other_images_of_the_patient_stay_and_come(store, raw, retract, preprocess, make_pictures):
    retract("--image", first(raw), "--yes")
    before = np.count_nonzero(resolve(store).is_of(np.array([b"patient0"])))
    make_pictures(raw, 7, first=42)
    assert preprocess(raw, store)[1].startswith("stored 7, already there 39, rejected 1 ")
    assert np.count_nonzero(resolve(store).is_of(np.array([b"patient0"]))) == before + 1


def test_without_yes_the_images_are_named_and_nothing_is_done(store, raw, retract):
    file = first(raw)
    status, out, err = retract("--image", file)
    assert status == 2
    assert f"{file.relative_to(raw)}  glioma" in out
    assert err.count("\n") == 1
    assert err.endswith("cannot go on: add --yes\n")
    file.unlink()
    status, again, err = retract("--missing", raw)
    assert (status, again) == (2, out)
    assert err.endswith("cannot go on: add --yes\n")
    assert len(resolve(store)) == 40


def test_deleted_files_are_retracted_as_missing_and_moved_ones_under_their_old_path(
    store, raw, retract, preprocess
):
    deleted, moved = sorted(raw.glob("glioma/*/*.jpg"))[:2]
    deleted.unlink()
    target = raw / "meningioma" / moved.parent.name / moved.name
    moved.rename(target)
    assert preprocess(raw, store)[1].startswith("stored 1, already there 38, rejected 0 ")
    assert len(resolve(store)) == 41
    assert retract("--missing", raw, "--yes")[0] == 0
    after = resolve(store)
    assert len(after) == 39
    assert after.num_twins == 0
    key = int(key_of(store, target.relative_to(raw).as_posix()), 16)
    assert after.text("label", int(np.searchsorted(after.key, key))) == "meningioma"
    assert retract("--missing", raw, "--yes")[:2] == (
        0,
        f"every stored image of {raw} has its file there: nothing to retract\n",
    )
    assert preprocess(raw, store)[1].startswith("stored 0, already there 39, rejected 0 ")


def test_images_of_other_sources_are_not_missing(store, raw, retract, preprocess, make_pictures, tmp_path):
    make_pictures(tmp_path / "more", 3, first=100)
    assert preprocess(tmp_path / "more", store)[1].startswith("stored 3,")
    first(raw).unlink()
    assert retract("--missing", raw, "--yes")[1].startswith("1 image retracted")
    assert retract("--missing", tmp_path / "more", "--yes")[1].startswith("every stored image")
    assert len(resolve(store)) == 42


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda raw: raw / "none", "is not a folder: --missing takes the folder of images, as it is now"),
        (lambda raw: raw.rename(raw.with_name("mri")), "holds nothing that came from a folder named 'mri'"),
        (lambda raw: shutil.rmtree(raw) or raw.mkdir() or raw, "holds no files: is it mounted?"),
    ],
)
def test_a_folder_that_cannot_tell_what_is_missing_is_refused(store, raw, retract, make, says):
    status, _out, err = retract("--missing", make(raw), "--yes")
    assert (status, err.count("\n")) == (2, 1)
    assert says in err
    assert len(resolve(store)) == 40


def test_a_folder_that_cannot_be_listed_hides_its_images_and_does_not_make_them_missing(store, raw, retract):
    (raw / "glioma" / "patient0").chmod(0)
    with without_powers():
        status, _out, err = retract("--missing", raw, "--yes")
    (raw / "glioma" / "patient0").chmod(0o700)
    assert (status, len(resolve(store))) == (2, 40)
    assert "it cannot be told whether" in err
    assert "patient0" in err


def test_a_store_whose_private_folder_is_closed_is_no_store_of_which_nothing_is_missing(store, raw, retract):
    first(raw).unlink()
    shutil.rmtree(store / "private")
    status, _out, err = retract("--missing", raw, "--yes")
    assert (status, len(resolve(store))) == (2, 40)
    assert "which says what came from where, cannot be read" in err


def test_one_of_patient_image_and_missing_is_given(store, raw, retract):
    for words in ((), ("--patient", "patient1", "--missing", raw), ("--image",)):
        status, _out, err = retract(*words)
        assert (status, err.count("\n")) == (2, 1)
        assert "give one of --patient ID, --image KEY|PATH ..., --missing SOURCE" in err


def test_a_run_on_an_older_snapshot_is_told_that_images_are_gone(store, raw, retract):
    before = resolve(store)
    retract("--image", first(raw), "--why", "blurred", "--yes")
    with pytest.raises(UserError, match=r"holds 1 images that have been retracted \(.*, blurred\)"):
        resolve(store, before.digest)


def test_who_used_names_the_snapshots_and_records_of_an_image(store, raw, retract, capsys):
    before, file = resolve(store), first(raw)
    (store.parent / "runs").mkdir()
    retract("--image", file, "--why", "blurred", "--yes")
    words = ["who-used", str(store), "--image", str(file), "--runs", str(store.parent / "runs"), "--json"]
    assert main(words) == 0
    seen = json.loads(capsys.readouterr().out)
    assert seen["snapshots"] == [{"snapshot": before.digest, "images": 1}]
    assert [one["why"] for one in seen["retracted"]] == ["blurred"]
    assert main(["who-used", str(store)]) == 2


def test_as_json(store, raw, retract):
    first(raw).unlink()
    printed = json.loads(retract("--missing", raw, "--json", "--yes")[1])
    assert printed["images"] == 1
    assert json.loads(retract("--missing", raw, "--json", "--yes")[1])["images"] == 0
    assert "patient" not in printed


def test_many_images_are_retracted_by_one_record(store, raw, retract):
    for file in sorted(raw.glob("glioma/*/*.jpg")):
        file.unlink()
    assert retract("--missing", raw, "--yes")[0] == 0
    assert len(current(open_store(store))) == 20
    assert len(list(Path(store, "commits").glob("retract-*"))) == 1


def test_images_that_lie_in_another_folder_of_the_same_name_are_not_missing(
    store, raw, retract, preprocess, make_pictures, tmp_path
):
    """A folder a month, each called raw: the images of the others have keys of the same kind."""
    month = tmp_path / "month2" / "raw"
    make_pictures(month, 3, first=100, patients=1000)
    _status, out, err = preprocess(month, store)
    assert out.startswith("stored 3,")
    assert "no longer in" not in err
    assert retract("--missing", month, "--yes")[1].startswith("every stored image")
    first(raw).unlink()
    assert retract("--missing", raw, "--yes")[1].startswith("1 image retracted")
    assert len(resolve(store)) == 42


def test_a_copy_of_the_folder_that_lies_where_it_was_added_keeps_nothing_alive(
    store, raw, retract, preprocess, tmp_path
):
    preprocess(raw, store)
    shutil.copytree(raw, tmp_path / "new disk" / "raw")
    first(tmp_path / "new disk" / "raw").unlink()
    assert "1 stored image is no longer in" in preprocess(tmp_path / "new disk" / "raw", store)[2]
    assert retract("--missing", tmp_path / "new disk" / "raw", "--yes")[1].startswith("1 image retracted")


def test_images_of_a_site_are_missing_in_the_folder_that_was_added_as_that_site(
    store, raw, retract, preprocess, make_pictures, tmp_path
):
    other = tmp_path / "b" / "raw"
    paths = make_pictures(other, 4, first=100, patients=1000)
    assert preprocess(other, store, "--site", "B")[1].startswith("stored 4,")
    paths[0].unlink()
    assert "1 stored image is no longer in" in preprocess(other, store, "--site", "B")[2]
    assert "no longer in" not in preprocess(raw, store)[2]
    assert retract("--missing", raw, "--yes")[1].startswith("every stored image")
    assert retract("--missing", other, "--yes")[1].startswith("1 image retracted")
    assert len(resolve(store)) == 43


@pytest.mark.parametrize("by", ["image", "missing"])
def test_a_stack_leaves_with_all_its_slices_and_its_twin_stays(store, raw, retract, preprocess, by):
    slices = [Image.fromarray(np.full((32, 32), 40 * n, np.uint8)) for n in range(1, 4)]
    for name in ("stack", "twin"):
        slices[0].save(raw / "glioma" / f"{name}.tif", save_all=True, append_images=slices[1:])
    assert preprocess(raw, store)[1].startswith("stored 2,")
    assert len(resolve(store)) == 46
    if by == "missing":
        (raw / "glioma" / "stack.tif").unlink()
        assert "3 stored images are no longer in" in preprocess(raw, store)[2]
    words = {"image": ["--image", "glioma/stack.tif"], "missing": ["--missing", raw]}[by]
    assert retract(*words, "--yes")[1].startswith("3 images retracted")
    assert len(resolve(store)) == 43
    assert preprocess(raw, store)[1].startswith("stored 0, already there 41, ")


def test_what_is_left_of_a_stack_leaves_with_its_file_whichever_slices_went_before(
    store, raw, retract, preprocess
):
    slices = [Image.fromarray(np.full((32, 32), 20 * n, np.uint8)) for n in range(1, 9)]
    slices[0].save(raw / "glioma" / "stack.tif", save_all=True, append_images=slices[1:])
    preprocess(raw, store)
    snapshot = resolve(store)
    before = [f"{key:016x}" for key in snapshot.key[(snapshot.slice_index > 0) & (snapshot.slice_index < 6)]]
    assert retract("--image", *before, "--yes")[1].startswith("5 images retracted")
    status, out, err = retract("--image", raw / "glioma" / "stack.tif", "--yes")
    assert (status, out[:18]) == (0, "3 images retracted"), err
    assert not (resolve(store).slice_index >= 0).any()
