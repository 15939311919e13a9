"""Masks that lie beside volumes: which files they are, what they say of slices, and when they are refused."""

import itertools

import nibabel as nib
import numpy as np
import pytest

from mri_hpc.base.errors import BadSource, UserError
from mri_hpc.intake.decoding.decoders import decode, decode_natively
from mri_hpc.intake.decoding.masks import find_masks, read_patterns
from mri_hpc.intake.decoding.recipe import Recipe
from mri_hpc.intake.files.content import read_content

SHAPE = (24, 28, 8)
AFFINE = np.diag([6.0, 6.0, 8.0, 1.0])
LESION = (slice(4, 8), slice(10, 16), slice(3, 5))
RECIPE = Recipe(size=32, masks=("lesion:{stem}_seg.nii.gz",))
BRAINS = Recipe(size=32, masks=("brain:{stem}_brain.nii.gz",))


@pytest.mark.parametrize(
    ("pattern", "volume", "mask"),
    [
        ("{stem}_mask.nii.gz", "p1/t1.nii.gz", "p1/t1_mask.nii.gz"),
        ("*-seg.nii.gz", "p1/p1-t1c.nii.gz", "p1/p1-seg.nii.gz"),
        ("{folder}_seg.nii.gz", "p1/t1.nii", "p1/p1_seg.nii.gz"),
        ("seg/{name}", "p1/t1.nii.gz", "p1/seg/t1.nii.gz"),
        ("*/seg/{name}", "p1/img/t1.nii.gz", "p1/seg/t1.nii.gz"),
        ("labels/{name}", "images/t1[2].nii.gz", "labels/t1[2].nii.gz"),
        (
            "derivatives/prep/{subject}/{session}/anat/*_desc-brain_mask.nii.gz",
            "sub-1/ses-2/anat/sub-1_ses-2_T1w.nii.gz",
            "derivatives/prep/sub-1/ses-2/anat/sub-1_ses-2_desc-brain_mask.nii.gz",
        ),
    ],
)
def test_a_pattern_leads_from_a_volume_to_its_mask_and_never_to_that_of_others(
    tmp_path, pattern, volume, mask
):
    others = ["p2/seg/t1.nii.gz", "p2/t1_mask.nii.gz", "x-seg.nii.gz", "seg/seg/t1.nii.gz"]
    for name in (volume, mask, *others):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    found = find_masks(tmp_path, [volume, mask, *others], (f"lesion:{pattern}",))
    assert found.files_of(volume) == (mask,)
    assert found.is_mask(mask) and not found.is_mask(volume)
    found.check(volume, "glioma", "")
    (tmp_path / mask).unlink()
    found = find_masks(tmp_path, [volume, *others], (f"lesion:{pattern}",))
    assert found.files_of(volume) == ()
    with pytest.raises(BadSource, match=r"no mask beside it \(lesion\)"):
        found.check(volume, "glioma", "")
    found.check(volume, "control", "control")
    with pytest.raises(BadSource, match=r"no mask beside it \(brain\)"):
        find_masks(tmp_path, [volume], (f"brain:{pattern}",)).check(volume, "control", "control")


def test_several_files_that_fit_are_refused(tmp_path):
    for name in ("t1.nii.gz", "a-seg.nii.gz", "b-seg.nii.gz"):
        (tmp_path / name).touch()
    found = find_masks(tmp_path, ["t1.nii.gz"], ("lesion:*-seg.nii.gz",))
    with pytest.raises(BadSource, match=r"several files that could be its mask \(lesion\)"):
        found.check("t1.nii.gz", "glioma", "")


def test_a_word_tells_the_kind_and_what_tells_none_or_both_is_refused():
    assert read_patterns(["*-seg.nii.gz", "{stem}_brain_mask.nii.gz"]) == (
        "brain:{stem}_brain_mask.nii.gz", "lesion:*-seg.nii.gz",
    )  # fmt: skip
    assert read_patterns(["lesion:{stem}_mask.nii.gz"]) == ("lesion:{stem}_mask.nii.gz",)
    for pattern in ("{stem}_mask.nii.gz", "{stem}_brain_seg.nii.gz"):
        with pytest.raises(UserError, match="are these of brains or of lesions\\? Type brain:"):
            read_patterns([pattern])
    for pattern in (
        "seg.nii.gz", "/seg/{name}", "../seg/{name}", "{patient}_seg.nii", "s*g/{name}", "{_seg",
        "{}_seg", "{stem.nii}_seg", "{stem[a]}_seg", "{stem:>30}_seg", "{stem!r}_seg",
    ):  # fmt: skip
        with pytest.raises(UserError, match="leads to no mask"):
            read_patterns([f"lesion:{pattern}"])
    with pytest.raises(UserError, match="takes one pattern of lesion masks"):
        read_patterns(["*-seg.nii", "*_seg.nii"])


