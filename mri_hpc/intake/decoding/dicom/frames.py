"""Frames: the slices in a file, each with its geometry, its scale and its kind.

- Of a classic file the one that it holds.
- Of a multi-frame file what its functional groups say, of all frames or of each.
- Of a UIH mosaic the tiles, row by row, each where its private header places it.
- Of a Siemens mosaic the tiles, row by row. The header places the whole picture by its first pixel, as if it
  were one slice about the same centre; the slices follow each other along the private header's normal.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from mri_hpc.base.errors import BadSource
from mri_hpc.intake.decoding.dicom.csa import Mosaic, read_csa
from mri_hpc.intake.decoding.dicom.elements import DAMAGED_DICOM, Elements, Private, Tag
from mri_hpc.intake.decoding.dicom.header import Geometry, Header, Kind, Scale, Values, decimals, whole
from mri_hpc.intake.decoding.dicom.walk import items_of
from mri_hpc.intake.decoding.foreign import NOT_READ_YET

if TYPE_CHECKING:
    from pydicom import Dataset

NO_MOSAIC_HEADER = "mosaic without its private header: how many slices it holds, and which way, is not told"
NO_GRID_HEADER = f"{NOT_READ_YET}: mosaic of UIH without its frames' places (export it as single slices)"
MOST_TILES = 2**12
"""Slices of a mosaic: of more, room would be taken by the word of a header."""
TABLE = f"{NOT_READ_YET}: grey values by a table (Modality LUT)"


@dataclass(frozen=True, kw_only=True)
class Tile:
    """The part of a mosaic that is one slice."""

    top: int
    left: int
    rows: int
    columns: int


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One slice of a file."""

    file: int
    """Number of the file among those of the series."""
    number: int
    """Position in the file, from 0."""
    rows: int
    columns: int
    geometry: Geometry
    scale: Scale
    kind: Kind
    tile: Tile | None = None


def frames_of(elements: Elements, header: Header, file: int = 0) -> list[Frame]:
    """List the slices in a file; BadSource where nothing tells where they are."""
    if header.scale.has_table:
        raise BadSource(TABLE)
    layout = header.format
    whole_file = Frame(
        file=file, number=0, rows=layout.rows, columns=layout.columns,
        geometry=header.geometry, scale=header.scale, kind=header.kind,
    )  # fmt: skip
    if elements.sequences.get(Tag.PER_FRAME_GROUPS):
        return _of_groups(elements, whole_file, layout.num_frames)
    if "MOSAIC" in header.kind.image_type:
        return _of_mosaic(elements, header, whole_file)
    if "VFRAME" in header.kind.image_type or elements.private.get(Private.UIH_GRID_FRAMES):
        return _of_grid(elements, header, whole_file)
    if layout.num_frames > 1:
        raise BadSource("several frames, and nothing tells where each lies")
    return [whole_file]


def _of_mosaic(elements: Elements, header: Header, picture: Frame) -> list[Frame]:
    values = Values(elements)
    csa = values.private(Private.CSA_IMAGE)
    mosaic = read_csa(csa) if csa else Mosaic(count=0, normal=())
    of_scanner = values.private_number(Private.MOSAIC_COUNT)
    count = int(of_scanner) if math.isfinite(of_scanner) else mosaic.count
    geometry = header.geometry
    if (
        not 1 <= count <= MOST_TILES
        or not mosaic.normal
        or not (geometry.position and geometry.orientation and geometry.spacing)
    ):
        raise BadSource(NO_MOSAIC_HEADER)
    side = math.ceil(math.sqrt(count))
    rows, columns = picture.rows // side, picture.columns // side
    if rows < 1 or columns < 1 or not geometry.between > 0:
        raise BadSource(NO_MOSAIC_HEADER)
    across, down = np.array(geometry.orientation[:3]), np.array(geometry.orientation[3:])
    normal = np.cross(across, down)
    if normal @ np.array(mosaic.normal) < 0:
        normal = -normal
    first = (
        np.array(geometry.position)
        + across * geometry.spacing[1] * (picture.columns - columns) / 2
        + down * geometry.spacing[0] * (picture.rows - rows) / 2
    )
    # Each mosaic is a volume of its own.
    own = _volume_of(header, picture)
    frames = []
    for number in range(count):
        row, column = divmod(number, side)
        position = first + normal * geometry.between * number
        frames.append(
            replace(
                picture,
                rows=rows,
                columns=columns,
                geometry=replace(geometry, position=tuple(position.tolist())),
                kind=replace(picture.kind, stack=own),
                tile=Tile(top=row * rows, left=column * columns, rows=rows, columns=columns),
            )
        )
    return frames


