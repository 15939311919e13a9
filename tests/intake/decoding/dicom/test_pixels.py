"""Pixels: the same values whatever they are coded by, without what is no part of them."""

from pathlib import Path

import imagecodecs
import numpy as np
import pydicom
import pytest
from pydicom.data import get_testdata_file
from pydicom.encaps import encapsulate

from mri_hpc.base.errors import BadSource
from mri_hpc.intake.decoding import coded
from mri_hpc.intake.decoding.dicom.series import volumes_in
from tests.harness import dicom_phantoms as phantoms

AFFINE = np.diag([1.0, 1.0, 2.0, 1.0])
JPEG = "1.2.840.10008.1.2.4"
RLE, DEFLATED = "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.1.99"
CODED = {
    f"{JPEG}.70": lambda words: imagecodecs.ljpeg_encode(words, bitspersample=12),
    f"{JPEG}.80": imagecodecs.jpegls_encode,
    f"{JPEG}.90": lambda words: imagecodecs.jpeg2k_encode(words, codecformat="j2k", reversible=True),
    f"{JPEG}.201": imagecodecs.htj2k_encode,
}


def words():
    return np.random.default_rng(0).integers(0, 4096, (16, 20)).astype(np.uint16)


def made(pixels=None, **others):
    pixels = words() if pixels is None else pixels
    header = phantoms.header(**phantoms.lies(AFFINE))
    return phantoms.with_pixels(header, pixels, **{"bits": 12, **others})


def test_that_values_were_inverted_is_noted():
    (volume,) = volumes_in([phantoms.as_bytes(made(PhotometricInterpretation="MONOCHROME1"))])
    assert volume.notes == (
        "grey values inverted: their least one is white, as the header says (MONOCHROME1)",
    )


def values(dataset, syntax=phantoms.EXPLICIT):
    (volume,) = volumes_in([phantoms.as_bytes(dataset, syntax)])
    assert not volume.notes or dataset.PhotometricInterpretation == "MONOCHROME1"
    return volume.voxels[..., 0].T


@pytest.mark.parametrize("syntax", [*CODED, RLE, DEFLATED, phantoms.BIG_ENDIAN])
def test_a_codec_without_loss_changes_no_value(syntax):
    dataset = made()
    if syntax in CODED:
        dataset.PixelData = encapsulate([bytes(CODED[syntax](words()))])
        dataset["PixelData"].is_undefined_length = True
    elif syntax == RLE:
        dataset.file_meta = pydicom.dataset.FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = pydicom.uid.UID(phantoms.EXPLICIT)
        dataset.compress(pydicom.uid.RLELossless)
    found = values(dataset, syntax)
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found, words())


def test_what_lies_above_the_bits_stored_is_no_part_of_a_value():
    rubbish = np.random.default_rng(1).integers(0, 16, words().shape).astype(np.uint16) << 12
    np.testing.assert_array_equal(values(made(words() | rubbish)), words())


def test_the_sign_is_the_highest_bit_stored():
    signed = words().astype(np.int16) - 2048
    rubbish = np.random.default_rng(1).integers(0, 16, words().shape).astype(np.uint16) << 12
    stored = (signed.view(np.uint16) & 0x0FFF) | rubbish
    np.testing.assert_array_equal(values(made(stored, PixelRepresentation=1)), signed)


def test_what_lies_below_the_bits_stored_is_no_part_of_a_value():
    shifted = (words() << 4) | 0xF
    np.testing.assert_array_equal(values(made(shifted, HighBit=15)), words())


@pytest.mark.parametrize("is_signed", [False, True])
def test_white_is_the_greatest_value(is_signed):
    stored = words()
    found = values(made(stored, PhotometricInterpretation="MONOCHROME1", PixelRepresentation=int(is_signed)))
    as_stored = np.where(stored > 2047, stored.astype(int) - 4096, stored) if is_signed else stored
    assert np.corrcoef(found.ravel(), as_stored.ravel())[0, 1] == pytest.approx(-1)
    assert (found.min(), found.max()) >= ((-2048, -2048) if is_signed else (0, 0))


@pytest.mark.parametrize(
    "name",
    [
        "MR_small.dcm", "MR_small_RLE.dcm", "MR_small_bigendian.dcm", "MR_small_expb.dcm",
        "MR_small_implicit.dcm", "MR_small_jp2klossless.dcm", "MR_small_jpeg_ls_lossless.dcm",
        "MR_small_padded.dcm",
    ],
)  # fmt: skip
def test_a_slice_in_all_encodings_of_pydicom_is_the_same(name):
    expected = pydicom.dcmread(get_testdata_file("MR_small.dcm", download=False)).pixel_array
    (volume,) = volumes_in([Path(get_testdata_file(name, download=False)).read_bytes()])
    np.testing.assert_array_equal(volume.voxels[..., 0].T, expected)


def reason(data):
    with pytest.raises(BadSource) as raised:
        list(volumes_in([data]))
    return str(raised.value)


def test_missing_pixels_are_never_made_up():
    assert reason(phantoms.as_bytes(made())[:-2]) == "truncated picture (copy it again)"
    dataset = made()
    dataset.PixelData = dataset.PixelData[:-2]
    assert reason(phantoms.as_bytes(dataset)) == "truncated picture (copy it again)"


@pytest.mark.parametrize("syntax", CODED)
def test_coded_pixels_of_another_size_are_refused_before_they_are_decoded(syntax, monkeypatch):
    for name in ("decode_jpeg", "decode_jpeg_ls", "decode_jpeg2000"):
        monkeypatch.setattr(coded, name, lambda data: pytest.fail("decoded"))
    dataset = made()
    dataset.PixelData = encapsulate([bytes(CODED[syntax](np.zeros((64, 64), np.uint16)))])
    dataset["PixelData"].is_undefined_length = True
    assert reason(phantoms.as_bytes(dataset, syntax)) == "damaged DICOM (copy it again)"


@pytest.mark.parametrize("syntax", [*CODED, RLE])
def test_rubbish_in_place_of_coded_pixels_is_refused(syntax):
    dataset = made()
    dataset.PixelData = encapsulate([b"rubbish " * 40])
    dataset["PixelData"].is_undefined_length = True
    assert reason(phantoms.as_bytes(dataset, syntax)) == "damaged DICOM (copy it again)"


def test_bits_that_make_no_sense_are_refused():
    assert "such bits" in reason(phantoms.as_bytes(made(BitsStored=17)))
    assert "such bits" in reason(phantoms.as_bytes(made(HighBit=3)))
    assert reason(phantoms.as_bytes(made(Rows=0))) == "damaged DICOM (copy it again)"
