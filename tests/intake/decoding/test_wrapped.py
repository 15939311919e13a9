"""Pictures of more than 8 bits that lost their upper ones are told from sound ones, by what was decoded."""

import cv2
import numpy as np
import pytest
from PIL import Image, ImageDraw

from mri_hpc.base.errors import BadSource
from mri_hpc.intake.decoding.pictures import read_picture
from mri_hpc.intake.decoding.recipe import Recipe
from mri_hpc.intake.decoding.wrapped import is_wrapped, may_be_wrapped

SIDES = (224, 512)
TWELVE_BITS = 16


def as_jpeg(grey, quality):
    """The bytes of a JPEG."""
    return cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


def saved(grey, quality):
    """A picture after it was saved as a JPEG."""
    return cv2.imdecode(np.frombuffer(as_jpeg(grey, quality), np.uint8), cv2.IMREAD_GRAYSCALE)


def resized(scan, side):
    """A scan of another size, with grey levels between those that 8 bits can hold."""
    return cv2.resize(scan.astype(np.float32), (side, side), interpolation=cv2.INTER_AREA)


def wrapped(scan, times=TWELVE_BITS):
    """A scan of so many times the grey levels, of which the lower 8 bits were kept."""
    return (np.rint(scan * times).astype(int) & 255).astype(np.uint8)


def smooth(height, width):
    """A picture that JPEG keeps well."""
    y, x = np.mgrid[0:height, 0:width]
    return (128 + 100 * np.sin(x / 25 + y / 31)).astype(np.uint8)


@pytest.fixture(scope="module")
def scans(real_data):
    """Sound slices of both sides: float32, (side, side)."""
    found = [np.asarray(Image.open(path)) for path in sorted((real_data / "cheng").glob("*/*.jpg"))[::120]]
    return [resized(scan, side) for scan in found for side in SIDES]


@pytest.mark.parametrize("quality", [75, 85, 95])
def test_no_sound_slice_is_taken_for_wrapped_at_any_quality(scans, quality):
    # More of them: tools/benchmarks/wrapped_pictures.py.
    assert len(scans) >= 40
    assert not any(is_wrapped(saved(np.rint(scan).astype(np.uint8), quality)) for scan in scans)


@pytest.mark.parametrize("times", [4, 8, TWELVE_BITS])
def test_slices_that_lost_their_upper_bits_are_found(scans, times):
    found = [
        (is_wrapped(wrapped(scan, times)), is_wrapped(saved(wrapped(scan, times), 75))) for scan in scans
    ]
    assert np.mean(found) >= 0.95


@pytest.mark.parametrize("brighter", [2, 4])
def test_slices_whose_bright_parts_turned_white_are_sound(scans, brighter):
    bright = [np.clip(scan * brighter, 0, 255).astype(np.uint8) for scan in scans]
    assert not any(is_wrapped(saved(one, 75)) for one in bright)


@pytest.mark.parametrize("size", [96, 224, 512])
def test_the_size_of_the_store_does_not_matter(scans, size):
    def is_rejected(data):
        try:
            read_picture(data, Recipe(size=size))
        except BadSource as error:
            return "wrapped" in str(error)
        return False

    ramps = [as_jpeg(wrapped(scan), 75) for scan in scans[1::2]]
    assert np.mean([is_rejected(data) for data in ramps]) >= 0.95
    assert not any(is_rejected(as_jpeg(np.rint(scan).astype(np.uint8), 75)) for scan in scans[::2])


def test_few_sound_slices_are_decoded_whole_to_know_it(scans):
    slices = [np.rint(scan).astype(np.uint8) for scan in scans[1::2]]
    suspects = [
        may_be_wrapped(
            cv2.resize(one, (256, 256), interpolation=cv2.INTER_AREA), num_pixels=512**2, num_bytes=2**17
        )
        for one in slices
    ]
    assert np.mean(suspects) <= 0.05


def test_a_steady_climb_over_white_is_found_in_whatever_direction():
    for slope in (8, 25, 50):
        ramp = np.broadcast_to(np.arange(400) * slope, (300, 400))
        for turn in range(4):
            assert is_wrapped(np.rot90(wrapped(ramp, 1), turn)), slope


def test_writing_on_sound_slices_does_not_make_them_wrapped(scans):
    for scan in scans[::8]:
        written = Image.fromarray(np.clip(scan * 2, 0, 255).astype(np.uint8))
        for line in range(written.height // 13):
            ImageDraw.Draw(written).text((2, 2 + 13 * line), "T1w TE 12 SUBJ 0815 2019-01-03", fill=255)
        assert not any(is_wrapped(saved(np.asarray(written), quality)) for quality in (50, 75, 95))


def test_masks_writing_and_noise_are_not_taken_for_wrapped_pixels():
    checks = (np.indices((64, 64)).sum(axis=0) % 2 * 255).astype(np.uint8)
    noise = np.random.default_rng(1).integers(0, 256, (64, 64), dtype=np.uint8)
    loud = np.clip(np.random.default_rng(2).normal(128, 80, (200, 200)), 0, 255).astype(np.uint8)
    dots = np.where(smooth(200, 200) > np.random.default_rng(3).integers(0, 256, (200, 200)), 255, 0)
    slow = smooth(64, 64)
    slow[20:30] = checks[20:30]
    mask = np.where((np.indices((64, 64)) // 8).sum(axis=0) % 2, 250, 5).astype(np.uint8)
    written = Image.fromarray(smooth(160, 160))
    for line in range(12):
        ImageDraw.Draw(written).text((2, 2 + 12 * line), "T1w TE 12 TR 500 SUBJ 0815", fill=250)
    plain = (checks, noise, loud, dots.astype(np.uint8), slow, mask, np.asarray(written))
    for number, picture in enumerate(plain):
        assert not is_wrapped(picture), number
        assert not is_wrapped(saved(picture, 80)), number
        assert not is_wrapped(saved(picture, 50)), number