def _of_grid(elements: Elements, header: Header, picture: Frame) -> list[Frame]:
    """Part a mosaic of UIH: its private header places the first pixel of each slice."""
    items = items_of(elements.private.get(Private.UIH_GRID_FRAMES, b""), elements.syntax)
    texts = [item.get(Tag.POSITION, b"").rstrip(b"\0 ").decode("ascii", "replace") for item in items]
    positions = [whole(decimals(text.split("\\")), 3) for text in texts]
    count = Values(elements).private_number(Private.UIH_GRID_COUNT)
    if not positions or not all(positions) or (math.isfinite(count) and count != len(positions)):
        raise BadSource(NO_GRID_HEADER)
    side = math.ceil(math.sqrt(len(positions)))
    # Rows of tiles that would be empty are left out, as in files that dcm2niix reads.
    tiles_down = next((n for n in (math.ceil(len(positions) / side), side) if picture.rows % n == 0), 0)
    if not tiles_down or picture.rows < tiles_down or picture.columns < side:
        raise BadSource(NO_GRID_HEADER)
    rows, columns = picture.rows // tiles_down, picture.columns // side
    own = _volume_of(header, picture)
    return [
        replace(
            picture,
            rows=rows,
            columns=columns,
            geometry=replace(header.geometry, position=position),
            kind=replace(picture.kind, stack=own),
            tile=Tile(top=number // side * rows, left=number % side * columns, rows=rows, columns=columns),
        )
        for number, position in enumerate(positions)
    ]


def _volume_of(header: Header, picture: Frame) -> str:
    """Name the volume that a mosaic is; by name they come in the order in which they were acquired."""
    when = f"{_digits(header.kind.acquisition)} {_digits(header.kind.acquisition_time)}"
    return f"{when} {header.instance} {picture.file:06d}"


def _digits(number: float) -> str:
    return f"{number:018.6f}" if math.isfinite(number) else ""


def _of_groups(elements: Elements, whole_file: Frame, num_frames: int) -> list[Frame]:
    each = elements.sequences[Tag.PER_FRAME_GROUPS]
    shared = next(iter(elements.sequences.get(Tag.SHARED_GROUPS, ())), None)
    if len(each) != num_frames:
        raise BadSource(DAMAGED_DICOM)
    try:
        return [_frame_of_groups(Groups(own, shared), whole_file, number) for number, own in enumerate(each)]
    except (ValueError, TypeError, AttributeError, KeyError, NotImplementedError, OverflowError):
        raise BadSource(DAMAGED_DICOM) from None


def first_frame_of(elements: Elements) -> "Groups":
    """Return the functional groups of the first frame; of a file that has none, empty ones."""
    own, shared = (
        next(iter(elements.sequences.get(tag, ())), None) for tag in (Tag.PER_FRAME_GROUPS, Tag.SHARED_GROUPS)
    )
    return Groups(own, shared)


class Groups:
    """The functional groups of one frame: its own before those of all."""

    def __init__(self, own: "Dataset | None", shared: "Dataset | None") -> None:
        self._items = [item for item in (own, shared) if item is not None]

    def numbers(self, group: str, name: str) -> tuple[float, ...]:
        """Return the numbers of an element; none where it is missing or empty."""
        value = self._value(group, name)
        if value is None or value == "":
            return ()
        many = value if isinstance(value, Sequence) and not isinstance(value, str) else (value,)
        return tuple(float(part) for part in many)

    def number(self, group: str, name: str, default: float = math.nan) -> float:
        """Return the number of an element."""
        return next(iter(self.numbers(group, name)), default)

    def texts(self, group: str, name: str) -> tuple[str, ...]:
        """Return the parts of a text."""
        value = self._value(group, name)
        if value is None or value == "":
            return ()
        return (value,) if isinstance(value, str) else tuple(map(str, value))

    def _value(self, group: str, name: str) -> Any:
        for item in self._items:
            found = item.get(group)
            if found:
                return found[0].get(name)
        return None

    def gradient(self) -> tuple[float, ...]:
        """Return the direction of diffusion; empty where there is none."""
        for item in self._items:
            found = item.get("MRDiffusionSequence")
            if found:
                directions = found[0].get("DiffusionGradientDirectionSequence")
                return (
                    tuple(map(float, directions[0].get("DiffusionGradientOrientation") or ()))
                    if directions
                    else ()
                )
        return ()


def _frame_of_groups(groups: Groups, whole_file: Frame, number: int) -> Frame:
    of_file = whole_file.geometry
    geometry = Geometry(
        position=whole(groups.numbers("PlanePositionSequence", "ImagePositionPatient"), 3),
        orientation=whole(groups.numbers("PlaneOrientationSequence", "ImageOrientationPatient"), 6),
        spacing=whole(groups.numbers("PixelMeasuresSequence", "PixelSpacing"), 2) or of_file.spacing,
        thickness=groups.number("PixelMeasuresSequence", "SliceThickness", of_file.thickness),
        between=abs(groups.number("PixelMeasuresSequence", "SpacingBetweenSlices", of_file.between)),
    )
    slope = groups.number("PixelValueTransformationSequence", "RescaleSlope", whole_file.scale.slope)
    intercept = groups.number(
        "PixelValueTransformationSequence", "RescaleIntercept", whole_file.scale.intercept
    )
    return replace(
        whole_file,
        number=number,
        geometry=geometry,
        scale=Scale(slope=slope or 1.0, intercept=intercept),
        kind=_kind_of_groups(groups, whole_file.kind),
    )


def _kind_of_groups(groups: Groups, of_file: Kind) -> Kind:
    image_type = groups.texts("MRImageFrameTypeSequence", "FrameType") or of_file.image_type
    component = groups.texts("MRImageFrameTypeSequence", "ComplexImageComponent")
    return Kind(
        image_type=tuple(part.upper() for part in image_type),
        component=component[0].upper() if component else of_file.component,
        echo_time=groups.number("MREchoSequence", "EffectiveEchoTime", of_file.echo_time),
        b_value=groups.number("MRDiffusionSequence", "DiffusionBValue", of_file.b_value),
        gradient=groups.gradient(),
        inversion_time=groups.number("MRModifierSequence", "InversionTimes", of_file.inversion_time),
        temporal_position=groups.number("FrameContentSequence", "TemporalPositionIndex"),
        acquisition=groups.number("FrameContentSequence", "FrameAcquisitionNumber"),
        trigger_time=groups.number("CardiacSynchronizationSequence", "NominalCardiacTriggerDelayTime"),
        stack="".join(groups.texts("FrameContentSequence", "StackID")),
    )
