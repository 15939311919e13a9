"""Volumes the right way up: slices do not depend on how a file's voxels run, and hang as they are said to."""

import itertools
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest

from mri_hpc.base.errors import BadSource
from mri_hpc.intake.decoding.decoders import decode
from mri_hpc.intake.decoding.recipe import STEPPED_DECODER, Recipe
from mri_hpc.intake.decoding.volumes import geometry, resampling, slices
from mri_hpc.intake.decoding.volumes.geometry import right_way_up
from mri_hpc.intake.decoding.volumes.volume import Volume
from mri_hpc.intake.decoding.window import Window
from mri_hpc.intake.files.content import in_memory
from tests.harness.volume_phantoms import (
    SHAPE,
    VARIANTS,
    affine_of,
    head,
    variant,
)

RECIPE = Recipe(size=64)


def nifti(voxels, affine, *, sform=1, qform=1, kind=nib.Nifti1Image):
    image = kind(voxels, affine)
    image.set_sform(affine, sform)
    image.set_qform(affine, qform)
    return image.to_bytes()


def rows_of(data, recipe=RECIPE):
    return list(decode(in_memory(data), recipe))


def as_tuples(samples):
    return [
        (s.pixels.tobytes(), s.frame, s.slice_index, s.position, s.plane, s.plane_inferred, s.slices_left_out)
        for s in samples
    ]


@pytest.fixture(scope="module")
def upright():
    return nifti(head(), affine_of())


@pytest.mark.parametrize("plane", ["acquired", "all"])
def test_all_48_orders_and_flips_of_the_axes_give_the_same_slices(upright, plane):
    recipe = Recipe(size=64, plane=plane)
    expected = as_tuples(rows_of(upright, recipe))
    assert len(expected) > 15
    kinds = itertools.cycle([nib.Nifti1Image, nib.Nifti2Image])
    for (order, flips), kind in zip(VARIANTS, kinds, strict=False):
        found = rows_of(nifti(*variant(head(), affine_of(), order, flips), kind=kind), recipe)
        assert as_tuples(found) == expected, (order, flips)


@pytest.mark.parametrize("factor", [0.0125, 0.1, 2, 3.7, 15, 160, 1e6])
def test_a_constant_factor_on_the_numbers_of_a_file_changes_no_level(upright, factor):
    expected = as_tuples(rows_of(upright, Recipe(size=64)))
    for numbers in (np.float32, np.float64):
        scaled = (head() * numbers(factor)).astype(numbers)
        assert as_tuples(rows_of(nifti(scaled, affine_of()), Recipe(size=64))) == expected


def test_a_store_of_before_keeps_the_window_in_whole_steps(upright):
    before = Recipe(size=64, decoder=STEPPED_DECODER)
    assert rows_of(upright, before)[0].stack.window == Window(low=0, high=1408)
    assert rows_of(upright)[0].stack.window.high == head().max()
    assert before.digest() == "f43a18cfbed8abd51c4662764506ce4c"


def test_turning_agrees_with_nibabel():
    rng = np.random.default_rng(11)
    found = 0
    while found < 100:
        affine = np.eye(4)
        affine[:3, :3] = np.linalg.qr(rng.normal(size=(3, 3)))[0] * rng.uniform(0.5, 5, 3)
        affine[:3, 3] = rng.normal(size=3) * 50
        if geometry.axes_of(affine).oblique_degrees > geometry.OBLIQUE_DEGREES:
            continue
        voxels = rng.integers(0, 100, (3, 4, 5), dtype=np.int16)
        volume = right_way_up(Volume(voxels=voxels, affine=affine, acquired=2, is_side_known=True))
        expected = nib.as_closest_canonical(nib.Nifti1Image(voxels, affine))
        assert np.array_equal(volume.voxels, expected.dataobj)
        assert np.allclose(volume.affine, expected.affine)
        assert np.shares_memory(volume.voxels, voxels)
        found += 1


def lies_at(image, spot):
    """Row and column, as fractions, of the middle of what is as bright as the spot."""
    rows, columns = np.nonzero(image == spot)
    return rows.mean() / image.shape[0], columns.mean() / image.shape[1]


