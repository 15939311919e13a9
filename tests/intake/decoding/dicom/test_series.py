"""Volumes of series: the right way up however written, in the order of geometry, or a true reason."""

import itertools

import nibabel
import numpy as np
import pytest
from pydicom.dataset import Dataset

from mri_hpc.base.errors import BadSource
from mri_hpc.intake.decoding.decoders import decode
from mri_hpc.intake.decoding.dicom.series import volumes_in
from mri_hpc.intake.decoding.recipe import Recipe
from mri_hpc.intake.decoding.volumes.geometry import right_way_up
from mri_hpc.intake.files.content import Content, in_memory
from tests.harness import dicom_phantoms as phantoms

SHAPE, SPACING_MM = (4, 5, 7), (1.0, 2.0, 4.0)
WRITINGS = [
    (order, flips)
    for order in itertools.permutations(range(3))
    for flips in itertools.product((1, -1), repeat=3)
]


def phantom():
    """Voxels and affine, RAS+: nothing in it is alike."""
    voxels = np.random.default_rng(0).integers(0, 4000, SHAPE).astype(np.uint16)
    affine = np.diag([*SPACING_MM, 1.0])
    affine[:3, 3] = -20, -30, 10
    return voxels, affine


def written(order, flips, of=None):
    """The phantom, or another volume, with its axes in another order, some of them reversed."""
    voxels, affine = of or phantom()
    steps = tuple(slice(None, None, flip) for flip in flips)
    turned = affine[:, [*order, 3]].copy()
    voxels = voxels.transpose(order)
    for axis, flip in enumerate(flips):
        if flip < 0:
            turned[:, 3] += turned[:, axis] * (voxels.shape[axis] - 1)
            turned[:, axis] *= -1
    return np.ascontiguousarray(voxels[steps]), turned


def read(datasets, syntax=phantoms.EXPLICIT):
    return list(volumes_in([phantoms.as_bytes(one, syntax) for one in datasets]))


def assert_is_phantom(volume):
    voxels, affine = phantom()
    upright = right_way_up(volume)
    np.testing.assert_array_equal(upright.voxels, voxels)
    np.testing.assert_allclose(upright.affine, affine, atol=1e-4)


@pytest.mark.parametrize("way", ["classic", "enhanced", "mosaic", "grid"])
def test_a_volume_in_all_48_orders_and_directions_of_its_axes_is_the_same(way):
    for order, flips in WRITINGS:
        voxels, affine = written(order, flips)
        slices = np.random.default_rng(1).permutation(voxels.shape[2]).tolist()
        if way == "classic":
            made = phantoms.classic(voxels, affine)
            made = [made[number] for number in slices]
        elif way == "enhanced":
            made = [phantoms.enhanced(voxels, affine, slices)]
        else:
            made = [getattr(phantoms, way)(voxels, affine)]
        (volume,) = read(made)
        assert_is_phantom(volume)
        assert volume.is_side_known


def ball():
    """A head of which nothing is alike, and its affine, RAS+: voxels as long as wide, but not as high."""
    shape, spacing = np.array((24, 30, 20)), (5.0, 5.0, 6.0)
    where = (np.moveaxis(np.indices(shape), 0, -1) / (shape - 1) - 0.5) * 2
    noise = np.random.default_rng(0).integers(0, 90, shape)
    bright = 900 + 400 * where[..., 0] + 200 * where[..., 1] + 100 * where[..., 2]
    voxels = np.where((where**2).sum(-1) < 0.8, bright, 0) + noise
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = -60, -75, -55
    return voxels.astype(np.uint16), affine


def stored(data, recipe):
    images = decode(data if isinstance(data, Content) else in_memory(data), recipe)
    return [
        (one.pixels.tobytes(), one.frame, one.slice_index, one.position, one.plane, one.notes)
        for one in images
    ]


@pytest.mark.parametrize("slope", [2, 160, 0.0125, 0.3, 7.77])
def test_a_constant_slope_of_a_series_changes_no_stored_byte(slope):
    def with_slope(factor):
        made = phantoms.classic(*ball())
        for one in made:
            one.RescaleSlope, one.RescaleIntercept = factor, 0
        files = [in_memory(phantoms.as_bytes(one)).files[0] for one in made]
        return stored(Content(files=tuple(files)), Recipe(size=40))

    assert with_slope(slope) == with_slope(1)


