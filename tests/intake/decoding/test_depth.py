"""How many bits a picture has, from its first bytes alone."""

import gzip
import io
import os

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from mri_hpc.intake.decoding.depth import depth_of, is_deep, promises_8_bits

GREY = np.zeros((40, 30), np.uint8)
PICTURES = {
    "8 bits": (GREY, 8, ("PNG", "TIFF", "JPEG", "BMP")),
    "16 bits": (GREY.astype(np.uint16), 16, ("PNG", "TIFF")),
    "32 bits": (GREY.astype(np.int32), 32, ("TIFF",)),
    "floats": (GREY.astype(np.float32), 32, ("TIFF",)),
    "colours": (np.stack([GREY] * 3, axis=2), 8, ("PNG", "TIFF", "JPEG")),
    "black and white": (GREY > 0, 1, ("PNG", "TIFF")),
}


@pytest.mark.parametrize(
    ("name", "kind"), [(name, kind) for name, case in PICTURES.items() for kind in case[2]]
)
def test_the_depth_is_that_of_the_pixels(tmp_path, name, kind):
    pixels, depth, _kinds = PICTURES[name]
    file = tmp_path / "picture"
    Image.fromarray(pixels).save(file, kind)
    assert depth_of(file) == depth
    assert is_deep(file) == (depth > 8)


def test_what_does_not_tell_is_no_error(tmp_path):
    whole = io.BytesIO()
    Image.fromarray(GREY).save(whole, "TIFF")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "empty").touch()
    (tmp_path / "text").write_text("text, and more of it")
    for kind, data in (
        ("tiff", whole.getvalue()[:9]),
        ("png", b"\x89PNG\r\n\x1a\n"),
        ("jpeg", b"\xff\xd8\xff\xe0"),
    ):
        (tmp_path / kind).write_bytes(data)
    found = {
        name: depth_of(tmp_path / name) for name in ("pipe", "empty", "text", "tiff", "png", "jpeg", "none")
    }
    assert set(found.values()) == {None}


def test_names_of_jpegs_and_bmps_promise_8_bits():
    promising = [
        name
        for name in ("a.JPG", "b/c.jpeg", "d.bmp", "e.png", "f.tif", "g", "h.jpg.png")
        if promises_8_bits(name)
    ]
    assert promising == ["a.JPG", "b/c.jpeg", "d.bmp"]


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_volume_is_no_part_of_a_group(tmp_path, pack):
    data = nib.Nifti1Image(np.zeros((9, 9, 9), np.int16), np.eye(4)).to_bytes()
    (tmp_path / "t1.nii").write_bytes(pack(data))
    assert depth_of(tmp_path / "t1.nii") == 8 and not is_deep(tmp_path / "t1.nii")
