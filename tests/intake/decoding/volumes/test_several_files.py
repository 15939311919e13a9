"""Volumes of a header and voxels beside it, and those of a header of text: the same slices as of NIfTI."""

import gzip
import itertools
import json
import tracemalloc
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from mri_hpc.base.errors import BadSource
from mri_hpc.intake.decoding.decoders import decode
from mri_hpc.intake.decoding.dicom.listing import find_series
from mri_hpc.intake.decoding.recipe import Recipe
from mri_hpc.intake.decoding.volumes import streams
from mri_hpc.intake.decoding.volumes.one_file import NO_VOXELS, volumes_in
from mri_hpc.intake.files import content
from mri_hpc.intake.files.content import in_memory, read_content
from mri_hpc.intake.files.sources import list_sources
from tests.harness.volume_phantoms import (
    SHAPE,
    SPACING_MM,
    VARIANTS,
    affine_of,
    analyze_of,
    head,
    meta_image_of,
    nrrd_of,
    pair_of,
    variant,
)

ITK = Path(__file__).parents[3] / "fixtures" / "itk"
RECIPE = Recipe(size=64, plane="axial")
VOXELS, AFFINE = head(), affine_of()


def as_tuples(samples):
    return [
        (s.pixels.tobytes(), s.frame, s.slice_index, s.position, s.plane, s.plane_inferred, s.slices_left_out)
        for s in samples
    ]


def slices_in(data, recipe=RECIPE):
    return as_tuples(decode(in_memory(data), recipe))


def sources_in(folder):
    """The sources below a folder, each as its files."""
    paths = list(list_sources(folder))
    series = find_series(folder, paths, kept=None)
    return [files for path in paths if (files := series.files_of(path))]


def slices_below(folder, recipe=RECIPE):
    (files,) = sources_in(folder)
    return as_tuples(decode(read_content(folder, files), recipe))


