"""A series: the volumes that its files hold. Geometry tells the order of slices, never a name or a number.

What makes a volume: how slices lie, their size, the stack, the kind of picture (magnitude, phase, image
type), the echo, the inversion and the diffusion. Where one of these still holds slices in one place, the
first of DISTINGUISHING that tells them apart does.
"""

import datetime
import functools
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np

from mri_hpc.base.errors import BadSource
from mri_hpc.intake.decoding.burnt_in import BURNT_IN, shows_text
from mri_hpc.intake.decoding.dicom.dates import date_of
from mri_hpc.intake.decoding.dicom.deidentification import statements_of
from mri_hpc.intake.decoding.dicom.elements import Elements, Tag
from mri_hpc.intake.decoding.dicom.frames import Frame, frames_of
from mri_hpc.intake.decoding.dicom.header import Kind, PixelFormat, header_of
from mri_hpc.intake.decoding.dicom.pixels import WHITE_IS_LEAST, FramePixels
from mri_hpc.intake.decoding.dicom.reader import read_elements
from mri_hpc.intake.decoding.dicom.screening import check_is_mr
from mri_hpc.intake.decoding.volumes.volume import Volume
from mri_hpc.intake.files.content import MAX_BYTES, TOO_LARGE, LargeFile

LOCALISER = "localiser: a few slices across each other, to plan others by"
MOST_OF_LOCALISER = 9
"""Slices of one direction, where there are several directions."""
MISSING = "missing slice: {} of {} places in a row of slices are empty"
DOUBLED = "doubled slice: two in one place, and nothing tells them apart"
UNEVEN = "slices that are not evenly spaced"
CROOKED = "slices that do not lie in a row"
INVERTED = "grey values inverted: their least one is white, as the header says (MONOCHROME1)"
OTHER_FORM = "the same slices in classic and in enhanced files: the enhanced ones are taken"
NOT_PLACED = "slices without a place: their order is not told"
UNEVEN_PART, UNEVEN_MM = 0.05, 0.02
"""The difference that a step from slice to slice may have: of the step, and in any case."""
CROOKED_MM = 0.1
SAME_PLACE_MM = 0.01
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])

Key = TypeVar("Key", float, tuple[object, ...])


@dataclass(frozen=True, kw_only=True, eq=False)
class File:
    """One file of a series, as far as it has been read."""

    source: bytes | LargeFile
    statements: frozenset[str]
    """Of its own de-identification."""
    date: datetime.date | None = field(repr=False)
    layout: PixelFormat
    is_enhanced: bool
    """True where functional groups place its frames."""
    frames: list[Frame]
    elements: Elements | None
    """None of one that stays on the disk: it is read again for its pixels."""


class SeriesPixels:
    """Reads frames of a series; of files that stay on the disk, one at a time is in memory."""

    def __init__(self, files: Sequence[File]) -> None:
        self._files = files
        self._opened: dict[int, FramePixels] = {}
        self._shows_text: dict[tuple[int, int], bool] = {}

    def is_inverted(self, frame: Frame) -> bool:
        """Tell whether the least value of a frame was white."""
        return self._files[frame.file].layout.photometric == WHITE_IS_LEAST

    def read(self, frame: Frame) -> np.ndarray:
        """Return the values of a frame: (rows, columns)."""
        if frame.file not in self._opened:
            file = self._files[frame.file]
            if file.elements is None:
                self._opened = {}
            elements = file.elements or read_elements(_bytes_of(file.source))
            self._opened[frame.file] = FramePixels(elements, file.layout)
        values = self._opened[frame.file].read(frame.number)
        if (place := (frame.file, frame.number)) not in self._shows_text:
            # All of a mosaic, in which text may lie across the tiles.
            tile_rows = frame.tile.rows if frame.tile else 0
            self._shows_text[place] = shows_text(values, tile_rows=tile_rows)
        return values

    def shows_text(self, frame: Frame) -> bool:
        """Tell whether text seems to be burnt into a frame that was read."""
        return self._shows_text[frame.file, frame.number]


def volumes_in(files: Sequence[bytes | LargeFile]) -> Iterator[Volume]:
    """Yield the volumes of a series, in an order that is always the same; BadSource: why there are none."""
    read = [_read(source, number) for number, source in enumerate(files)]
    copies = _classic_copies(read)
    groups = grouped([frame for file in read if file not in copies for frame in file.frames])
    pixels = SeriesPixels(read)
    statements = frozenset.intersection(*(file.statements for file in read))
    first = min((file.date for file in read if file.date), default=None)
    for number, group in enumerate(groups):
        volume = _volume(group, pixels, f"v{number:03d}" if len(groups) > 1 else "")
        notes = (*volume.notes, *((OTHER_FORM,) if copies else ()))
        yield replace(volume, notes=notes, statements=statements, date=first)


