"""Content tells what a source is, and a decoder is asked for its samples."""

import gzip

import numpy as np
import pytest
from PIL import Image

from mri_hpc.base.errors import BadSource
from mri_hpc.intake.decoding import decoders
from mri_hpc.intake.decoding.decoders import decode_file
from mri_hpc.intake.decoding.foreign import why_not_read
from mri_hpc.intake.decoding.recipe import Recipe
from mri_hpc.intake.decoding.samples import NativeImage
from mri_hpc.intake.files.content import START_BYTES, in_memory
from mri_hpc.storage.snapshot.catalogue import resolve


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "empty file"),
        (bytes(5000), "file of zeros"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:12\nsize 3\n", "Git LFS pointer"),
        (b"<!DOCTYPE html><html><body>404</body></html>", "web page"),
        (b"\n  <HTML>denied", "web page"),
        ("année,patient\n".encode() * 200, "text, not a picture"),
        (b"RIFF\1\0\0\0WEBP" + bytes(50), "format not read: WebP"),
        (b"PK\x03\x04" + bytes(50), "format not read: ZIP"),
        (b"\x89HDF\r\n\x1a\n" + bytes(50), "format not read: HDF5"),
        (b"MATLAB 5.0 MAT-file", "format not read: MATLAB"),
        (gzip.compress(b"something else"), "format not read: gzip"),
        (b"NRRD9999\ntype: short\n", "format not read: NRRD of a later version"),
        (b"# === DATA DESCRIPTION FILE ======\n", "format not read: PAR/REC"),
        (b"CDF\x01" + bytes(60), "format not read: MINC"),
        (b"\x01\x02\x03\xfe\xff" * 30, "not a picture"),
    ],
)
def test_what_is_no_picture_is_rejected_with_its_reason(data, reason, tmp_path):
    file = tmp_path / "looks_like.jpg"
    file.write_bytes(data)
    with pytest.raises(BadSource, match=reason):
        decode_file(file, Recipe())
    assert reason in why_not_read(data[:START_BYTES], ("PNG", "TIFF"))


def test_content_not_the_name_tells_what_a_file_is(tmp_path):
    file = tmp_path / "really_a_png.jpg"
    Image.new("L", (20, 20), 77).save(file, "PNG")
    (image,) = decode_file(file, Recipe(size=8))
    assert np.array_equal(image.grey, np.full((20, 20), 77, np.uint8))


def test_reasons_carry_neither_path_nor_name(tmp_path):
    file = tmp_path / "Jane_Doe.jpg"
    file.write_bytes(b"\xff\xd8\xff\xe0damaged")
    with pytest.raises(BadSource) as caught:
        decode_file(file, Recipe())
    assert "Jane" not in str(caught.value)


class Tiles:
    """Reads files of several 4 × 4 pictures side by side, which have no end where they are broken."""

    formats = ("Tiles",)

    def reads(self, start):
        return start.startswith(b"TILES")

    def decode(self, content, recipe):
        (file,) = content.files
        for number, start in enumerate(range(5, len(file.data), 16)):
            pixels = np.frombuffer(file.data[start : start + 16], np.uint8)
            if len(pixels) < 16:
                raise BadSource("broken tile")
            yield NativeImage(grey=pixels.reshape(4, 4), frame=str(number))

    def versions(self):
        return {"tiles": "7"}


@pytest.fixture
def with_tiles(monkeypatch):
    """One more decoder."""
    monkeypatch.setattr(decoders, "DECODERS", (*decoders.DECODERS, Tiles()))


@pytest.mark.usefixtures("with_tiles")
def test_a_decoder_is_one_class_and_one_entry(tmp_path, make_pictures, preprocess):
    make_pictures(tmp_path / "raw", 3)
    (tmp_path / "raw" / "glioma" / "one.tiles").write_bytes(b"TILES" + bytes(range(48)))
    (tmp_path / "raw" / "glioma" / "broken.tiles").write_bytes(b"TILES" + bytes(40))
    (tmp_path / "raw" / "glioma" / "other.webp").write_bytes(b"RIFF")
    store = tmp_path / "store"
    status, out, err = preprocess(tmp_path / "raw", store, "--size", 8)
    assert (status, out.partition(" (")[0]) == (0, "stored 4, already there 0, rejected 2")
    assert "rejected 1: broken tile" in err
    assert "rejected 1: format not read: WebP (JPEG, PNG, " in err
    assert ", GIF, MATLAB 7.3, DICOM, NIfTI, Analyze, MGH, NRRD, MetaImage and Tiles are)" in err
    snapshot = resolve(store)
    assert len(snapshot) == 6
    assert len(set(snapshot.key.tolist())) == 6
    assert len(set(snapshot.source_hash.tolist())) == 4
    assert preprocess(tmp_path / "raw", store)[1].startswith("stored 0, already there 4, rejected 2")


@pytest.mark.usefixtures("with_tiles")
def test_versions_of_all_that_decodes_are_told():
    assert decoders.library_versions().keys() == {
        *("pillow", "simplejpeg", "opencv", "imagecodecs", "tifffile", "nibabel", "pynrrd", "pydicom"),
        "tiles",
    }


@pytest.mark.usefixtures("with_tiles")
def test_samples_come_as_they_are_made():
    samples = decoders.decode(in_memory(b"TILES" + bytes(range(40))), Recipe(size=8))
    assert [next(samples).frame, next(samples).frame] == ["0", "1"]
    with pytest.raises(BadSource, match="broken tile"):
        next(samples)
