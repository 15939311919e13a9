"""Volumes that are written as NIfTI: the stored voxels, where they lie in the patient."""

import stat

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from mri_hpc.intake.labels.label import PLANES
from mri_hpc.preprocess import main as preprocess_main
from mri_hpc.storage.reading import stored_volumes
from mri_hpc.storage.reading.reader import Reader
from mri_hpc.storage.snapshot.catalogue import resolve
from mri_hpc.store import main as store_main

SIDE = 40
SHAPE, MM = (44, 36, 24), np.array([4.5, 5.0, 7.0])
TURNED = np.deg2rad(8)
TILT = np.array([[1, 0, 0], [0, np.cos(TURNED), -np.sin(TURNED)], [0, np.sin(TURNED), np.cos(TURNED)]])
ORDERS = {0: (0, 1, 2), 1: (2, 0, 1), 2: (1, 2, 0)}
"""Of the axes in the file whose values are the coordinate along each axis of the patient."""
OFFSET = 500


def volume(axis):
    """A ball, oblique and off the middle; a voxel's value is its place along an axis of the patient."""
    affine = np.eye(4)
    affine[:3, :3] = TILT * MM
    affine[:3, 3] = [9, -20, 31] - affine[:3, :3] @ ((np.array(SHAPE) - 1) / 2)
    indices = np.stack(np.meshgrid(*map(np.arange, SHAPE), indexing="ij"), axis=-1)
    places = indices @ affine[:3, :3].T + affine[:3, 3]
    is_inside = np.linalg.norm(places - [9, -20, 31], axis=-1) < 80
    return nib.Nifti1Image(np.where(is_inside, places[..., axis] + OFFSET, 0).astype(np.float32), affine)