def test_planes_hang_as_on_a_viewing_box(upright):
    window = rows_of(upright)[0].stack.window.moved_aside()
    nose, ear, top = (int(window.levels(np.array(level))) for level in (900, 1400, 1100))
    found = {}
    for plane in ("axial", "coronal", "sagittal"):
        samples = rows_of(upright, Recipe(size=48, plane=plane))
        assert {sample.plane for sample in samples} == {("axial", "coronal", "sagittal").index(plane)}
        assert [s.slice_index for s in samples] == sorted(s.slice_index for s in samples)
        found[plane] = {sample.slice_index: sample.pixels for sample in samples}
    # Axial: the front above, the patient's right at the left.
    row, column = lies_at(found["axial"][10], ear)
    assert 0.4 < row < 0.6 and column < 0.3
    assert lies_at(found["axial"][10], nose)[0] < 0.2
    # Coronal: upwards above, the patient's right at the left.
    assert lies_at(found["coronal"][24], ear)[1] < 0.3
    assert lies_at(found["coronal"][24], top)[0] < 0.35
    # Sagittal: the front at the left.
    assert lies_at(found["sagittal"][20], nose)[1] < 0.2
    assert lies_at(found["sagittal"][20], top)[0] < 0.35
    # The ear lies on the right: sagittal slices run from the left to the right.
    assert (found["sagittal"][33] == ear).any() and not (found["sagittal"][8] == ear).any()


def test_positions_are_millimetres_along_the_axis(upright):
    samples = rows_of(upright, Recipe(size=64, plane="coronal"))
    for sample in samples:
        assert sample.position == pytest.approx(4 * sample.slice_index - 4 * 47 / 2)
    assert not any(sample.plane_inferred for sample in samples)


def test_pixels_are_made_square_in_millimetres(upright):
    # 40 x 4 mm across, 22 x 6 mm down.
    placed = rows_of(upright, Recipe(size=160, plane="coronal"))[0].placed
    assert placed == (0.0, 14 / 160, 1.0, 132 / 160)
    assert rows_of(upright, Recipe(size=160, plane="coronal", fit="stretch"))[0].placed == (
        0.0,
        0.0,
        1.0,
        1.0,
    )


@pytest.mark.parametrize("spacing_mm", [(0.01, 0.01, 0.02), (30, 30, 40), (1, 1, 1), (12, 12, 12)])
def test_a_spacing_out_of_the_band_is_not_believed(spacing_mm):
    data = nifti(head(), affine_of(spacing_mm=spacing_mm))
    samples = rows_of(data, Recipe(size=220, plane="coronal"))
    assert samples[0].notes == (slices.NOT_BELIEVED,)
    assert samples[0].placed == (0.0, 49 / 220, 1.0, 121 / 220)


def test_few_slices_may_be_a_short_way_from_first_to_last():
    data = nifti(head((40, 48, 6)), affine_of((40, 48, 6), (4, 4, 5)))
    for plane in ("axial", "coronal"):
        samples = rows_of(data, Recipe(size=160, plane=plane))
        assert samples[0].notes == ()
    # 160 mm across, 30 mm down.
    assert samples[0].placed == (0.0, 65 / 160, 1.0, 30 / 160)


def test_one_millimetre_each_way_is_believed_of_whole_heads_alone():
    thin = head((120, 140, 24))
    assert rows_of(nifti(thin, affine_of(thin.shape, (1, 1, 1))))[0].notes == (slices.NOT_BELIEVED,)
    assert rows_of(nifti(thin, affine_of(thin.shape, (1, 1, 1.01))))[0].notes == ()
    whole = head((120, 140, 110))
    assert rows_of(nifti(whole, affine_of(whole.shape, (1, 1, 1))), Recipe(size=32))[0].notes == ()


def test_slices_without_a_head_are_left_out_and_counted(upright):
    samples = rows_of(upright)
    numbers = [sample.slice_index for sample in samples]
    assert numbers == list(range(numbers[0], numbers[-1] + 1)) and len(numbers) < SHAPE[2]
    assert samples[0].slices_left_out == SHAPE[2] - len(numbers)
    assert not any(sample.slices_left_out for sample in samples[1:])


@pytest.mark.parametrize(
    ("words", "expected"),
    [("all", range(10)), ("middle:4", range(3, 7)), ("middle:99", range(10)), ("every:4", range(0, 10, 4))],
)
def test_slices_are_chosen_as_the_recipe_says(words, expected):
    assert list(slices.chosen(range(10), words)) == list(expected)


