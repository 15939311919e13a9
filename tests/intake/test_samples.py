import gzip
import os

import numpy as np
import pytest
from PIL import Image

from mri_hpc.base.errors import BadSource
from mri_hpc.intake.recipe import Recipe
from mri_hpc.intake.samples import HEAD_BYTES, decode_source, read_content, why_not_a_picture

NIFTI = (348).to_bytes(4, "little") + bytes(340) + b"n+1\0" + bytes(100)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (bytes(5000), "file of zeros"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 3\n", "Git LFS pointer"),
        (b"<!DOCTYPE html><html><body>404</body></html>", "web page"),
        (b"\n  <HTML>denied", "web page"),
        ("année,patient\n".encode() * 200, "text, not a picture"),
        (b"GIF89a" + bytes(50), "format not read: GIF"),
        (b"PK\x03\x04" + bytes(50), "format not read: ZIP"),
        (b"\x89HDF\r\n\x1a\n" + bytes(50), "format not read: HDF5"),
        (b"MATLAB 5.0 MAT-file", "format not read: MATLAB"),
        (bytes(128) + b"DICM" + bytes(50), "format not read yet: DICOM"),
        (NIFTI, "format not read yet: NIfTI"),
        (gzip.compress(NIFTI + os.urandom(9000)), "format not read yet: NIfTI"),
        (gzip.compress(b"something else"), "format not read: gzip"),
        (b"\x01\x02\x03\xfe\xff" * 30, "not a picture"),
    ],
)
def test_what_is_no_picture_is_rejected_with_its_reason(data, reason, tmp_path):
    file = tmp_path / "looks_like.jpg"
    file.write_bytes(data)
    with pytest.raises(BadSource, match=reason):
        decode_source(file, Recipe())
    assert reason in why_not_a_picture(data[:HEAD_BYTES])


def test_content_not_the_name_tells_what_a_file_is(tmp_path):
    file = tmp_path / "really_a_png.jpg"
    Image.new("L", (20, 20), 77).save(file, "PNG")
    (sample,) = decode_source(file, Recipe(size=8))
    assert np.array_equal(sample.pixels, np.full((8, 8), 77, np.uint8))


def test_reasons_carry_neither_path_nor_name(tmp_path):
    file = tmp_path / "Jane_Doe.jpg"
    file.write_bytes(b"\xff\xd8\xff\xe0damaged")
    with pytest.raises(BadSource) as caught:
        decode_source(file, Recipe())
    assert "Jane" not in str(caught.value)


def test_what_is_no_regular_file_is_rejected_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    for path in (tmp_path / "pipe.jpg", tmp_path):
        with pytest.raises(BadSource, match="not a regular file"):
            read_content(path)


def test_what_was_listed_and_is_no_more_is_gone(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_content(tmp_path / "1.jpg")


def test_a_link_to_nothing_is_rejected_with_what_to_do(tmp_path):
    (tmp_path / "link.jpg").symlink_to("nowhere")
    with pytest.raises(BadSource, match=r"link to a file that is not there .*git-annex"):
        read_content(tmp_path / "link.jpg")


@pytest.mark.parametrize(
    ("other", "mtime_ns"),
    [(b"all of it, at another time", 1), (b"the other half", 1), (b"the other half", 2)],
    ids=["longer", "later", "with its time set back"],
)
def test_a_file_that_is_written_while_it_is_read_is_rejected(tmp_path, monkeypatch, other, mtime_ns):
    path = tmp_path / "1.jpg"
    path.write_bytes(b"the first half")
    os.utime(path, ns=(2, 2))
    real, calls = os.fstat, []

    def fstat(descriptor):
        calls.append(descriptor)
        status = real(descriptor)
        if len(calls) == 1:
            # By another writer, between the first look and the reading.
            path.write_bytes(other)
            os.utime(path, ns=(mtime_ns, mtime_ns))
        return status

    monkeypatch.setattr(os, "fstat", fstat)
    with pytest.raises(BadSource, match="being written"):
        read_content(path)


def test_a_link_to_itself_cannot_be_opened(tmp_path):
    (tmp_path / "link.jpg").symlink_to("link.jpg")
    with pytest.raises(BadSource, match="cannot be opened"):
        read_content(tmp_path / "link.jpg")


def test_content_carries_size_and_hash(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"abc")
    content = read_content(file)
    assert (content.size, content.data) == (3, b"abc")
    # sha256("abc") begins ba7816bf 8f01cfea (FIPS 180-4).
    assert content.digest() == 0xBA7816BF8F01CFEA
