"""Real files of several vendors: both ways of reading agree, and each is a volume or has a true reason."""

import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import nibabel
import numpy as np
import pydicom
import pytest

from mri_hpc.base.errors import BadSource
from mri_hpc.intake.decoding.dicom.elements import is_dicom
from mri_hpc.intake.decoding.dicom.header import header_of
from mri_hpc.intake.decoding.dicom.reader import ask_pydicom, read_elements
from mri_hpc.intake.decoding.dicom.series import volumes_in
from mri_hpc.intake.decoding.dicom.walk import NotPlain, walk
from mri_hpc.intake.decoding.volumes.geometry import right_way_up

OF_PYDICOM = Path(pydicom.__file__).parent / "data" / "test_files"
ROOT = Path(__file__).parents[4]
OF_NIBABEL = Path(nibabel.__file__).parent / "nicom" / "tests" / "data"


def dicom_below(*folders):
    for folder in folders:
        for file in sorted(folder.rglob("*")):
            data = file.read_bytes() if file.is_file() and file.suffix not in (".jpg", ".gz") else b""
            if is_dicom(data[:1024]):
                yield file, data


def assert_ways_agree(*folders):
    compared = 0
    for file, data in dicom_below(*folders):
        try:
            plain = walk(data)
        except NotPlain:
            continue
        general = ask_pydicom(data)
        # As texts: of two NaNs none is the other. As plain values: texts of persons are never shown.
        assert repr(asdict(header_of(plain))) == repr(asdict(header_of(general))), file.name
        assert bytes(plain.pixels or b"") == bytes(general.pixels or b""), file.name
        assert plain.is_encapsulated == general.is_encapsulated, file.name
        compared += 1
    return compared


def test_the_walk_and_pydicom_read_the_same():
    assert assert_ways_agree(OF_PYDICOM, OF_NIBABEL) > 50


def test_the_walk_and_pydicom_read_the_same_of_scanners(real_data):
    folders = ("dicom", "decubitus", "twelve_bit", "enhanced", "renamed_private")
    assert assert_ways_agree(*(real_data / folder for folder in folders)) > 80


def outcome(*files):
    """Shape and least and greatest value of each volume in a series, or the reason why there is none."""
    try:
        volumes = [right_way_up(volume) for volume in volumes_in([file.read_bytes() for file in files])]
    except BadSource as error:
        return str(error)
    return [
        (one.voxels.shape, round(float(one.voxels.min()), 1), round(float(one.voxels.max()), 1))
        for one in volumes
    ]


EXPECTED = {
    "dicom/axial_mosaic_0.dcm": [((64, 64, 36), 0, 2474)],
    "dicom/coronal_mosaic_1.dcm": [((64, 36, 64), 0, 2639)],
    "dicom/sagittal_mosaic_0.dcm": [((36, 64, 64), 0, 2306)],
    "dicom/jpeg2000_mosaic_0.dcm": [((86, 86, 36), 0, 2165)],
    "dicom/jpeg_lossless_mosaic_1.dcm": [((86, 86, 36), 0, 2078)],
    "dicom/structured_report_no_pixels.dcm": "structured report, not a picture",
    "twelve_bit/12bitUnsigned.dcm": [((64, 64, 35), 0, 2908)],
    "twelve_bit/12bitUnsigned_0x0F0F.dcm": [((64, 64, 35), 0, 4095)],
    "twelve_bit/12bitSigned_0x0F0F.dcm": [((64, 64, 35), -2048, 2047)],
    "enhanced/siemens/6_1.dcm": [((64, 64, 6), 0, 1199)],
    "enhanced/philips/IM_0027_fMAP.dcm": [((64, 64, 32), -495.6, 497.3), ((64, 64, 32), 0, 2548.2)],
    "renamed_private/from_console/011-0001.img": [((64, 64, 25), 0, 2633)],
    "renamed_private/from_archive/011-0001.img": [((64, 64, 25), 0, 2633)],
}  # fmt: skip


@pytest.mark.parametrize("name", EXPECTED)
def test_each_kind_of_real_file_is_what_it_is(name, real_data):
    assert outcome(real_data / name) == EXPECTED[name]


def test_a_head_lying_on_its_back_and_on_its_front_is_one_head_of_the_same_planes(real_data):
    for position in ("supine", "prone"):
        files = sorted((real_data / "decubitus" / position).glob("*.dcm"))
        (volume,) = volumes_in([file.read_bytes() for file in files])
        upright = right_way_up(volume)
        assert upright.voxels.shape == (35, 256, 256)
        assert upright.acquired == 0
        np.testing.assert_allclose(np.diag(upright.affine)[:3], (4.8, 1.015625, 1.015625), atol=1e-3)


def test_rubbish_above_twelve_bits_changes_only_the_bands_that_were_painted(real_data):
    (plain,) = volumes_in([(real_data / "twelve_bit" / "12bitUnsigned.dcm").read_bytes()])
    (painted,) = volumes_in([(real_data / "twelve_bit" / "12bitUnsigned_0x0F0F.dcm").read_bytes()])
    differs = plain.voxels != painted.voxels
    assert set(np.unique(painted.voxels[differs])) == {0xF0F, 0xFFF}


def test_the_codes_of_a_files_own_deidentification_are_read(real_data):
    header = header_of(read_elements((real_data / "ge_t1" / "00001.dcm").read_bytes()))
    assert header.protocol.identity_removed == "YES"
    # One is a word of whoever wrote it.
    assert header.protocol.deidentified_by == ("113102", "113100", "113107", "113111")


def test_the_table_of_each_file_is_what_becomes_of_it(real_data):
    page = "".join((ROOT / "docs" / name).read_text() for name in ("dicom.md", "volumes.md"))
    assert f"pydicom {pydicom.__version__}" in page and f"nibabel {nibabel.__version__}" in page
    folders = {
        "scanners": real_data,
        "pydicom": OF_PYDICOM,
        "pydicom charset_files": OF_PYDICOM.parent / "charset_files",
        "pydicom palettes": OF_PYDICOM.parent / "palettes",
        "nibabel nicom": OF_NIBABEL,
        "nibabel tests": OF_NIBABEL.parents[2] / "tests" / "data",
    }
    words = [f"{name}={folder}" for name, folder in folders.items()]
    tool = [sys.executable, ROOT / "tools" / "table_of_dicom.py", *words]
    rows = subprocess.run(tool, capture_output=True, text=True, check=True).stdout.splitlines()[2:]
    named = tuple(f"| {name}: " for name in folders)
    assert sorted(rows) == sorted(line for line in page.splitlines() if line.startswith(named))