@pytest.fixture
def save(tmp_path):
    def save(name, voxels, affine=AFFINE):
        nib.save(nib.Nifti1Image(voxels, affine), tmp_path / name)
        return name

    return save


def head():
    axes = np.meshgrid(*(np.linspace(-1, 1, count) for count in SHAPE), indexing="ij")
    grain = np.random.default_rng(1).integers(0, 9, SHAPE)
    return (np.where(sum(axis**2 for axis in axes) < 0.8, 500 + 100 * axes[0], 0) + grain).astype(np.int16)


def lesion():
    mask = np.zeros(SHAPE, np.uint8)
    mask[LESION] = 4
    return mask


def images(root, recipe, *files):
    return list(decode_natively(read_content(root, files), recipe))


def test_slices_with_a_lesion_are_kept_with_the_box_around_it(tmp_path, save):
    found = images(tmp_path, RECIPE, save("t1.nii.gz", head()), save("t1_seg.nii.gz", lesion()))
    assert [image.slice_index for image in found] == [3, 4]
    # Rows run from the front to the back, columns from the right to the left.
    wide, high = (24 - 4) / 24 - (24 - 8) / 24, (28 - 10) / 28 - (28 - 16) / 28
    box = ((24 - 6) / 24, (28 - 13) / 28, wide, high)
    assert [image.box for image in found] == [pytest.approx(box)] * 2
    assert "slices without a lesion are left out" in " ".join(found[0].notes)
    whole = images(tmp_path, Recipe(size=32), "t1.nii.gz")
    assert (found[0].grey == whole[3 - whole[0].slice_index].grey).all()


@pytest.mark.parametrize("kind", [np.int16, np.uint8])
@pytest.mark.parametrize(("within", "elsewhere"), [(4, 0), (1, -1), (2, -1)])
def test_labels_that_nibabel_stretched_over_the_type_of_a_header_say_the_same(
    tmp_path, save, kind, within, elsewhere
):
    plain = images(tmp_path, RECIPE, save("t1.nii.gz", head()), save("t1_seg.nii.gz", lesion()))
    labels = (lesion() > 0).astype(float)
    labels[4, 10, 3], labels[0, 0, 0] = within, elsewhere
    header = nib.Nifti1Image(np.zeros(SHAPE, kind), AFFINE).header
    nib.save(nib.Nifti1Image(labels, AFFINE, header), tmp_path / "t1_seg.nii.gz")
    found = images(tmp_path, RECIPE, "t1.nii.gz", "t1_seg.nii.gz")
    assert [(one.slice_index, one.box) for one in found] == [(one.slice_index, one.box) for one in plain]


def test_the_other_slices_have_the_class_that_is_named_for_them(tmp_path, save):
    recipe = Recipe(size=32, masks=RECIPE.masks, without_lesion="none")
    found = images(tmp_path, recipe, save("t1.nii.gz", head()), save("t1_seg.nii.gz", lesion()))
    labels = {image.slice_index: image.label for image in found}
    assert len(labels) > 4 and {at for at, label in labels.items() if not label} == {3, 4}
    assert {*labels.values()} == {"", "none"}
    assert [at for at, image in enumerate(found) if np.isfinite(image.box[0])] == [
        at for at, image in enumerate(found) if not image.label
    ]


@pytest.mark.parametrize("order", [*itertools.permutations(range(3))])
def test_a_mask_may_lie_in_any_order_of_axes_and_gives_the_same_boxes(tmp_path, save, order):
    flips = [1 if axis else -1 for axis in order]
    steps = tuple(slice(None, None, flip) for flip in flips)
    turned = AFFINE[:, [*order, 3]].copy()
    for at, (axis, flip) in enumerate(zip(order, flips, strict=True)):
        if flip < 0:
            turned[:, 3] += (SHAPE[axis] - 1) * turned[:, at]
            turned[:, at] *= -1
    mask = save("t1_seg.nii.gz", np.ascontiguousarray(lesion().transpose(order)[steps]), turned)
    save("plain_seg.nii.gz", lesion())
    t1 = save("t1.nii.gz", head())
    for recipe in (RECIPE, Recipe(size=32, masks=RECIPE.masks, plane="sagittal")):
        found, wanted = images(tmp_path, recipe, t1, mask), images(tmp_path, recipe, t1, "plain_seg.nii.gz")
        assert [image.box for image in found] == [image.box for image in wanted]
        assert [image.slice_index for image in found] == [image.slice_index for image in wanted] != []


