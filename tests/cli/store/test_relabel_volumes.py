"""Relabelling files that became several images: what is said of a file holds for all its slices."""

import shutil
from collections import Counter

import nibabel as nib
import numpy as np
import pytest

from mri_hpc.storage.store import Store
from mri_hpc.store import main
from tests.harness import dicom_phantoms as phantoms

SHAPE = (24, 28, 8)
AFFINE = np.diag([6.0, 6.0, 8.0, 1.0])


def head(seed):
    axes = np.meshgrid(*(np.linspace(-1, 1, count) for count in SHAPE), indexing="ij")
    grain = np.random.default_rng(seed).integers(0, 9, SHAPE)
    return (np.where(sum(axis**2 for axis in axes) < 0.8, 500 + 100 * axes[0], 0) + grain).astype(np.int16)


def save(file, voxels):
    file.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(voxels, AFFINE), file)


def write_series(folder, number):
    """Write a series of DICOM, a file a slice; return these."""
    folder.mkdir(parents=True, exist_ok=True)
    files = []
    for place, made in enumerate(phantoms.classic(head(number).astype(np.uint16), AFFINE, series=number)):
        files.append(folder / f"IM{place}")
        files[-1].write_bytes(phantoms.as_bytes(made))
    return files


@pytest.fixture
def raw(tmp_path):
    """Two patients with a volume each, of which one has a twin, and one with volumes over time."""
    root = tmp_path / "raw"
    save(root / "glioma/p0/t1.nii", head(0))
    save(root / "glioma/p1/t1.nii", head(1))
    save(root / "control/p2/over_time.nii", np.stack([head(2), head(3)], 3))
    (root / "control/p3").mkdir()
    shutil.copy(root / "glioma/p0/t1.nii", root / "control/p3/twin.nii")
    return root


@pytest.fixture
def store(tmp_path):
    return tmp_path / "store"


@pytest.fixture
def relabel(tmp_path, store, raw, capsys):
    """Runs store relabel with these lines: (status, stdout, stderr)."""

    def run(*lines):
        table = tmp_path / "relabels.csv"
        table.write_text("\n".join(lines) + "\n")
        capsys.readouterr()
        status = main(["relabel", str(store), "--labels", str(table), "--source", str(raw)])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run


def labels(store):
    snapshot = Store(store).current()
    rows = np.arange(len(snapshot))
    return Counter(zip(snapshot.text("patient", rows), snapshot.text("label", rows), strict=True))


@pytest.mark.parametrize("plane", ["acquired", "all"])
def test_all_slices_of_a_file_are_relabelled_and_those_of_its_twin_stay(
    raw, store, relabel, preprocess, plane
):
    assert preprocess(raw, store, "--size", 32, "--ids", "as-given", "--plane", plane)[0] == 0
    before = labels(store)
    one, over_time = before[b"p0", b"glioma"], before[b"p2", b"control"]
    status, out, err = relabel(
        "path,label,patient", "glioma/p0/t1.nii,cyst,p9", "control/p2/over_time.nii,cyst,"
    )
    assert status == 0, err
    assert f"label glioma to cyst: {one}\n" in out and f"label control to cyst: {over_time}\n" in out
    assert f"{one + over_time} images changed, 0 rows say what the store says, 0 are not" in out
    assert labels(store) == before - Counter(
        {(b"p0", b"glioma"): one, (b"p2", b"control"): over_time}
    ) + Counter({(b"p9", b"cyst"): one, (b"p2", b"cyst"): over_time})
    assert relabel("path,label", "control/p2/over_time.nii,cyst")[1].startswith(
        "0 images changed, 1 rows say"
    )


