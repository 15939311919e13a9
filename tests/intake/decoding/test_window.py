"""The window of a group: one for all its pictures, whatever a few pixels hold."""

import numpy as np
import pytest

from mri_hpc.intake.decoding import window as windows
from mri_hpc.intake.decoding.window import WORDS, Histogram, Window, exact_window, window_of

PEAKS = (4000, 4100, 4050, 4200)


def head(peak, seed=0, side=256):
    """A slice as scanners make them: noise in the air, tissue of all shades, a few bright vessels."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[-1 : 1 : side * 1j, -1 : 1 : side * 1j]
    tissue = 0.45 + 0.4 * np.sin(7 * x + seed) * np.cos(5 * y)
    grey = np.where(np.hypot(x / 0.8, y / 0.95) < 1, tissue, 0) + np.abs(random.normal(0, 0.01, (side, side)))
    grey[random.random((side, side)) < 0.0005] = 1
    return np.rint(np.clip(grey, 0, 1) * peak).astype(np.uint16)


SLICES = [head(peak, seed) for seed, peak in enumerate(PEAKS)]


def levels(grey, window):
    return len(np.unique(window.levels(grey)))


def test_slices_of_one_head_keep_their_levels_in_one_window():
    window = window_of(SLICES)
    assert [levels(grey, window) >= 200 for grey in SLICES] == [True] * 4
    assert window.low == 0
    assert 2800 <= window.high <= 4200


def test_the_order_of_pictures_does_not_matter():
    assert window_of(SLICES) == window_of(SLICES[::-1])


@pytest.mark.parametrize(("dtype", "spike"), [(np.uint16, 65535), (np.int32, 10**6), (np.float32, 1e6)])
def test_a_spike_changes_nothing(dtype, spike):
    pictures = [grey.astype(dtype) for grey in SLICES]
    expected = window_of(SLICES)
    assert window_of(pictures) == expected
    for at in ((0, 0), (128, 128)):
        spiked = [picture.copy() for picture in pictures]
        spiked[1][at] = spike
        assert window_of(spiked) == expected
        spiked[1][at] = 0 if dtype == np.uint16 else -spike
        assert window_of(spiked) == expected


def test_empty_and_constant_pictures_do_not_decide():
    empty = np.zeros((256, 256), np.uint16)
    constant = np.full((256, 256), 7, np.uint16)
    assert window_of([*SLICES, empty, empty, constant]) == window_of(SLICES)
    assert window_of([empty]) is window_of([constant, constant]) is window_of([]) is None
    nearly = empty.copy()
    nearly[100, 100:103] = (300, 310, 320)
    assert window_of([nearly]) is not None


def test_numbers_of_any_size_and_sign_have_a_window():
    for scale, offset in ((1e-7, 0), (1, -1000), (3.3, 1e5), (1e30, 0)):
        grey = (SLICES[0].astype(np.float64) * scale + offset).astype(np.float32)
        window = window_of([grey])
        assert levels(grey, window) >= 200, (scale, offset)
        assert window.fraction_outside(grey) <= 0.01
    assert window_of([np.array([[-1e300, 0.0, 1e300]])]) is not None


def test_a_whole_store_of_slices_is_counted_in_bounded_memory():
    histogram = Histogram()
    for grey in SLICES:
        histogram.add(grey)
        histogram.add(grey.astype(np.float32) + 0.5)
    held = [value for value in vars(histogram).values() if isinstance(value, np.ndarray)]
    assert sum(array.nbytes for array in held) < 10 * 2**20


def test_the_worked_example_holds():
    counts = {3: 5000, 517: 1, 518: 12000, 3871: 30, 4000: 20, 4120: 21, 9000: 12}
    picture = np.repeat(list(counts), list(counts.values())).astype(np.uint16)[np.newaxis]
    window = window_of([picture])
    assert window == Window(low=0, high=3968)
    assert window.levels(np.array([0, 1000, 3968, 9000])).tolist() == [0, 64, 255, 255]
    assert window.fraction_outside(picture) == (20 + 21 + 12) / picture.size


@pytest.mark.parametrize("side", [8, 16, 64])
def test_small_pictures_have_windows_that_a_spike_leaves_alone(side):
    grey = head(4000, side=side)
    spiked = grey.copy()
    spiked[0, 0] = 65535
    assert window_of([spiked]).high <= 1.25 * window_of([grey]).high


@pytest.mark.parametrize(
    ("low", "high"),
    [(0, 4095), (3.5, 871.25), (-20.5, 300), (-9, -3), (17, 17.25), (0, 65535), (60000, 1e6), (1e6, 2e6),
     (-1e9, 1e9), (-2.0**-22, 1)],
)  # fmt: skip
def test_levels_of_words_are_those_that_each_word_has_by_itself(low, high):
    window, words = Window(low=low, high=high), np.arange(WORDS)
    assert window.levels_of_words.dtype == np.uint8
    assert (window.levels_of_words == window.levels(words)).all()
    assert window.deep_levels_of_words.dtype == np.uint16
    assert (window.deep_levels_of_words == window.levels(words, WORDS - 1)).all()


@pytest.mark.parametrize("most_at_once", [2**24, 1000])
def test_words_are_counted_as_numpy_counts_them(most_at_once, monkeypatch):
    monkeypatch.setattr(windows, "MOST_AT_ONCE", most_at_once)
    random = np.random.default_rng(0)
    for most in (1, 2, 4096, 65536):
        for count in (1, 999, 2001, 65536):
            words = random.integers(0, most, count).astype(np.uint16)
            assert (windows._counts_of(words) == np.bincount(words)).all()
    words = np.repeat(np.uint16(7), 2**24 + 3) if most_at_once == 2**24 else words
    assert windows._counts_of(words).sum() == len(words)


def test_a_volume_turned_around_has_the_same_window():
    volume = np.stack(SLICES)
    for turned in (volume[::-1, :, ::-1], volume.transpose(2, 0, 1), np.asfortranarray(volume)):
        for voxels in (turned, turned.astype(np.float32) / 7):
            found = exact_window(voxels)
            assert found == exact_window(np.ascontiguousarray(voxels))
            assert found.high > found.low