def _classic_copies(files: Sequence[File]) -> frozenset[File]:
    """Return the classic files of a series that a scanner wrote in both forms; none where slices differ."""
    if len({file.is_enhanced for file in files}) == 1:
        return frozenset()
    enhanced, classic = ([file for file in files if file.is_enhanced is which] for which in (True, False))
    there, again = (
        Counter(_measured(frame) for file in of for frame in file.frames) for of in (enhanced, classic)
    )
    return frozenset(classic if there == again else ())


def _measured(frame: Frame) -> tuple[object, ...]:
    """Return what both forms of a slice have in common."""
    place = (_rounded(frame.geometry.position, 2), _rounded(frame.geometry.orientation, 3))
    b_value = frame.kind.b_value if frame.kind.b_value > 0 else 0.0
    return (*place, frame.rows, frame.columns, _sortable(frame.kind.echo_time), round(b_value, 3))


def _read(source: bytes | LargeFile, number: int) -> File:
    elements = read_elements(_bytes_of(source))
    header = header_of(elements)
    check_is_mr(header)
    return File(
        source=source,
        statements=statements_of(elements),
        date=date_of(elements),
        layout=header.format,
        is_enhanced=bool(elements.sequences.get(Tag.PER_FRAME_GROUPS)),
        frames=frames_of(elements, header, number),
        elements=elements if isinstance(source, bytes) else None,
    )


def _bytes_of(source: bytes | LargeFile) -> bytes:
    if isinstance(source, bytes):
        return source
    if source.look.size > MAX_BYTES:
        raise BadSource(TOO_LARGE)
    with source.opened() as file:
        return file.read()


def grouped(frames: Sequence[Frame]) -> list[list[Frame]]:
    """Group slices into volumes, those of each in a row; BadSource where they are no volumes."""
    by_kind = _by(frames, _makes_volume)
    _check_no_localiser(by_kind)
    volumes = [part for group in by_kind for part in _distinguished(group)]
    return [_in_a_row(volume) for volume in volumes]


def _by(frames: Sequence[Frame], key: Callable[[Frame], Key]) -> list[list[Frame]]:
    """Group by a key, in its order."""
    found: dict[Key, list[Frame]] = {}
    for frame in frames:
        found.setdefault(key(frame), []).append(frame)
    return [found[name] for name in sorted(found)]


def _makes_volume(frame: Frame) -> tuple[object, ...]:
    kind = frame.kind
    return (
        _rounded(frame.geometry.orientation, 3),
        (frame.rows, frame.columns, *_rounded(frame.geometry.spacing, 4)),
        kind.stack,
        kind.image_type,
        kind.component,
        *(_sortable(number) for number in (kind.echo_time, kind.inversion_time, kind.b_value)),
        _rounded(kind.gradient, 3),
    )


DISTINGUISHING: tuple[Callable[[Kind], float], ...] = (
    lambda kind: kind.temporal_position,
    lambda kind: kind.acquisition,
    lambda kind: kind.trigger_time,
    lambda kind: kind.echo_number,
    lambda kind: kind.acquisition_time,
)


def _distinguished(group: list[Frame]) -> list[list[Frame]]:
    """Part slices of one kind that lie in one place; BadSource where nothing tells which belong together."""
    if len(group) > 1 and not all(_is_placed(frame) for frame in group):
        raise BadSource(NOT_PLACED)
    if not _is_doubled(group):
        return [group]
    for number_of in DISTINGUISHING:
        parts = _by(group, functools.partial(_number, number_of))
        if len(parts) > 1 and not any(map(_is_doubled, parts)) and len({len(part) for part in parts}) == 1:
            return parts
    raise BadSource(DOUBLED)


def _number(number_of: Callable[[Kind], float], frame: Frame) -> float:
    return _sortable(number_of(frame.kind))


def _is_placed(frame: Frame) -> bool:
    return bool(frame.geometry.position and frame.geometry.orientation and frame.geometry.spacing)


def _is_doubled(group: Sequence[Frame]) -> bool:
    places = [_rounded(frame.geometry.position, 2) for frame in group]
    return len(set(places)) < len(places)


def _check_no_localiser(groups: Sequence[Sequence[Frame]]) -> None:
    normals = {}
    counts: dict[tuple[float, ...], int] = {}
    for group in groups:
        orientation = _rounded(group[0].geometry.orientation, 3)
        if orientation:
            normals[orientation] = _normal(group[0])
            counts[orientation] = counts.get(orientation, 0) + len(group)
    across = any(abs(float(a @ b)) < 0.5 for a in normals.values() for b in normals.values())
    if across and max(counts.values()) <= MOST_OF_LOCALISER:
        raise BadSource(LOCALISER)


def _normal(frame: Frame) -> np.ndarray:
    normal = np.cross(frame.geometry.orientation[:3], frame.geometry.orientation[3:])
    length = float(np.linalg.norm(normal))
    if not length > 0.5:
        raise BadSource(NOT_PLACED)
    return normal / length