def test_a_series_is_relabelled_by_each_of_its_files(raw, store, relabel, preprocess):
    files = [str(file.relative_to(raw)) for file in write_series(raw / "glioma" / "p5", 5)]
    assert preprocess(raw, store, "--size", 32, "--ids", "as-given")[0] == 0
    before = labels(store)[b"p5", b"glioma"]
    status, out, err = relabel("path,label", *(f"{file},control" for file in files))
    assert (status, f"label glioma to control: {before}\n" in out) == (0, True), err
    assert before > 1 and labels(store)[b"p5", b"control"] == before
    status, _out, err = relabel("path,label", f"{files[0]},cyst", f"{files[1]},control")
    assert status == 2 and "are files of one series, and their rows differ: keep one of them" in err
    assert labels(store)[b"p5", b"control"] == before


def test_slices_that_a_mask_calls_healthy_stay_so(raw, store, relabel, preprocess):
    mask = np.zeros(SHAPE, np.uint8)
    mask[4:8, 10:16, 3:5] = 1
    save(raw / "glioma/p1/t1_mask.nii", mask)
    masks = ("--masks", "lesion:{stem}_mask.nii", "--without-lesion", "control")
    shutil.rmtree(raw / "glioma/p0")
    assert preprocess(raw, store, "--size", 32, "--ids", "as-given", *masks)[0] == 0
    before = labels(store)
    assert before[b"p1", b"glioma"] == 2 and before[b"p1", b"control"] > 2
    assert relabel("path,label,patient", "glioma/p1/t1.nii,cyst,p7")[0] == 0
    assert (labels(store)[b"p7", b"cyst"], labels(store)[b"p7", b"control"]) == (2, before[b"p1", b"control"])
    # And of a file that no mask speaks of, all slices change.
    assert relabel("path,label", "control/p3/twin.nii,cyst")[0] == 0
    assert labels(store)[b"p3", b"cyst"] == before[b"p3", b"control"] > 2


def test_who_cannot_tell_which_slices_are_of_a_file_relabels_none(raw, store, relabel, preprocess):
    assert preprocess(raw, store, "--size", 32, "--ids", "as-given")[0] == 0
    shutil.rmtree(store / "private")
    before = labels(store)
    status, _out, err = relabel("path,label", "glioma/p1/t1.nii,cyst")
    assert status == 2 and "does not tell this user which slices are of glioma/p1/t1.nii" in err
    assert labels(store) == before


@pytest.mark.parametrize("options", [("--plane", "all"), ()])
def test_what_replaces_a_file_leaves_no_slice_of_it_behind(raw, store, preprocess, options):
    words = ("--size", 32, "--ids", "as-given")
    assert preprocess(raw, store, *words, *options)[0] == 0
    before = Store(store).current()
    changed = head(1)[:, :, 2:6] if options else head(2)
    save(raw / ("glioma/p1/t1.nii" if options else "control/p2/over_time.nii"), changed)
    status, out, err = preprocess(raw, store, "--replace")
    assert (status, out.partition(" (")[0]) == (0, "stored 0, already there 3, rejected 1")
    assert "changed: some slices that are stored would stay beside its fewer ones" in err
    assert Store(store).current().content_digest == before.content_digest


def test_more_slices_of_a_file_that_was_relabelled_come_in_under_its_labels_alone(
    raw, store, relabel, preprocess
):
    assert preprocess(raw, store, "--size", 32, "--ids", "as-given")[0] == 0
    assert relabel("path,label,patient", "control/p2/over_time.nii,cyst,p9")[0] == 0
    before = labels(store)
    save(raw / "control/p2/over_time.nii", np.stack([head(2), head(3), head(4)], 3))
    _status, out, err = preprocess(raw, store, "--replace")
    assert out.startswith("stored 0, already there 3, rejected 1")
    assert "changed: it has more slices than are stored, and other labels than these (give it the" in err
    assert labels(store) == before
    assert relabel("path,label,patient", "control/p2/over_time.nii,control,p2")[0] == 0
    assert preprocess(raw, store, "--replace")[1].startswith("stored 1, already there 3, rejected 0")
    assert labels(store)[b"p2", b"control"] > before[b"p9", b"cyst"]