def written(folder, files):
    folder.mkdir(exist_ok=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture(scope="module")
def expected():
    image = nib.Nifti1Image(VOXELS, AFFINE)
    image.set_sform(AFFINE, 1)
    found = slices_in(image.to_bytes())
    assert len(found) > 15
    return found


@pytest.mark.parametrize("write", [nrrd_of, meta_image_of])
def test_all_48_orders_and_flips_of_the_axes_give_the_slices_of_nifti(write, expected):
    for order, flips in VARIANTS:
        assert slices_in(write(*variant(VOXELS, AFFINE, order, flips))) == expected, (order, flips)


def test_pairs_of_all_48_orders_give_the_slices_of_nifti(tmp_path, expected):
    for number, (order, flips) in enumerate(VARIANTS):
        header, voxels = pair_of(*variant(VOXELS, AFFINE, order, flips))
        zipped = number % 3
        names = (("a.hdr", "a.img"), ("a.hdr", "a.img.gz"), ("a.hdr.gz", "a.img.gz"))[zipped]
        coded = (header, gzip.compress(voxels, 1)) if zipped else (header, voxels)
        coded = (gzip.compress(header), coded[1]) if zipped == 2 else coded
        folder = written(tmp_path / str(number), dict(zip(names, coded, strict=True)))
        assert slices_below(folder) == expected, (order, flips)


@pytest.mark.parametrize("name", ["a.mha", "b.mha", "c.mhd", "d.mhd", "e.nrrd", "f.nhdr", "g.nhdr", "h.nrrd"])
def test_files_that_itk_has_written_lie_where_itk_says(name):
    files = next(files for files in sources_in(ITK) if files[0] == name)
    (volume,) = volumes_in(read_content(ITK, files).files)
    assert np.allclose(volume.affine, json.loads((ITK / "affine.json").read_text()), atol=1e-9)
    i, j, k = np.meshgrid(range(10), range(12), range(8), indexing="ij")
    assert np.array_equal(volume.voxels, i + 10 * j + 1000 * k - 500)
    assert volume.is_side_known


@pytest.mark.parametrize(
    "data",
    [
        nrrd_of(VOXELS.astype(">i2"), AFFINE),
        nrrd_of(VOXELS, AFFINE, encoding="gzip"),
        nrrd_of(VOXELS, AFFINE, encoding="ascii", endian=None),
        nrrd_of(VOXELS, AFFINE, byte_skip=-1),
        nrrd_of(VOXELS, AFFINE, space_units='"mm" "mm" "mm"'),
        nrrd_of(VOXELS, np.diag([-0.1, -0.1, 0.1, 1]) @ AFFINE, space_units='"cm" "cm" "cm"', space="RAS"),
        nrrd_of(VOXELS, np.diag([1, -1, 1, 1]) @ AFFINE, space="left-anterior-superior"),
        meta_image_of(VOXELS.astype(">i2"), AFFINE),
        meta_image_of(VOXELS, AFFINE, CompressedData=True),
        meta_image_of(VOXELS, AFFINE, HeaderSize=-1),
    ],
    ids=[
        "big-endian", "gzip", "ascii", "last bytes", "millimetres", "centimetres", "LAS", "meta big-endian",
        "meta zlib", "meta last bytes",
    ],
)  # fmt: skip
def test_each_encoding_and_space_gives_the_same_slices(data, expected):
    assert slices_in(data) == expected


@pytest.mark.parametrize("listed", ["LIST\n{}", "part%02d.raw 0 21 1"])
def test_voxels_of_a_file_a_slice_are_one_source(listed, tmp_path, expected):
    names = [f"part{number:02}.raw" for number in range(SHAPE[2])]
    lines = listed.format("\n".join(names))
    parts = {name: VOXELS[..., number].tobytes(order="F") for number, name in enumerate(names)}
    as_nrrd = nrrd_of(VOXELS, AFFINE, data_file=lines)[: -2 if "LIST" in lines else None]
    assert slices_below(written(tmp_path / "n", {"a.nhdr": as_nrrd, **parts})) == expected
    as_meta = meta_image_of(VOXELS, AFFINE, file=lines)
    assert slices_below(written(tmp_path / "m", {"a.mhd": as_meta, **parts})) == expected


def test_several_volumes_are_told_apart_whether_or_not_they_are_interleaved():
    several = np.stack([VOXELS, VOXELS[::-1]], axis=-1)
    one_by_one = nrrd_of(
        several, AFFINE, kinds="domain domain domain list",
        space_directions="(-4,0,0) (0,-4,0) (0,0,6) none",
    )  # fmt: skip
    mixed = nrrd_of(
        np.moveaxis(several, -1, 0), AFFINE, kinds="list domain domain domain",
        space_directions="none (-4,0,0) (0,-4,0) (0,0,6)",
    )  # fmt: skip
    found = slices_in(one_by_one)
    assert {frame[:4] for _pixels, frame, *_rest in found} == {"t000", "t001"}
    assert slices_in(mixed) == found


def test_analyze_has_no_side_and_its_planes_are_guessed(tmp_path):
    header, voxels = analyze_of(VOXELS, SPACING_MM)
    folder = written(tmp_path / "a", {"a.hdr": header, "a.img": voxels})
    (files,) = sources_in(folder)
    assert files == ("a.hdr", "a.img")
    samples = list(decode(read_content(folder, files), RECIPE))
    assert all(sample.plane_inferred for sample in samples)
    assert any("side unknown" in note for note in samples[0].notes)
    with pytest.raises(BadSource, match="left and right are not told"):
        list(decode(read_content(folder, files), Recipe(size=64, plane="sagittal")))


@pytest.mark.parametrize(
    "data",
    [
        nrrd_of(VOXELS, AFFINE, space=None, space_origin=None, space_directions=None, spacings="4 4 6"),
        nrrd_of(VOXELS, AFFINE, space="3D-right-handed"),
        meta_image_of(VOXELS, AFFINE, TransformMatrix=None),
    ],
)
def test_without_a_space_left_and_right_are_not_told(data):
    samples = list(decode(in_memory(data), RECIPE))
    assert samples and all(sample.plane_inferred for sample in samples)


HALVES = {
    "a.hdr": pair_of(VOXELS, AFFINE)[0],
    "b.img": pair_of(VOXELS, AFFINE)[1],
    "c.nhdr": nrrd_of(VOXELS, AFFINE, data_file="c.raw"),
    "d.mhd": meta_image_of(VOXELS, AFFINE, file="gone.raw"),
    "e.mhd": meta_image_of(VOXELS, AFFINE, file="../d.mhd"),
    "f.mhd": meta_image_of(VOXELS, AFFINE, file="/etc/passwd"),
}


def test_a_half_by_itself_has_a_true_reason(tmp_path):
    folder = written(tmp_path / "halves", HALVES)
    reasons = {}
    for files in sources_in(folder):
        with pytest.raises(BadSource) as error:
            list(decode(read_content(folder, files), RECIPE))
        reasons[files] = str(error.value)
    assert reasons.pop(("b.img",)).startswith("format not read: voxels without their header")
    assert set(reasons.values()) == {NO_VOXELS} and len(reasons) == len(HALVES) - 1


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (nrrd_of(VOXELS, AFFINE)[:-9], "truncated"),
        (nrrd_of(VOXELS, AFFINE, encoding="gzip")[:-9], "truncated"),
        (nrrd_of(VOXELS, AFFINE, sizes="700 700 400"), "truncated"),
        (nrrd_of(VOXELS, AFFINE, encoding="gzip", sizes="700 700 400"), "truncated"),
        (nrrd_of(VOXELS, AFFINE, encoding="ascii", endian=None)[:-9], "truncated"),
        (nrrd_of(VOXELS, AFFINE, encoding="ascii", endian=None) + b" x", "no numbers"),
        (nrrd_of(VOXELS, AFFINE, sizes="40 48"), "damaged header"),
        (nrrd_of(VOXELS, AFFINE, sizes="40 48 -22"), "damaged header"),
        (nrrd_of(VOXELS, AFFINE, sizes="40 48 0"), "damaged header"),
        (nrrd_of(VOXELS, AFFINE, encoding="zstd"), "damaged header"),
        (nrrd_of(VOXELS, AFFINE, space_directions="(1.5e308,1.5e308,0) (0,1,0) (0,0,1)"), "places no voxels"),
        (nrrd_of(VOXELS, AFFINE, sizes="40 48 1e300"), "damaged header"),
        (nrrd_of(VOXELS, AFFINE, type="block"), "colours, complex"),
        (nrrd_of(VOXELS, AFFINE, space_directions="(1,0,0) (0,1"), "damaged header"),
        (nrrd_of(VOXELS, AFFINE, space_directions="(0,0,0) (0,1,0) (0,0,1)"), "places no voxels"),
        (nrrd_of(np.stack([VOXELS] * 3), AFFINE, space_directions="none (-4,0,0) (0,-4,0) (0,0,6)",
                 kinds="RGB-color domain domain domain"), "colours, complex"),
        (nrrd_of(VOXELS, AFFINE, data_file="%999999999d.raw 1 2 1"), "damaged header"),
        (nrrd_of(VOXELS, AFFINE, data_file="%d.raw 1 999999999 1"), "damaged header"),
        (meta_image_of(VOXELS, AFFINE)[:-9], "truncated"),
        (meta_image_of(VOXELS, AFFINE, CompressedData=True)[:-9], "truncated"),
        (meta_image_of(VOXELS, AFFINE, CompressedData=True)[:-4] + b"1234", "damaged voxels"),
        (meta_image_of(VOXELS, AFFINE, ElementNumberOfChannels=3), "colours, complex"),
        (meta_image_of(VOXELS, AFFINE, ElementType="MET_OTHER"), "colours, complex"),
        (meta_image_of(VOXELS, AFFINE, DimSize="40 48"), "damaged header"),
        (meta_image_of(VOXELS, AFFINE, NDims=99999999), "damaged header"),
        (meta_image_of(VOXELS, AFFINE, TransformMatrix="1 0 0"), "damaged header"),
        (meta_image_of(VOXELS, AFFINE, ElementSpacing="nan 1 1"), "places no voxels"),
        (meta_image_of(VOXELS, AFFINE)[:90], "damaged header"),
        (b"NRRD0004\ntype: short\n", "damaged header"),
    ],
)  # fmt: skip
def test_a_damaged_file_has_one_reason(data, reason):
    with pytest.raises(BadSource, match=reason):
        slices_in(data)


