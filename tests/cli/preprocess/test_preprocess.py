"""``mri-hpc preprocess``: what goes into a store, and what is refused."""

import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from mri_hpc.storage.disk.chunk_file import read_header
from mri_hpc.storage.snapshot.catalogue import resolve
from tests.cli.preprocess.store_counts import SMALL, counts, info


def test_the_last_line_counts_and_a_repeat_finds_all_there(raw, store, preprocess):
    status, out, _err = preprocess(raw, store, *SMALL)
    assert (status, counts(out)) == (0, (40, 0, 0))
    assert counts(preprocess(raw, store)[1]) == (0, 40, 0)
    values = info(store)
    assert (values["images"], values["patients"], values["rejected"]) == (40, 7, 0)
    assert values["classes"] == {"glioma": 20, "meningioma": 20}


def test_the_store_holds_the_pixels_of_each_file(raw, store, preprocess):
    preprocess(raw, store, "--size", 32, "--ids", "as-given")
    from mri_hpc.intake.files.sources import list_sources, source_key
    from mri_hpc.storage.reading.reader import Reader

    snapshot = resolve(store)
    images = Reader(store, snapshot).read(np.arange(len(snapshot)))
    for path in list_sources(raw):
        row = int(np.searchsorted(snapshot.key, np.uint64(source_key("raw", path))))
        expected = np.asarray(Image.open(raw / path))
        assert np.abs(images[row].astype(int) - expected).max() <= 1
        label, patient, _name = path.split("/")
        assert snapshot.classes[snapshot.label[row]] == label
        assert snapshot.patient_names[snapshot.patient[row]].decode() == patient


def test_json_reports_the_same_counts(raw, store, preprocess):
    (raw / "glioma" / "broken.jpg").touch()
    values = json.loads(preprocess(raw, store, *SMALL, "--json")[1])
    assert (values["stored"], values["already_there"], values["rejected"]) == (40, 0, 1)
    assert values["reasons"] == {"empty file": 1}


def test_which_file_was_rejected_and_why_stands_in_the_private_folder_alone(raw, store, preprocess):
    (raw / "notes of Ada.txt").write_text("hello")
    _status, _out, err = preprocess(raw, store, *SMALL)
    assert f"which files: {store}/private/names/*.csv, column rejected" in err
    tables = "".join(file.read_text() for file in (store / "private" / "names").glob("*.csv"))
    assert "notes of Ada.txt,,,,,no label: not in a class folder" in tables
    assert all("Ada" not in file.read_text() for file in (store / "commits").iterdir())


def test_images_without_a_patient_are_pointed_out(tmp_path, store, preprocess, make_pictures):
    for number, picture in enumerate(make_pictures(tmp_path / "pool", 4)):
        (tmp_path / "flat" / "glioma").mkdir(parents=True, exist_ok=True)
        picture.rename(tmp_path / "flat" / "glioma" / f"{number}{picture.suffix}")
    _status, _out, err = preprocess(tmp_path / "flat", store, *SMALL)
    assert "4 images name no patient: results will be by slice" in err


def test_boxes_follow_the_picture_into_its_letterbox(tmp_path, store, preprocess):
    raw = tmp_path / "raw"
    raw.mkdir()
    Image.new("L", (64, 32), 200).save(raw / "wide.png")
    (raw / "labels.csv").write_text("path,label,box_cx,box_cy,box_w,box_h\nwide.png,x,0.5,0.5,0.5,1\n")
    preprocess(raw, store, *SMALL)
    assert resolve(store).box.tolist() == [[0.5, 0.5, 0.5, 0.5]]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--task", 1), "--task and --tasks go together"),
        (("--task", 4, "--tasks", 4), "--task must be between 0 and --tasks - 1"),
        (("--size", 3), "--size must be between 8 and 4096, got 3"),
        (("--chunk-images", 0), "--chunk-images must be at least 1"),
    ],
)
def test_impossible_options_are_refused_in_one_line(raw, store, preprocess, options, complaint):
    status, _out, err = preprocess(raw, store, *options)
    assert status == 2
    assert complaint in err
    assert err.count("\n") == 1


