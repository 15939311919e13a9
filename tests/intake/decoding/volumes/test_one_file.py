"""Volumes of one file: what their headers say, and files that lie or are damaged."""

import gzip
import io
import tracemalloc

import nibabel as nib
import numpy as np
import pytest

from mri_hpc.base.errors import BadSource
from mri_hpc.intake.decoding.decoders import decode
from mri_hpc.intake.decoding.recipe import Recipe
from mri_hpc.intake.decoding.volumes import headers, slices, words
from mri_hpc.intake.files import content
from mri_hpc.intake.files.content import in_memory, read_content

AFFINE = np.diag([-5.0, 5.0, 6.0, 1.0])
RECIPE = Recipe(size=32)


def head(shape=(32, 36, 20)):
    axes = np.meshgrid(*(np.linspace(-1, 1, count) for count in shape), indexing="ij")
    ball = sum(axis**2 for axis in axes) < 0.7
    return np.where(ball, 400 + 150 * axes[0] + 100 * axes[2], 3 + axes[1]).astype(np.int16)


def image_of(voxels, *, endian="<", **fields):
    header = nib.Nifti1Header(endianness=endian)
    header.set_data_dtype(voxels.dtype)
    image = nib.Nifti1Image(voxels, None, header)
    image.set_sform(AFFINE, 1)
    image.set_qform(AFFINE, 1)
    data = bytearray(image.to_bytes())
    # As other programs write them, which nibabel would mend.
    changed = nib.Nifti1Header(bytes(data[:348]), endianness=endian, check=False)
    for name, value in fields.items():
        changed[name] = value
    data[:348] = changed.binaryblock
    return bytes(data)


def pixels_of(data, recipe=RECIPE):
    return [sample.pixels.tobytes() for sample in decode(in_memory(data), recipe)]


@pytest.fixture(scope="module")
def expected():
    return pixels_of(image_of(head()))


def test_big_endian_files_give_the_same_slices(expected):
    assert pixels_of(image_of(head().astype(">i2"), endian=">")) == expected


@pytest.mark.parametrize(
    ("slope", "inter"), [(0, 0), (np.nan, np.nan), (np.nan, 5), (1, 0), (0.5, 100), (3, np.nan)]
)
def test_a_slope_moves_the_window_with_the_values(slope, inter, expected):
    assert pixels_of(image_of(head(), scl_slope=slope, scl_inter=inter)) == expected


def test_voxels_do_not_begin_within_their_header_whatever_it_says(expected):
    assert pixels_of(image_of(head(), vox_offset=0)) == expected


def test_a_slope_without_end_turns_nothing_around(expected):
    assert pixels_of(image_of(head(), scl_slope=-np.inf)) == expected


def test_a_negative_slope_turns_black_and_white_around(expected):
    upright = [np.frombuffer(one, np.uint8) for one in pixels_of(image_of(-head(), scl_slope=-1))]
    assert [one.tobytes() for one in upright] == expected


def test_an_mgh_file_gives_the_same_slices_plain_and_compressed(expected):
    data = nib.MGHImage(head(), AFFINE).to_bytes()
    assert pixels_of(data) == expected
    assert pixels_of(gzip.compress(data)) == expected


def test_a_file_of_two_members_of_gzip_is_read_whole(expected):
    data = image_of(head())
    assert pixels_of(gzip.compress(data[:1000]) + gzip.compress(data[1000:])) == expected


def test_the_sform_is_taken_where_it_differs_and_it_is_said():
    image = nib.Nifti1Image(head(), None)
    image.set_sform(AFFINE, 1)
    image.set_qform(np.diag([5.0, 5.0, 6.0, 1.0]), 1)
    samples = list(decode(in_memory(image.to_bytes()), RECIPE))
    assert samples[0].notes == (headers.FORMS_DIFFER,)
    nowhere = list(decode(in_memory(image_of(head(), qoffset_x=np.nan)), RECIPE))
    assert nowhere[0].notes == (headers.FORMS_DIFFER,)
    image.set_sform(AFFINE, 0)
    (*_more, mirrored) = decode(in_memory(image.to_bytes()), RECIPE)
    assert not mirrored.notes
    assert np.array_equal(mirrored.pixels, samples[-1].pixels[:, ::-1])