def reordered(image, order):
    """The same volume with its axes in another order, and the first one reversed."""
    ornament = np.array([[axis, -1 if axis == 0 else 1] for axis in order], float)
    return image.as_reoriented(ornament)


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A volume of each of x, y and z; one of an unknown side, and with an empty slice; and a picture."""
    root = tmp_path_factory.mktemp("nifti")
    for axis, order in ORDERS.items():
        file = root / "raw" / ("a", "b")[axis % 2] / "xyz"[axis] / "t1.nii.gz"
        file.parent.mkdir(parents=True)
        nib.save(reordered(volume(axis), order), file)
    voxels = volume(0).get_fdata().astype(np.int16)
    for patient in ("whole", "gap"):
        (root / "few" / "a" / patient).mkdir(parents=True)
        unknown = nib.Nifti1Image(voxels.copy(), None)
        unknown.header.set_zooms(MM)
        nib.save(unknown, root / "few" / "a" / patient / "t1.nii")
        voxels[:, :, 11] = 0
    (root / "few" / "a" / "flat").mkdir()
    Image.fromarray(voxels[:, :, 12].astype(np.uint16)).save(root / "few" / "a" / "flat" / "1.png")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MRI_KEY_FILE", str(root / "site.key"))
        size = ("--size", str(SIDE), "--chunk-images", "40")
        planes = ("--plane", "all", "--bits", "16")
        run(preprocess_main, "--source", root / "raw", "--store", root / "store", *size, *planes)
        run(preprocess_main, "--source", root / "few", "--store", root / "two", *size, "--slices", "every:2")
        run(store_main, "compact", root / "store", "--keep-days", "0")
        yield root


def run(main, *words):
    assert main([str(word) for word in words]) == 0


def exported(stored, folder, patient, store="store"):
    """Files that an export has written, by plane."""
    run(
        store_main,
        "export",
        stored / store,
        "--nifti",
        patient,
        "--out",
        folder / "head.nii.gz",
        "--with-face",
    )
    files = sorted(folder.glob("head*.nii.gz"))
    return [(file, nib.load(file)) for file in files]


def as_hung(voxels, plane):
    """Slices of a RAS+ volume as they are stored: (slices, rows, columns)."""
    slices = np.moveaxis(voxels, (2, 1, 0)[plane], 0)
    return slices.transpose(0, 2, 1)[:, ::-1, ::-1]


@pytest.mark.parametrize("axis", ORDERS)
def test_each_voxel_lies_where_the_source_has_it(stored, tmp_path, axis):
    files = exported(stored, tmp_path, "xyz"[axis])
    assert len(files) == len(PLANES)
    for _file, image in files:
        assert nib.aff2axcodes(image.affine) == ("R", "A", "S")
        low, high = window_in(image)
        found = image.get_fdata() / 65535 * (high - low) + low - OFFSET
        indices = np.stack(np.meshgrid(*map(np.arange, image.shape), indexing="ij"), axis=-1)
        places = indices @ image.affine[:3, :3].T + image.affine[:3, 3]
        is_inside = np.linalg.norm(places - [9, -20, 31], axis=-1) < 55
        assert is_inside.sum() > 500
        off = np.abs(found - places[..., axis])[is_inside]
        assert off.max() < 0.5 * np.abs(image.affine[axis, :3]).max()


def window_in(image):
    words = image.header["descrip"].item().decode().split()
    at = words.index("window")
    return float(words[at + 1]), float(words[at + 3].rstrip(","))


def test_voxels_are_those_that_are_stored(stored, tmp_path):
    snapshot = resolve(stored / "store")
    rows = np.arange(len(snapshot))
    with Reader(stored / "store", snapshot) as reader:
        images = reader.read(rows)
    patients = snapshot.text("patient", rows)
    names = [name.decode() for name in sorted(set(patients.tolist()))]
    assert len(names) == 3
    for plane, (_file, image) in enumerate(exported(stored, tmp_path, names[0])):
        mine = np.flatnonzero((patients == names[0].encode()) & (snapshot.plane == plane))
        mine = mine[np.argsort(snapshot.slice_index[mine])]
        voxels = np.asarray(image.dataobj)
        assert voxels.dtype == np.uint16
        assert np.array_equal(as_hung(voxels, plane), images[mine])
        along = image.affine[2 - plane, 2 - plane] * np.arange(len(mine))
        middle = image.affine @ [*((np.array(image.shape) - 1) / 2), 1]
        # Where the middle of each slice lies, as the column says.
        wanted = snapshot.position[mine] - snapshot.position[mine].mean()
        assert np.allclose(along - along.mean(), wanted, atol=0.02)
        assert abs(middle[2 - plane] - snapshot.position[mine].mean()) < 0.02 + SIDE * 0.01


def test_the_header_says_what_it_is_and_the_file_is_its_owners_alone(stored, tmp_path, capsys):
    (file, image), *_others = exported(stored, tmp_path, "y")
    text = image.header["descrip"].item().decode()
    assert text.startswith(f"mri_hpc: as stored, {SIDE}x{SIDE}, window ") and text.endswith(", 16 bits")
    assert "orig" not in text
    assert (int(image.header["qform_code"]), int(image.header["sform_code"])) == (1, 1)
    assert np.allclose(image.get_qform(), image.get_sform(), atol=1e-3)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "axial slices as stored" in capsys.readouterr().out


@pytest.mark.parametrize(("patient", "step"), [("whole", 2), ("gap", 1)])
def test_an_unknown_side_stays_unknown_and_what_is_not_stored_is_black(
    stored, tmp_path, capsys, patient, step
):
    ((_file, image),) = exported(stored, tmp_path, patient, store="two")
    assert (int(image.header["qform_code"]), int(image.header["sform_code"])) == (0, 0)
    assert image.get_data_dtype() == np.uint8
    # Every second slice is stored; one without a head moves those behind it by one.
    is_stored = np.asarray(image.dataobj).any(axis=(0, 1))
    assert is_stored.all() == (patient == "whole") and is_stored.sum() > 6
    assert np.isclose(image.header.get_zooms()[2], MM[2] * step)
    out = capsys.readouterr().out
    assert "side unknown: left and right are not told" in out
    assert (f"{(~is_stored).sum()} of them not stored and black" in out) == (patient == "gap")


def refused(capsys, *words):
    assert store_main(["export", *map(str, words)]) == 2
    return capsys.readouterr().err


def test_what_cannot_or_may_not_be_written_is_refused_with_what_to_type(
    stored, tmp_path, capsys, monkeypatch
):
    store, out = stored / "store", tmp_path / "x.nii.gz"
    err = refused(capsys, store, "--nifti", "x", "--out", out)
    assert "a head shows a face" in err and "type --with-face" in err
    face = ("--with-face",)
    assert "no image of a patient 'nobody'" in refused(
        capsys, store, "--nifti", "nobody", "--out", out, *face
    )
    assert "ends with .nii.gz or .nii" in refused(
        capsys, store, "--nifti", "x", "--out", tmp_path / "x.h5", *face
    )
    assert "is no folder" in refused(capsys, store, "--nifti", "x", "--out", tmp_path / "no" / "x.nii", *face)
    assert "its 1 images are pictures" in refused(
        capsys, stored / "two", "--nifti", "flat", "--out", out, *face
    )
    for words in (("--nifti", "x"), (), ("--single", out, "--nifti", "x", "--out", out)):
        assert "give --single FILE, or --nifti PATIENT --out FILE" in refused(capsys, store, *words)
    assert "--with-face goes with --nifti" in refused(capsys, store, "--single", out, *face)
    assert not list(tmp_path.iterdir())
    (tmp_path / "x-2.nii.gz").touch()
    assert "x-2.nii.gz is there already" in refused(capsys, store, "--nifti", "x", "--out", out, *face)
    assert len(list(tmp_path.iterdir())) == 1
    monkeypatch.setattr(stored_volumes, "skim_stacks", lambda store: [])
    assert "did not note where their pixels lie" in refused(
        capsys, store, "--nifti", "x", "--out", out, *face
    )
    monkeypatch.setenv("MRI_KEY_FILE", str(tmp_path / "no.key"))
    assert "give the pseudonym" in refused(capsys, store, "--nifti", "x", "--out", out, *face)