def test_the_word_of_a_header_takes_no_room():
    lying = [
        nrrd_of(VOXELS, AFFINE, encoding="gzip", sizes="700 700 400"),
        meta_image_of(VOXELS, AFFINE, DimSize="700 700 400"),
        nrrd_of(VOXELS, AFFINE, data_file="%999999999d.raw 1 2 1"),
    ]
    tracemalloc.start()
    try:
        for data in lying:
            with pytest.raises(BadSource):
                slices_in(data)
        assert tracemalloc.get_traced_memory()[1] < 8 * 2**20
    finally:
        tracemalloc.stop()


def test_large_voxels_beside_a_header_stay_on_the_disk(tmp_path, monkeypatch, expected):
    header, voxels = pair_of(VOXELS, AFFINE)
    folder = written(tmp_path / "a", {"a.hdr": header, "a.img": voxels})
    whole = read_content(folder, ("a.hdr", "a.img")).fingerprint
    monkeypatch.setattr(content, "MAX_BYTES", 8_000)
    found = read_content(folder, ("a.hdr", "a.img"))
    assert found.fingerprint == whole
    assert as_tuples(decode(found, RECIPE)) == expected


def test_text_of_no_end_is_refused(monkeypatch):
    monkeypatch.setattr(streams, "MOST_TEXT", 1000)
    with pytest.raises(BadSource, match="voxels as text of more than"):
        slices_in(nrrd_of(VOXELS, AFFINE, encoding="ascii", endian=None))


def test_headers_that_are_shuffled_give_slices_or_a_reason():
    dice = np.random.default_rng(5)
    for data in (nrrd_of(VOXELS, AFFINE), meta_image_of(VOXELS, AFFINE)):
        end = data.index(b"LOCAL" if b"LOCAL" in data else b"\n\n")
        for _ in range(150):
            changed = bytearray(data)
            for place in dice.integers(8, end, dice.integers(1, 6)):
                changed[place] = dice.integers(0, 256)
            try:
                for _sample in itertools.islice(decode(in_memory(bytes(changed)), RECIPE), 1):
                    pass
            except BadSource as error:
                assert len(str(error)) < 200
