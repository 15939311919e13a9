"""Slices: what a volume becomes, each as a picture that hangs as on a viewing box.

| plane | rows | columns | slices, in order |
|---|---|---|---|
| axial | from the front to the back | from the patient's right to the left | upwards |
| coronal | downwards | from the patient's right to the left | to the front |
| sagittal | downwards | from the front to the back | from the patient's left to the right |

- A volume has one window, by the rule of window.py, whatever plane is asked for. In stores of before
  "grey601-dct-area-3" it is that of the slices as they were acquired, in whole steps. Slices without a head
  in that window are left out, and counted. A mask of the brain says instead which voxels the window is of,
  and which slices show a head.
- A mask of lesions says which slices are of the label of the volume, with the box around what it shows. The
  others have the class that the recipe names, else they are left out.
- Pixels that are longer one way are made square in millimetres, in the one step that fits them into the
  square. A spacing out of the sanity band is not believed: pixels are taken as square, and it is said.
  From slice to slice a volume may be short: few were taken. But 1 x 1 x 1 mm is what programs write that know
  of none, and has to make a head.
- Of a side that is not told, the plane is a guess, and sagittal slices would have no order: they are refused.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np

from mri_hpc.base.errors import BadSource
from mri_hpc.intake.decoding.grey_values import levels_of
from mri_hpc.intake.decoding.left_out import shows_head
from mri_hpc.intake.decoding.masks import LESION
from mri_hpc.intake.decoding.recipe import Recipe
from mri_hpc.intake.decoding.samples import NOT_FINITE, Box, NativeImage, Sample, Stack
from mri_hpc.intake.decoding.volumes.geometry import axes_of, check_upright, right_way_up, spacing_mm
from mri_hpc.intake.decoding.volumes.mask_volumes import EMPTY, UprightMasks, box_of, held_against
from mri_hpc.intake.decoding.volumes.resampling import resampled
from mri_hpc.intake.decoding.volumes.volume import Volume
from mri_hpc.intake.decoding.volumes.words import in_words
from mri_hpc.intake.decoding.window import Histogram, Window, exact_window
from mri_hpc.intake.labels.label import NO_BOX, PLANES

AXES = (2, 1, 0)
"""Axis of a volume the right way up along which the slices of each of PLANES lie."""
VOXEL_MM, VIEW_MM = (0.2, 10.0), (100.0, 400.0)
"""Sanity band of the distance of voxels, and of the length of a volume along an axis."""
NEARLY_SQUARE = 0.005
"""Pixels whose sides differ by less are left as they are: over 224 of them it makes one."""
SAMPLED_PLANES = 64
"""A window is found by voxels in so many coronal planes and axial ones, or up to twice as many of each."""
SAMPLED_ROWS = 64
MOST_COUNTED = 256
"""Slices by which a window is found: of more, one in so many as leave no more than this."""
MOST_SLICES = 8192

NO_NUMBERS = "voxels that are no numbers (NaN) are taken as the darkest"
NO_HEAD = "no slice shows a head"
NO_LEFT_TO_RIGHT = "left and right are not told: the file has no sagittal slices from left to right"
NOT_BELIEVED = (
    f"spacing not believed, pixels taken as square (voxels outside {VOXEL_MM[0]:g} to {VOXEL_MM[1]:g} mm, "
    f"or a field of view outside {VIEW_MM[0]:g} to {VIEW_MM[1]:g} mm)"
)
LESIONS_ALONE = "slices without a lesion are left out (a new store keeps them by --without-lesion CLASS)"
NO_LESION = f"{EMPTY.format(kind=LESION)} (a new store keeps its slices by --without-lesion CLASS)"
SIDE_UNKNOWN = "side unknown: the file does not tell left from right"


@dataclass(frozen=True, kw_only=True, eq=False)
class _Hung:
    """Slices of one volume in one plane, as they hang."""

    plane: int
    """Index into PLANES."""
    pictures: np.ndarray
    """(n, h, w): a view of the voxels."""
    positions_mm: Sequence[float]
    """Of each slice, along its axis of the patient."""
    pixel_mm: tuple[float, float]
    """Height and width of a pixel; the same where they are not believed."""
    affine: np.ndarray
    """As in Stack."""
    brain: np.ndarray | None = None
    """bool, (n, h, w); None where no mask shows it."""
    lesion: np.ndarray | None = None
    """As brain."""

    def __len__(self) -> int:
        return len(self.pictures)


def slices_of(
    volume: Volume, recipe: Recipe, masks: Mapping[str, Volume] | None = None
) -> Iterator[NativeImage]:
    """Yield the slices of a volume that the recipe asks for, in its levels; none where none shows a head.

    masks: of two values, by their kind.
    """
    upright = _upright(_in_numbers(volume), recipe)
    beside = held_against(upright, {kind: _upright(mask, recipe) for kind, mask in (masks or {}).items()})
    acquired = AXES.index(upright.acquired)
    planes = _planes(recipe, acquired)
    if PLANES.index("sagittal") in planes and recipe.plane != "acquired" and not volume.is_side_known:
        raise BadSource(NO_LEFT_TO_RIGHT)
    if recipe.has_exact_volumes:
        window = _window(upright, beside.brain)
    else:
        acquired_stack = _stack(upright, acquired, beside)
        window = _window_in_steps(acquired_stack.pictures, acquired_stack.brain)
    notes = _notes(upright)
    if beside.lesion is not None and not recipe.without_lesion:
        if not beside.lesion.any():
            raise BadSource(NO_LESION)
        notes = (*notes, LESIONS_ALONE)
    for plane in planes:
        for image in _images(_stack(upright, plane, beside), window, recipe):
            frame = _frame(upright.name, image.frame, plane if len(planes) > 1 else None)
            yield replace(
                image,
                frame=frame,
                plane_inferred=not upright.is_side_known,
                statements=volume.statements,
                date=volume.date,
                notes=notes,
            )
            notes = ()


def _upright(volume: Volume, recipe: Recipe) -> Volume:
    """Turn a volume the right way up; one that is oblique is resampled, where the recipe says so."""
    if recipe.oblique == "resample":
        try:
            check_upright(axes_of(volume.affine))
        except BadSource:
            return resampled(volume)
    return right_way_up(volume)


def few_slices(images: Iterator[NativeImage]) -> Iterator[NativeImage]:
    """Yield the slices of all volumes of a source; BadSource where there are none, or too many of them."""
    number = 0
    for image in images:
        number += 1
        if number > MOST_SLICES:
            raise BadSource(f"more than {MOST_SLICES} slices (a new store takes fewer by --slices)")
        yield image
    if not number:
        raise BadSource(NO_HEAD)


def _planes(recipe: Recipe, acquired: int) -> Sequence[int]:
    if recipe.plane == "all":
        return range(len(PLANES))
    return [acquired if recipe.plane == "acquired" else PLANES.index(recipe.plane)]


def _frame(volume: str, number: str, plane: int | None) -> str:
    return "-".join(part for part in (volume, "" if plane is None else PLANES[plane], number) if part)


def _notes(upright: Volume) -> tuple[str, ...]:
    """Say of a volume what whoever stores it should know."""
    return (
        *upright.notes,
        *(() if all(_are_believed(upright)) else (NOT_BELIEVED,)),
        *(() if upright.is_side_known else (SIDE_UNKNOWN,)),
    )


def _are_believed(upright: Volume) -> list[bool]:
    """Tell of each axis whether the distance of its voxels is believed."""
    spacing = spacing_mm(upright.affine)
    is_default = all(round(mm, 4) == 1 for mm in spacing)
    believed = []
    for axis, (mm, count) in enumerate(zip(spacing, upright.voxels.shape, strict=True)):
        may_be_short = axis == upright.acquired and (count == 1 or not is_default)
        band = (0.0, VIEW_MM[1]) if may_be_short else VIEW_MM
        believed.append(_is_in(mm, VOXEL_MM) and _is_in(mm * count, band))
    return believed


def _is_in(value: float, band: tuple[float, float]) -> bool:
    return band[0] <= value <= band[1]


def _stack(upright: Volume, plane: int, masks: UprightMasks) -> _Hung:
    """Hang the slices of a plane: rows and columns as at the head of this file."""
    axis = AXES[plane]
    down, across = ((1, 0), (2, 0), (2, 1))[plane]

    def hung(voxels: np.ndarray) -> np.ndarray:
        # Both run against RAS+ as they hang.
        return voxels.transpose(axis, down, across)[:, ::-1, ::-1]

    spacing = spacing_mm(upright.affine)
    believed = _are_believed(upright)
    return _Hung(
        plane=plane,
        pictures=hung(upright.voxels),
        brain=None if masks.brain is None else hung(masks.brain),
        lesion=None if masks.lesion is None else hung(masks.lesion),
        positions_mm=_positions_mm(upright, axis),
        pixel_mm=(
            (round(spacing[down], 4), round(spacing[across], 4))
            if believed[down] and believed[across]
            else (1.0, 1.0)
        ),
        affine=_affine_of_pictures(upright, axis, down, across),
    )


def _affine_of_pictures(upright: Volume, axis: int, down: int, across: int) -> np.ndarray:
    """Return where pixels lie, as in Stack: rows and columns run against the axes `down` and `across`."""
    last = np.zeros(3)
    for along in (down, across):
        last[along] = upright.voxels.shape[along] - 1
    columns = upright.affine[:3, :3]
    return np.column_stack([
        -columns[:, across], -columns[:, down], columns[:, axis], upright.affine[:3, 3] + columns @ last
    ])  # fmt: skip


def _positions_mm(upright: Volume, axis: int) -> list[float]:
    """Return where the middle of each slice lies along its axis of the patient, to 10 micrometres."""
    middle = (np.array(upright.voxels.shape) - 1) / 2
    middle[axis] = 0
    start = float(upright.affine[axis, :3] @ middle + upright.affine[axis, 3])
    step = float(upright.affine[axis, axis])
    return [round(start + number * step, 2) + 0.0 for number in range(upright.voxels.shape[axis])]


def _window(upright: Volume, brain: np.ndarray | None = None) -> Window | None:
    """Find the window of a volume; None: of one value. brain: where to look; None: everywhere."""
    voxels = upright.voxels
    if brain is not None:
        return exact_window(voxels[brain])
    # By the axes of the patient: it is the same along whichever slices were acquired.
    steps = (1, *(max(1, count // SAMPLED_PLANES) for count in voxels.shape[1:]))
    return exact_window(voxels[tuple(slice(None, None, step) for step in steps)])


def _window_in_steps(pictures: np.ndarray, brain: np.ndarray | None) -> Window | None:
    """Find it as in older stores. pictures: (n, h, w), as they were acquired; brain: as in _window."""
    histogram = Histogram()
    if brain is not None:
        histogram.add_rows(pictures[brain][np.newaxis], num_pictures=len(pictures))
        return histogram.window()
    step = math.ceil(len(pictures) / MOST_COUNTED)
    rows = np.stack([_some_rows(picture) for picture in pictures[::step]])
    # At once: numbers that are no words take a table of a million each time.
    histogram.add_rows(rows.reshape(-1, rows.shape[-1]), num_pictures=len(rows))
    return histogram.window()


def _some_rows(picture: np.ndarray) -> np.ndarray:
    return picture[:: max(1, len(picture) // SAMPLED_ROWS)]


def _in_numbers(volume: Volume) -> Volume:
    """Return a volume with its voxels as words, or as finite numbers; BadSource where they are not finite."""
    voxels = volume.voxels
    if voxels.dtype == np.uint16:
        return volume
    low, high = float(voxels.min()), float(voxels.max())
    notes = volume.notes
    if math.isnan(low) and not np.isnan(voxels).all():
        low, high = float(np.nanmin(voxels)), float(np.nanmax(voxels))
        voxels = np.nan_to_num(voxels, nan=low, posinf=high, neginf=low)
        notes = (*notes, NO_NUMBERS)
    if not (math.isfinite(low) and math.isfinite(high)):
        raise BadSource(NOT_FINITE)
    return replace(volume, voxels=in_words(voxels, low, high), notes=notes)


def _images(stack: _Hung, window: Window | None, recipe: Recipe) -> Iterator[NativeImage]:
    """Yield the slices of a stack that are kept, numbered as they lie in it."""
    shades = window.moved_aside() if window and recipe.has_exact_volumes else window
    if stack.brain is None:
        with_head = [number for number in range(len(stack)) if _has_head(stack.pictures[number], shades)]
    else:
        with_head = np.flatnonzero(stack.brain.any(axis=(1, 2))).tolist()
    left_out = len(stack) - len(with_head)
    if window is None:
        return
    place = Stack(affine=stack.affine, shape=stack.pictures.shape[1:], window=window)
    shown = with_head if recipe.without_lesion else [at for at in with_head if _may_be_lesion(stack, at)]
    for number in chosen(shown, recipe.slices):
        grey = _levels(stack.pictures[number], shades, recipe.bits)
        yield NativeImage(
            grey=_square_pixels(grey, stack.pixel_mm, recipe),
            has_levels=True,
            stack=place,
            frame=str(number),
            slice_index=number,
            position=stack.positions_mm[number],
            plane=stack.plane,
            label="" if _may_be_lesion(stack, number) else recipe.without_lesion,
            box=_box(stack, number),
            slices_left_out=left_out,
        )
        left_out = 0


def _may_be_lesion(stack: _Hung, number: int) -> bool:
    """Tell whether a slice shows a lesion, as far as a mask tells."""
    return stack.lesion is None or bool(stack.lesion[number].any())


def _box(stack: _Hung, number: int) -> Box:
    has_lesion = stack.lesion is not None and stack.lesion[number].any()
    return box_of(stack.lesion[number]) if has_lesion and stack.lesion is not None else NO_BOX


def _levels(picture: np.ndarray, window: Window | None, bits: int = 8) -> np.ndarray:
    return levels_of(np.ascontiguousarray(picture), window, bits)


def _has_head(picture: np.ndarray, window: Window | None) -> bool:
    return window is not None and shows_head(Sample(pixels=_levels(_some_rows(picture), window)))


def chosen(numbers: Sequence[int], slices: str) -> Sequence[int]:
    """Pick slices as the recipe says: all, middle:N, every:N."""
    word, _colon, count = slices.partition(":")
    if word == "middle":
        start = max(0, (len(numbers) - int(count)) // 2)
        return numbers[start : start + int(count)]
    return numbers[:: int(count)] if word == "every" else numbers


def _square_pixels(grey: np.ndarray, pixel_mm: tuple[float, float], recipe: Recipe) -> np.ndarray:
    """Resize a slice so that its pixels are square, as large as it is wanted: levels, (h, w)."""
    high, wide = pixel_mm
    if recipe.fit == "stretch" or abs(high - wide) <= NEARLY_SQUARE * min(high, wide):
        return grey
    height_mm, width_mm = grey.shape[0] * high, grey.shape[1] * wide
    longest_mm = max(height_mm, width_mm)
    height = max(1, round(height_mm * recipe.size / longest_mm))
    width = max(1, round(width_mm * recipe.size / longest_mm))
    # Shrinking first: what is averaged and what is enlarged are two rules of OpenCV's.
    grey = _resized(grey, min(height, grey.shape[0]), min(width, grey.shape[1]), cv2.INTER_AREA)
    return _resized(grey, height, width, cv2.INTER_LINEAR)


def _resized(grey: np.ndarray, height: int, width: int, how: int) -> np.ndarray:
    return grey if grey.shape == (height, width) else cv2.resize(grey, (width, height), interpolation=how)