@pytest.mark.parametrize("way", ["classic", "enhanced", "mosaic"])
def test_stored_slices_are_those_of_the_same_volume_as_nifti_whatever_the_axes(way):
    recipe = Recipe(size=40, plane="all")
    voxels, affine = ball()
    expected = stored(nibabel.Nifti1Image(voxels, affine).to_bytes(), recipe)
    assert len(expected) > 60 and not expected[0][-1]
    for order, flips in WRITINGS:
        turned, placed = written(order, flips, (voxels, affine))
        if way == "classic":
            files = [in_memory(phantoms.as_bytes(one)).files[0] for one in phantoms.classic(turned, placed)]
            found = stored(Content(files=tuple(files)), recipe)
        else:
            made = (
                phantoms.mosaic(turned, placed)
                if way == "mosaic"
                else (phantoms.enhanced(turned, placed, range(turned.shape[2])))
            )
            found = stored(phantoms.as_bytes(made), recipe)
        assert found == expected, (order, flips)


@pytest.mark.parametrize("syntax", [phantoms.EXPLICIT, phantoms.IMPLICIT, phantoms.BIG_ENDIAN])
def test_byte_order_and_explicit_types_change_nothing(syntax):
    (volume,) = read(phantoms.classic(*phantom()), syntax)
    assert_is_phantom(volume)


def test_slices_have_their_place_whatever_they_are_called_or_numbered():
    made = phantoms.classic(*phantom())
    for number, one in enumerate(made):
        one.InstanceNumber = len(made) - number
    (volume,) = read(made[::-1])
    assert_is_phantom(volume)


def test_each_frame_has_its_own_scale():
    voxels, affine = phantom()
    count = voxels.shape[2]
    scales = [(1 + number / 2, -10.0 * number) for number in range(count)]
    (volume,) = read([phantoms.enhanced(voxels, affine, range(count), scales)])
    slopes, intercepts = np.array(scales).T
    np.testing.assert_allclose(right_way_up(volume).voxels, voxels * slopes + intercepts)