def test_frames_tell_volumes_and_planes_apart():
    voxels = np.stack([head(), head()[::-1], head()], axis=-1)
    frames = [sample.frame for sample in rows_of(nifti(voxels, affine_of()))]
    assert len(set(frames)) == len(frames)
    assert {frame.partition("-")[0] for frame in frames} == {"t000", "t001", "t002"}
    frames = [sample.frame for sample in rows_of(nifti(head(), affine_of()), Recipe(size=64, plane="all"))]
    assert len(set(frames)) == len(frames) and frames[0].startswith("axial-")


def test_each_volume_of_a_file_has_a_window_of_its_own():
    voxels = np.stack([head(), head() * 8], axis=-1)
    samples = rows_of(nifti(voxels, affine_of()))
    first, second = samples[: len(samples) // 2], samples[len(samples) // 2 :]
    assert all(np.array_equal(a.pixels, b.pixels) for a, b in zip(first, second, strict=True))


def test_a_side_that_is_not_told_is_said_and_sagittal_slices_are_refused():
    data = nifti(head(), affine_of(), sform=0, qform=0)
    samples = rows_of(data)
    assert samples[0].notes == (slices.SIDE_UNKNOWN,)
    assert all(sample.plane_inferred for sample in samples)
    for plane in ("sagittal", "all"):
        with pytest.raises(BadSource, match="left and right are not told"):
            rows_of(data, Recipe(plane=plane))


def turned_by(degrees):
    angle = np.radians(degrees)
    turn = np.eye(4)
    turn[1:3, 1:3] = [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
    return turn @ affine_of()


def test_an_oblique_volume_stays_as_it_is_up_to_a_limit(upright):
    tilted = rows_of(nifti(head(), turned_by(20)))
    assert [s.pixels.tobytes() for s in tilted] == [s.pixels.tobytes() for s in rows_of(upright)]
    with pytest.raises(BadSource, match=r"oblique by 38\.0 degrees, more than 30"):
        rows_of(nifti(head(), turned_by(38)))


@pytest.mark.parametrize("degrees", [38, 52])
def test_an_oblique_volume_is_resampled_where_the_recipe_says_so(degrees):
    data = nifti(head(), turned_by(degrees))
    samples = rows_of(data, Recipe(size=48, oblique="resample"))
    assert samples[0].notes == (resampling.RESAMPLED,)
    assert len(samples) > 15 and {sample.plane for sample in samples} == {0 if degrees < 45 else 1}


@pytest.mark.parametrize("degrees", [10, 38, 52])
def test_resampling_puts_each_value_where_it_lies_in_the_patient(degrees):
    # What climbs evenly in millimetres climbs evenly still: the mean of neighbours is exact.
    def climbing(shape, affine):
        places = np.stack([*np.meshgrid(*map(np.arange, shape), indexing="ij"), np.ones(shape)])
        x, y, z, _one = np.tensordot(affine, places, 1)
        return 2000 + x + 2 * y - 3 * z

    affine = turned_by(degrees)
    volume = Volume(voxels=climbing(SHAPE, affine), affine=affine, acquired=2, is_side_known=True)
    found = resampling.resampled(volume)
    inside = found.voxels > volume.voxels.min()
    assert inside.mean() > 0.4
    assert np.allclose(found.voxels[inside], climbing(found.voxels.shape, found.affine)[inside])
    assert geometry.axes_of(found.affine).oblique_degrees == 0


def test_a_volume_along_the_axes_is_resampled_to_itself():
    volume = Volume(voxels=head(), affine=affine_of(), acquired=2, is_side_known=True)
    for order, flips in VARIANTS:
        voxels, affine = variant(head(), affine_of(), order, flips)
        found = resampling.resampled(replace(volume, voxels=voxels, affine=affine, acquired=order.index(2)))
        assert np.array_equal(found.voxels, head())
        assert np.allclose(found.affine, affine_of()) and found.acquired == 2


def test_an_upright_volume_is_not_resampled(upright):
    assert as_tuples(rows_of(upright, Recipe(size=64, oblique="resample"))) == as_tuples(rows_of(upright))


def test_a_sheared_volume_is_refused():
    affine = affine_of()
    affine[1, 2] = 3.0
    with pytest.raises(BadSource, match=r"sheared by 26\.6 degrees"):
        right_way_up(Volume(voxels=head(), affine=affine, acquired=2, is_side_known=True))


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64])
def test_numbers_of_any_type_give_the_same_slices(dtype):
    expected = [sample.pixels for sample in rows_of(nifti(head() // 8, affine_of()))]
    found = rows_of(nifti((head() // 8).astype(dtype), affine_of()))
    assert all(np.array_equal(a, b.pixels) for a, b in zip(expected, found, strict=True))