def test_a_source_without_images_is_refused(tmp_path, store, preprocess):
    assert "does not exist" in preprocess(tmp_path / "gone", store)[2]
    (tmp_path / "raw").mkdir()
    assert "holds no files" in preprocess(tmp_path / "raw", store)[2]
    (tmp_path / "raw" / "readme.txt").write_text("hello")
    status, _out, err = preprocess(tmp_path / "raw", store)
    assert status == 2
    assert "none of the 1 files" in err


def test_a_source_without_images_does_not_settle_the_recipe(tmp_path, store, preprocess, make_pictures):
    (tmp_path / "raw").mkdir()
    assert preprocess(tmp_path / "raw", store)[0] == 2
    make_pictures(tmp_path / "raw", 2)
    assert preprocess(tmp_path / "raw", store, *SMALL)[0] == 0


def test_a_loop_of_links_in_place_of_the_store_is_one_line(raw, store, preprocess):
    store.symlink_to(store)
    status, _out, err = preprocess(raw, store)
    assert (status, err.count("\n")) == (2, 1)
    assert str(store) in err


def test_labels_named_by_a_detour_are_still_no_source(raw, store, preprocess):
    names = sorted(path.relative_to(raw).as_posix() for path in raw.glob("*/*/*.jpg"))
    (raw / "labels.csv").write_text("path,label\n" + "".join(f"{name},x\n" for name in names))
    detour = raw / "glioma" / ".." / "labels.csv"
    assert counts(preprocess(raw, store, *SMALL, "--labels", detour)[1]) == (40, 0, 0)


@pytest.mark.parametrize("most_bytes", [30, 40_000, 75_000])
def test_a_file_that_cannot_be_written_ends_with_one_line_and_a_sound_store(
    raw, store, preprocess, most_bytes
):
    """As on a full disk: each write beyond `most_bytes` of a file fails."""
    code = (
        "import resource, signal, sys; from mri_hpc.preprocess import main;"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({most_bytes}, {most_bytes}));"
        "sys.exit(main(sys.argv[1:]))"
    )
    options = ["--source", raw, "--store", store, "--size", "16"]
    done = subprocess.run([sys.executable, "-c", code, *options], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "File too large" in done.stderr
    assert list(store.rglob(".tmp-*")) == []
    assert counts(preprocess(raw, store, *SMALL)[1]) == (40, 0, 0)


def test_a_store_within_its_source_is_refused(raw, preprocess):
    status, _out, err = preprocess(raw, raw / "store")
    assert status == 2
    assert "keep them apart" in err


def test_versions_are_recorded_in_each_chunk(raw, store, preprocess):
    preprocess(raw, store, *SMALL)
    (chunk,) = (store / "chunks").iterdir()
    assert {"version_h5py", "version_hdf5", "version_pillow", "version_opencv", "version_simplejpeg"} <= set(
        read_header(chunk).versions
    )


def test_neither_preprocess_nor_store_imports_torch():
    modules = "mri_hpc.preprocess, mri_hpc.store, mri_hpc.storage.reading.reader"
    code = f"import sys, {modules}; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


def test_real_slices_keep_their_patients_folds_and_boxes(real_data, store, preprocess):
    cheng = real_data / "cheng"
    out = preprocess(cheng, store, "--labels", cheng / "index.csv", "--size", 32, "--ids", "as-given")[1]
    assert counts(out) == (2400, 0, 0)
    snapshot = resolve(store)
    assert snapshot.classes == ("glioma", "meningioma", "pituitary")
    assert set(snapshot.fold.tolist()) == {1, 2, 3, 4}
    assert np.isfinite(snapshot.box).all()
    assert not snapshot.plane_inferred.any()