def test_a_box_is_around_the_lesion_in_the_stored_image_too(tmp_path, save):
    bright = np.where(lesion() > 0, 4000, head()).astype(np.int16)
    flat = np.diag([6.0, 4.0, 8.0, 1.0])
    files = save("t1.nii.gz", bright, flat), save("t1_seg.nii.gz", lesion(), flat)
    for sample in decode(read_content(tmp_path, files), RECIPE):
        left, top, width, height = sample.placed
        cx, cy = left + sample.box[0] * width, top + sample.box[1] * height
        rows, columns = np.nonzero(sample.pixels > 200)
        assert ((columns.mean() + 0.5) / 32, (rows.mean() + 0.5) / 32) == pytest.approx((cx, cy), abs=1 / 32)


def test_grey_levels_follow_from_the_brain_alone_and_slices_without_it_are_left_out(tmp_path, save):
    axes = np.meshgrid(*(np.linspace(-1, 1, count) for count in SHAPE), indexing="ij")
    brain = (sum(axis**2 for axis in axes) < 0.3).astype(np.uint8)
    bright = np.where(sum(axis**2 for axis in axes) > 0.6, head() * 9, head()).astype(np.int16)
    files = save("t1.nii.gz", bright), save("t1_brain.nii.gz", brain)
    found, without = images(tmp_path, BRAINS, *files), images(tmp_path, Recipe(size=32), files[0])
    assert [image.slice_index for image in found] == np.flatnonzero(brain.any(axis=(0, 1))).tolist()
    assert found[0].slices_left_out == 8 - len(found) > 0
    middle = found[len(found) // 2]
    other = next(image for image in without if image.slice_index == middle.slice_index)
    inside = brain[:, :, middle.slice_index].T[::-1, ::-1] > 0
    assert np.ptp(middle.grey[inside].astype(int)) > 150 > 3 * np.ptp(other.grey[inside].astype(int))


@pytest.mark.parametrize(
    ("mask", "affine", "reason"),
    [
        (
            np.ones((24, 28, 7), np.uint8),
            AFFINE,
            "its brain mask has other voxels than it has (24 x 28 x 7 and 24",
        ),
        (
            np.ones(SHAPE, np.uint8),
            AFFINE + np.eye(4)[:, [3, 3, 3, 0]] * 4,
            "lies elsewhere: corners up to 4.0 mm",
        ),
        (np.zeros(SHAPE, np.uint8), AFFINE, "its brain mask is empty"),
    ],
)
def test_a_mask_of_another_geometry_is_refused_with_what_differs(tmp_path, save, mask, affine, reason):
    files = save("t1.nii.gz", head()), save("t1_brain.nii.gz", mask, affine)
    with pytest.raises(BadSource) as caught:
        images(tmp_path, BRAINS, *files)
    assert reason in str(caught.value)


def test_an_empty_mask_of_lesions_is_the_reason_where_slices_without_one_are_left_out(tmp_path, save):
    files = save("t1.nii.gz", head()), save("t1_seg.nii.gz", np.zeros(SHAPE, np.uint8))
    with pytest.raises(BadSource, match=r"its lesion mask is empty .*--without-lesion CLASS"):
        images(tmp_path, RECIPE, *files)
    kept = Recipe(size=32, masks=RECIPE.masks, without_lesion="normal")
    assert {image.label for image in images(tmp_path, kept, *files)} == {"normal"}


def test_a_mask_that_cannot_be_read_is_the_reason(tmp_path, save):
    save("t1.nii.gz", head())
    (tmp_path / "t1_brain.nii.gz").write_bytes(b"no volume")
    with pytest.raises(BadSource, match="its mask is no volume"):
        images(tmp_path, BRAINS, "t1.nii.gz", "t1_brain.nii.gz")


def test_the_slices_that_are_chosen_are_chosen_among_those_with_a_lesion(tmp_path, save):
    wide = np.zeros(SHAPE, np.uint8)
    wide[10:14, 10:14, 2:7] = 1
    files = save("t1.nii.gz", head()), save("t1_seg.nii.gz", wide)
    for slices, wanted in (("middle:2", [3, 4]), ("every:2", [2, 4, 6]), ("all", [2, 3, 4, 5, 6])):
        found = images(tmp_path, Recipe(size=32, masks=RECIPE.masks, slices=slices), *files)
        assert [image.slice_index for image in found] == wanted