def test_files_of_one_series_that_are_scaled_differently_are_one_volume():
    voxels, affine = phantom()
    made = phantoms.classic(voxels // 8, affine)
    for number, one in enumerate(made):
        one.RescaleSlope, one.RescaleIntercept = (8, 0) if number % 2 else (4, 100)
    (volume,) = read(made)
    slope, intercept = np.where(np.arange(len(made)) % 2, 8, 4), np.where(np.arange(len(made)) % 2, 0, 100)
    np.testing.assert_array_equal(right_way_up(volume).voxels, voxels // 8 * slope + intercept)


@pytest.mark.parametrize(
    "element",
    [
        {"EchoTime": [3.0, 5.0]},
        {"ImageType": [["ORIGINAL", "PRIMARY", "M"], ["ORIGINAL", "PRIMARY", "P"]]},
        {"DiffusionBValue": [0.0, 1000.0]},
        {"TemporalPositionIdentifier": [1, 2]},
        {"AcquisitionNumber": [1, 2]},
        {"TriggerTime": [0.0, 400.0]},
    ],
    ids=lambda element: next(iter(element)),
)
def test_what_makes_two_volumes_of_one_series_tells_them_apart(element):
    ((name, values),) = element.items()
    voxels, affine = phantom()
    made = [
        one
        for number, value in enumerate(values)
        for one in phantoms.classic(voxels + np.uint16(number), affine, **{name: value})
    ]
    for number, one in enumerate(made):
        one.SOPInstanceUID = phantoms.uid(1, number)
    volumes = read([made[number] for number in np.random.default_rng(2).permutation(len(made)).tolist()])
    assert [volume.name for volume in volumes] == ["v000", "v001"]
    for number, volume in enumerate(volumes):
        np.testing.assert_array_equal(right_way_up(volume).voxels, voxels + number)


def test_mosaics_of_one_series_come_in_the_order_in_which_they_were_acquired():
    voxels, affine = phantom()
    made = [phantoms.mosaic(voxels + np.uint16(number), affine, instance=number) for number in (3, 1, 2)]
    assert [int(volume.voxels.min()) for volume in read(made)] == [
        1 + int(voxels.min()) + n for n in range(3)
    ]


def reason(datasets):
    with pytest.raises(BadSource) as raised:
        read(datasets)
    return str(raised.value)


def test_a_missing_slice_is_said():
    made = phantoms.classic(*phantom())
    del made[5]
    assert reason(made) == "missing slice: 1 of 7 places in a row of slices are empty"


def test_a_doubled_slice_is_said():
    made = phantoms.classic(*phantom())
    made[5].ImagePositionPatient = made[4].ImagePositionPatient
    assert reason(made) == "doubled slice: two in one place, and nothing tells them apart"


def test_slices_that_are_not_evenly_spaced_are_refused():
    made = phantoms.classic(*phantom())
    made[5].ImagePositionPatient[2] += 1.3
    assert reason(made) == "slices that are not evenly spaced"


def test_slices_beside_each_other_are_no_volume():
    made = phantoms.classic(*phantom())
    made[5].ImagePositionPatient[0] += 3
    assert reason(made) == "slices that do not lie in a row"


def test_a_tilted_volume_is_refused_with_its_angle():
    voxels, affine = phantom()
    made = phantoms.classic(voxels, affine)
    for number, one in enumerate(made):
        one.ImagePositionPatient[1] += 0.7 * number
    (volume,) = read(made)
    with pytest.raises(BadSource, match=r"sheared by 9\.9 degrees"):
        right_way_up(volume)


def test_slices_without_a_place_are_refused():
    made = phantoms.classic(*phantom(), ImagePositionPatient=None)
    assert reason(made) == "slices without a place: their order is not told"


def test_a_few_slices_across_each_other_are_a_localiser():
    made = []
    for number, (order, flips) in enumerate([WRITINGS[0], WRITINGS[8], WRITINGS[24]]):
        voxels, affine = written(order, flips)
        made += phantoms.classic(voxels[..., :3], affine, InstanceNumber=number)
    assert reason(made) == "localiser: a few slices across each other, to plan others by"


def test_a_mosaic_of_more_slices_than_there_are_is_refused_before_room_is_made_for_them():
    made = phantoms.mosaic(*phantom())
    del made[0x0019100A]
    csa = {"NumberOfImagesInMosaic": ["100000"], "SliceNormalVector": ["0", "0", "1"]}
    made[0x00291010].value = phantoms.csa(csa)
    phantoms.with_pixels(made, np.zeros((400, 400), np.uint16))
    assert reason([made]).startswith("mosaic without its private header")


def test_a_mosaic_without_its_private_header_is_refused():
    made = phantoms.mosaic(*phantom())
    del made[0x00291010]
    assert reason([made]).startswith("mosaic without its private header")


@pytest.mark.parametrize(
    ("tag", "value"), [(0x0019100A, 0), (0x0019100A, 60_000), (0x00180088, None), (0x00200037, None)]
)
def test_a_mosaic_whose_slices_cannot_be_placed_is_refused(tag, value):
    made = phantoms.mosaic(*phantom())
    made[tag].value = value
    assert reason([made]).startswith("mosaic without its private header")


def test_a_mosaic_whose_pixels_do_not_part_into_its_slices_is_refused():
    made = phantoms.grid(*phantom())
    # Of seven slices, three tiles each way.
    made.Rows, made.Columns = made.Rows * made.Columns // 2, 2
    assert "without its frames' places" in reason([made])
    made = phantoms.grid(*phantom())
    made.Rows, made.PixelData = made.Rows + 1, made.PixelData + bytes(2 * made.Columns)
    assert "without its frames' places" in reason([made])


def test_several_frames_without_places_and_grey_values_by_a_table_are_refused():
    made = phantoms.classic(*phantom())[0]
    made.ModalityLUTSequence = phantoms.item(LUTDescriptor=[2, 0, 16], LUTData=b"\0\0\1\0")
    assert "grey values by a table" in reason([made])
    made = phantoms.classic(*phantom())[0]
    made.NumberOfFrames, made.PixelData = 2, made.PixelData * 2
    assert reason([made]) == "several frames, and nothing tells where each lies"


def test_a_mosaic_of_48_slices_is_not_taken_for_one_of_none():
    """The bytes of the number 48 are those of the text "0"."""
    voxels = np.random.default_rng(0).integers(0, 4000, (8, 8, 48)).astype(np.uint16)
    (volume,) = read([phantoms.mosaic(voxels, np.diag([2.0, 2.0, 3.0, 1.0]))])
    np.testing.assert_array_equal(right_way_up(volume).voxels, voxels)


@pytest.mark.parametrize(
    ("elements", "expected"),
    [
        ({"Modality": "CT"}, "DICOM that is not MR: CT"),
        ({"Modality": "DOE^JOHN"}, "DICOM that is not MR"),
        ({"SOPClassUID": "1.2.840.10008.5.1.4.1.1.88.22"}, "structured report, not a picture"),
        (
            {"SOPClassUID": "1.2.840.10008.5.1.4.1.1.7"},
            "screenshot or secondary capture, not a slice as the scanner made it",
        ),
        ({"ImageType": ["ORIGINAL", "PRIMARY", "LOCALIZER"]}, "localiser: to plan other slices by"),
        (
            {"ImageType": ["DERIVED", "PRIMARY", "PROJECTION IMAGE"]},
            "projection through many slices, not a slice",
        ),
        (
            {"BurnedInAnnotation": "YES"},
            "text burnt into the picture, as its header says (BurnedInAnnotation)",
        ),
        (
            {"PhotometricInterpretation": "RGB", "SamplesPerPixel": 3},
            "colours (RGB), not grey values of MR",
        ),
    ],
)  # fmt: skip
def test_what_is_no_slice_of_mr_has_one_true_reason(elements, expected):
    made = phantoms.classic(*phantom())[0]
    for name, value in elements.items():
        setattr(made, name, value)
    assert reason([made]) == expected


def test_a_file_without_pixels_is_refused():
    made = phantoms.classic(*phantom())[0]
    del made.PixelData
    assert reason([made]) == "DICOM without pixels"


def test_a_file_that_is_a_tiff_too_is_read_as_dicom():
    files = [in_memory(b"II*\0" + phantoms.as_bytes(one)[4:]).files[0] for one in phantoms.classic(*ball())]
    expected = Content(
        files=tuple(in_memory(phantoms.as_bytes(one)).files[0] for one in phantoms.classic(*ball()))
    )
    assert stored(Content(files=tuple(files)), Recipe(size=40)) == stored(expected, Recipe(size=40))


def test_a_mosaic_of_uih_without_its_private_header_has_its_reason():
    made = phantoms.grid(*phantom())
    assert_is_phantom(*read([made], phantoms.IMPLICIT))
    first = made[0x00651051].value[0]
    made[0x00651051].value.pop()
    with pytest.raises(BadSource, match="without its frames' places"):
        read([made])
    # Without its number, and with a place that is none.
    del made[0x00651050]
    del first.ImagePositionPatient
    with pytest.raises(BadSource, match="without its frames' places"):
        read([made])
    made[0x00651051].value.clear()
    with pytest.raises(BadSource, match="without its frames' places"):
        read([made])
    del made[0x00651051]
    with pytest.raises(BadSource, match="without its frames' places"):
        read([made])


def test_a_series_in_classic_and_enhanced_files_is_stored_once_and_said():
    voxels, affine = phantom()
    both = [phantoms.enhanced(voxels, affine, range(SHAPE[2])), *phantoms.classic(voxels, affine)]
    for number, one in enumerate(both):
        one.SOPInstanceUID = phantoms.uid(1, number)
    (volume,) = read(both)
    assert_is_phantom(volume)
    assert volume.notes == ("the same slices in classic and in enhanced files: the enhanced ones are taken",)


def test_classic_files_of_other_slices_than_the_enhanced_ones_are_not_left_out():
    voxels, affine = phantom()
    elsewhere = affine.copy()
    elsewhere[2, 3] += SPACING_MM[2] * SHAPE[2]
    (volume,) = read(
        [phantoms.enhanced(voxels, affine, range(SHAPE[2])), *phantoms.classic(voxels, elsewhere)]
    )
    assert volume.voxels.shape[2] == 2 * SHAPE[2] and not volume.notes


@pytest.mark.parametrize("maker", ["CANON_MEC", "TOSHIBA_MEC"])
def test_a_comment_of_canon_tells_volumes_of_diffusion_apart(maker):
    voxels, affine = phantom()
    comments = ["b=0(0.000,0.000,0.000)", "b=1000(1.000,0.000,0.000)", "b=1000(0.000,-1.000,0.000)"]
    made = [
        one
        for number, comment in enumerate(comments)
        for one in phantoms.classic(
            voxels + np.uint16(number), affine, Manufacturer=maker, ImageComments=comment
        )
    ]
    for number, one in enumerate(made):
        one.SOPInstanceUID = phantoms.uid(1, number)
    assert sorted(int(volume.voxels.min()) for volume in read(made)) == [
        int(voxels.min()) + number for number in range(3)
    ]


def canon(*groups):
    """Make an enhanced file as Canon does: all volumes in one, the temporal index of all 1.

    groups: of each volume, further functional groups of its frames, by their names.
    """
    voxels, affine = phantom()
    made = [
        phantoms.enhanced(voxels + np.uint16(number), affine, range(SHAPE[2]))
        for number in range(len(groups))
    ]
    whole, frames = made[0], []
    for one, own in zip(made, groups, strict=True):
        for place, frame in enumerate(one.PerFrameFunctionalGroupsSequence):
            frame.FrameContentSequence = phantoms.item(
                StackID="1", InStackPositionNumber=place + 1, TemporalPositionIndex=1
            )
            for name, elements in own.items():
                setattr(frame, name, elements)
            frames.append(frame)
    whole.Manufacturer, whole.ManufacturerModelName = "CANON_MEC", "Vantage Galan 3T"
    whole.NumberOfFrames = len(frames)
    whole.PixelData = b"".join(one.PixelData for one in made)
    # Slice by slice, as other makers' files are, no volume lies in one piece.
    step = len(whole.PixelData) // len(frames)
    order = np.arange(len(frames)).reshape(len(groups), -1).T.ravel().tolist()
    whole.PixelData = b"".join(whole.PixelData[step * number : step * (number + 1)] for number in order)
    whole.PerFrameFunctionalGroupsSequence = [frames[number] for number in order]
    return whole


def diffusion(b_value, *direction):
    group = {"DiffusionBValue": float(b_value)}
    if direction:
        group["DiffusionGradientDirectionSequence"] = phantoms.item(
            DiffusionGradientOrientation=list(direction)
        )
    return {"MRDiffusionSequence": phantoms.item(**group)}


def test_volumes_of_diffusion_in_an_enhanced_file_of_canon_are_told_apart():
    voxels, _affine = phantom()
    groups = [{}, diffusion(1500, 0.294, -0.954, -0.065), diffusion(1500, 0.445, 0, 0.895), diffusion(700)]
    volumes = read([canon(*groups)])
    # By the b-value, then by the direction.
    for volume, number in zip(volumes, (0, 3, 1, 2), strict=True):
        np.testing.assert_array_equal(right_way_up(volume).voxels, voxels + number)


def test_volumes_in_an_enhanced_file_of_canon_that_all_have_one_place_in_time_are_refused():
    assert reason([canon({}, {})]).startswith("doubled slice")
    (volume,) = read([canon({})])
    assert_is_phantom(volume)


@pytest.mark.parametrize("syntax", [phantoms.EXPLICIT, phantoms.IMPLICIT])
def test_a_private_icon_is_not_taken_for_the_picture(syntax):
    made = phantoms.classic(*phantom())
    for one in made:
        icon = phantoms.with_pixels(Dataset(), np.full((8, 8), 7, np.uint16))
        one.add_new(0x00090010, "LO", "GEIIS")
        one.add_new(0x00091003, "SQ", [icon])
        one[0x00091003].is_undefined_length = True
        one.add_new(0x60030010, "LO", "GEMS_Ultrasound_ImageGroup_001")
        one.add_new(0x60031010, "SQ", [icon])
    (volume,) = read(made, syntax)
    assert_is_phantom(volume)


def test_the_private_scale_of_philips_changes_nothing():
    voxels, affine = phantom()
    made = phantoms.classic(voxels, affine, RescaleSlope=2, RescaleIntercept=0, Manufacturer="Philips")
    for one in made:
        one.add_new(0x20050010, "LO", "Philips MR Imaging DD 001")
        one.add_new(0x2005100D, "FL", 0.0)
        one.add_new(0x2005100E, "FL", 0.0125)
    (volume,) = read(made)
    np.testing.assert_array_equal(right_way_up(volume).voxels, voxels * 2.0)


@pytest.mark.parametrize("position", ["HFS", "HFP", "HFDL", "HFDR", "FFS", "FFP", "FFDL", "FFDR"])
def test_the_geometry_tells_the_directions_however_the_patient_lay(position):
    (volume,) = read(phantoms.classic(*phantom(), PatientPosition=position))
    assert_is_phantom(volume)