def test_voxels_that_are_no_numbers_are_the_darkest_and_it_is_noted():
    # As SPM writes what lies outside of a head that it has moved.
    cut = np.where(head() > 100, head(), np.float32(3))
    samples = list(decode(in_memory(image_of(np.where(cut == 3, np.nan, cut).astype(np.float32))), RECIPE))
    assert samples[0].notes == (slices.NO_NUMBERS,)
    low = np.where(cut == 3, cut[cut > 3].min(), cut).astype(np.float32)
    assert [sample.pixels.tobytes() for sample in samples] == pixels_of(image_of(low))


@pytest.mark.parametrize("odd", [0.5, -3.0, 65536.0, 7e4, -1e30, np.inf, np.nan])
def test_values_that_are_no_words_stay_as_they_are_wherever_they_come(odd):
    values = np.arange(3 * words.PART, dtype=">f4") % 60_000
    assert words.read_values(io.BytesIO(values.tobytes()), values.dtype, len(values)).dtype == np.uint16
    for place in (0, words.PART + 5, len(values) - 1):
        changed = values.copy()
        changed[place] = odd
        found = words.read_values(io.BytesIO(changed.tobytes()), values.dtype, len(values))
        assert found.dtype == np.dtype("<f4") and np.array_equal(found, changed, equal_nan=True)


def test_whole_numbers_of_64_bits_are_words_only_where_these_hold_them():
    for odd in (-1, 2**16, 2**32 + 7, 2**63 - 1):
        values = np.array([0, 65535, odd], "<i8")
        assert np.array_equal(words.read_values(io.BytesIO(values.tobytes()), values.dtype, 3), values)
    few = words.read_values(io.BytesIO(values[:2].tobytes()), values.dtype, 2)
    assert few.dtype == np.uint16 and few.tolist() == [0, 65535]


def test_slices_lie_along_the_axis_that_the_header_names():
    info = 2 << 4
    assert next(decode(in_memory(image_of(head(), dim_info=info)), RECIPE)).plane == 1
    assert next(decode(in_memory(image_of(head())), RECIPE)).plane == 0


def changed(data, at, new):
    return data[:at] + new + data[at + len(new) :]


WHOLE = image_of(head())
ZIPPED = gzip.compress(WHOLE)