def _in_a_row(group: list[Frame]) -> list[Frame]:
    """Order the slices of a volume along their normal; BadSource where they make no volume."""
    if len(group) == 1:
        return group
    along = np.array([frame.geometry.position for frame in group]) @ _normal(group[0])
    order = np.argsort(along, kind="stable")
    _check_steps(np.diff(along[order]))
    row = [group[number] for number in order.tolist()]
    _check_straight(row)
    return row


def _check_steps(steps: np.ndarray) -> None:
    usual = float(np.median(steps))
    if steps.min() < SAME_PLACE_MM or usual < SAME_PLACE_MM:
        raise BadSource(DOUBLED)
    off = np.abs(steps - usual) > max(UNEVEN_MM, UNEVEN_PART * usual)
    if not off.any():
        return
    places = np.rint(steps / usual)
    are_whole = np.abs(steps - places * usual) <= np.maximum(UNEVEN_MM, UNEVEN_PART * usual) * places
    if (are_whole & (places >= 1)).all():
        total = int(places.sum()) + 1
        raise BadSource(MISSING.format(total - len(steps) - 1, total))
    raise BadSource(UNEVEN)


def _check_straight(row: Sequence[Frame]) -> None:
    positions = np.array([frame.geometry.position for frame in row])
    line = positions[0] + np.linspace(0, 1, len(row))[:, np.newaxis] * (positions[-1] - positions[0])
    if np.abs(positions - line).max() > max(CROOKED_MM, UNEVEN_PART * _step(row)):
        raise BadSource(CROOKED)


def _step(row: Sequence[Frame]) -> float:
    """Return the distance of slices in mm: of one alone as the file says, else its thickness, else 1."""
    if len(row) > 1:
        ends = np.array(row[-1].geometry.position) - np.array(row[0].geometry.position)
        return float(np.linalg.norm(ends)) / (len(row) - 1)
    geometry = row[0].geometry
    return next((mm for mm in (geometry.between, geometry.thickness) if mm > 0 and math.isfinite(mm)), 1.0)


def _volume(row: Sequence[Frame], pixels: SeriesPixels, name: str) -> Volume:
    stack = _stack(row, pixels)
    # Pictures are counted by rows: the first axis of voxels runs along a row.
    return Volume(
        voxels=stack.transpose(2, 1, 0),
        affine=_affine(row),
        acquired=2,
        is_side_known=bool(row[0].geometry.orientation and row[0].geometry.position),
        name=name,
        notes=(
            *((INVERTED,) if any(pixels.is_inverted(frame) for frame in row) else ()),
            *((BURNT_IN,) if any(pixels.shows_text(frame) for frame in row) else ()),
        ),
    )


def _affine(row: Sequence[Frame]) -> np.ndarray:
    geometry = row[0].geometry
    affine = np.eye(4)
    spacing = geometry.spacing or (1.0, 1.0)
    orientation = geometry.orientation or (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
    across, down = np.array(orientation[:3]), np.array(orientation[3:])
    affine[:3, 0], affine[:3, 1] = across * spacing[1], down * spacing[0]
    if len(row) > 1:
        affine[:3, 2] = (np.array(row[-1].geometry.position) - np.array(geometry.position)) / (len(row) - 1)
    else:
        affine[:3, 2] = np.cross(across, down) * _step(row)
    affine[:3, 3] = geometry.position or (0.0, 0.0, 0.0)
    return LPS_TO_RAS @ affine


def _stack(row: Sequence[Frame], pixels: SeriesPixels) -> np.ndarray:
    """Return (slices, rows, columns): integers as stored, or float32 where any slice is scaled."""
    are_scaled = any(frame.scale.slope != 1 or frame.scale.intercept != 0 for frame in row)
    stack: np.ndarray | None = None
    for number, frame in enumerate(row):
        values = _cut(pixels.read(frame), frame)
        if are_scaled:
            values = (values * frame.scale.slope + frame.scale.intercept).astype(np.float32)
        if len(row) == 1:
            return values[np.newaxis]
        if stack is None:
            stack = np.empty((len(row), *values.shape), values.dtype)
        elif stack.dtype != values.dtype:
            stack = stack.astype(np.promote_types(stack.dtype, values.dtype))
        stack[number] = values
    assert stack is not None
    return stack


def _cut(picture: np.ndarray, frame: Frame) -> np.ndarray:
    tile = frame.tile
    if tile is None:
        return picture
    return picture[tile.top : tile.top + tile.rows, tile.left : tile.left + tile.columns]


def _rounded(numbers: Sequence[float], digits: int) -> tuple[float, ...]:
    # Adding nothing makes one zero of two.
    return tuple(round(number, digits) + 0.0 for number in numbers)


def _sortable(number: float) -> float:
    return round(number, 3) if math.isfinite(number) else -math.inf