def dims(*lengths):
    return changed(WHOLE, 40, np.array(lengths, "<i2").tobytes())


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (WHOLE[:-100], "truncated"),
        (ZIPPED[: len(ZIPPED) // 2], "truncated"),
        (ZIPPED[:-4], "truncated"),
        (changed(ZIPPED, len(ZIPPED) // 2, b"\0" * 99), "damaged gzip|truncated|checksum"),
        (changed(ZIPPED, len(ZIPPED) - 8, b"\1\2\3\4"), "damaged gzip"),
        (dims(3, -32, 36, 20), "damaged header"),
        (dims(3, 0, 36, 20), "damaged header"),
        (dims(9, 32, 36, 20), "damaged header"),
        (dims(1, 32), "damaged header"),
        (dims(5, 32, 36, 20, 1, 0), "damaged header"),
        ((540).to_bytes(4, "little") + headers.SINGLE_2 + bytes(88), "damaged header"),
        (dims(3, 32000, 32000, 32000), "truncated"),
        (gzip.compress(dims(3, 32000, 32000, 32000)), "truncated"),
        (gzip.compress(dims(3, 700, 700, 400)), "truncated"),
        (gzip.compress(dims(4, 32, 36, 20, 32000)), "truncated"),
        (dims(5, 32, 36, 20, 1, 3), "more than 4 dimensions"),
        (changed(WHOLE, 70, (32).to_bytes(2, "little")), "voxels of colours, complex or other"),
        (changed(WHOLE, 70, (9999).to_bytes(2, "little")), "damaged header"),
        (changed(WHOLE, 108, np.array(np.nan, "<f4").tobytes()), "damaged header"),
        (changed(WHOLE, 108, np.array(1e30, "<f4").tobytes()), "damaged header"),
        (changed(WHOLE, 280, np.full(12, np.nan, "<f4").tobytes()), "places no voxels"),
        (changed(WHOLE, 280, bytes(48)), "places no voxels"),
        (changed(WHOLE, 344, b"ni1\0"), "in another file, which is not beside it"),
        (WHOLE[:348], "truncated"),
        (image_of(np.zeros((32, 36, 20), np.int16)), "no slice shows a head"),
        (image_of(np.where(head() > 500, np.inf, head()).astype(np.float32)), "not finite"),
        (image_of(np.full((32, 36, 20), np.nan, np.float32)), "not finite"),
    ],
)
def test_a_damaged_file_has_one_reason(data, reason):
    with pytest.raises(BadSource, match=reason):
        pixels_of(data)


def test_a_compressed_file_is_read_to_its_checksum():
    # More than is read ahead, so that the end is not met by chance.
    noise = np.random.default_rng(0).integers(0, 2**14, (64, 64, 60), dtype=np.int16)
    data = gzip.compress(image_of(noise) + bytes(300_000), 1)
    assert pixels_of(data)
    for damaged in (changed(data, len(data) - 8, b"\1\2\3\4"), data[:-4]):
        with pytest.raises(BadSource, match=r"damaged gzip|truncated"):
            pixels_of(damaged)


def test_a_volume_that_would_not_fit_is_refused_before_it_is_read():
    header = nib.Nifti1Header()
    header.set_data_dtype(np.uint8)
    header.set_data_shape((600, 600, 600))
    data = header.binaryblock[:344] + b"n+1\0" + bytes(300_000)
    with pytest.raises(BadSource, match="more than 400 MiB or 128 million voxels"):
        pixels_of(gzip.compress(data, 0))


def test_the_word_of_a_header_takes_no_room():
    lying = [dims(3, 700, 700, 400), gzip.compress(dims(3, 700, 700, 400))]
    tracemalloc.start()
    try:
        for data in lying:
            with pytest.raises(BadSource, match="truncated"):
                pixels_of(data)
        assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    finally:
        tracemalloc.stop()


@pytest.fixture
def large_limit(monkeypatch):
    monkeypatch.setattr(content, "MAX_BYTES", 8_000)


@pytest.mark.usefixtures("large_limit")
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_a_large_file_stays_on_the_disk_and_gives_the_same_slices(name, tmp_path, expected):
    voxels = head() + np.random.default_rng(0).integers(0, 2, (32, 36, 20), dtype=np.int16)
    data = image_of(voxels)
    data = gzip.compress(data) if name.endswith("gz") else data
    assert len(data) > content.MAX_BYTES
    (tmp_path / name).write_bytes(data)
    found = read_content(tmp_path, [name])
    assert found.fingerprint.source_hash == in_memory(data).fingerprint.source_hash
    assert [sample.pixels.tobytes() for sample in decode(found, RECIPE)] == pixels_of(data)


@pytest.mark.usefixtures("large_limit")
def test_a_large_file_that_is_written_meanwhile_is_rejected(tmp_path):
    file = tmp_path / "a.nii"
    file.write_bytes(WHOLE)
    found = read_content(tmp_path, ["a.nii"])
    for data in (WHOLE[:-1] + b"\1", WHOLE[:9_000]):
        file.write_bytes(data)
        with pytest.raises(BadSource, match="being written"):
            list(decode(found, RECIPE))


@pytest.mark.usefixtures("large_limit")
def test_other_large_files_are_rejected_unread(tmp_path):
    (tmp_path / "a.png").write_bytes(bytes(20_000))
    with pytest.raises(BadSource, match="file larger than"):
        read_content(tmp_path, ["a.png"])


def test_more_slices_than_a_store_takes_are_refused(monkeypatch):
    monkeypatch.setattr(slices, "MOST_SLICES", 5)
    with pytest.raises(BadSource, match="more than 5 slices"):
        pixels_of(WHOLE)
    assert len(pixels_of(WHOLE, Recipe(size=32, slices="middle:5"))) == 5
