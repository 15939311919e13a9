"""Headers of NIfTI-1, NIfTI-2, Analyze 7.5 and MGH; and NIfTI written. The only user of nibabel.

- Of NIfTI the sform is taken where its code is above 0, else the qform; that both are there and differ is
  said. With both codes 0 left and right are not told.
- A slope and an intercept would only move the window of grey values with these, so that they stay as they lie
  in the file. A negative slope alone counts, which turns black and white around; and of masks the number that
  stands for 0.
- Of Analyze 7.5 the distance of voxels is taken alone: programs differ in what its orientation means.
"""

import math
import struct
import zlib

import numpy as np

from mri_hpc.base.errors import BadSource
from mri_hpc.intake.decoding.volumes.geometry import corners_mm
from mri_hpc.intake.decoding.volumes.layout import (
    DAMAGED_HEADER,
    MOST_OFFSET,
    OTHER_DIMENSIONS,
    PLAIN,
    Layout,
    VolumeHeader,
    acquired_axis,
    checked_shape,
    plain_numbers,
    untold_affine,
)
from mri_hpc.intake.files.content import GZIP, START_BYTES

# To zlib: a gzip header comes first.
WITH_HEADER = 31
NIFTI1_BYTES, NIFTI2_BYTES, MGH_BYTES = 348, 540, 284
SINGLE_1, PAIR_1 = b"n+1\0", b"ni1\0"
SINGLE_2, PAIR_2 = b"n+2\0\r\n\x1a\n", b"ni2\0\r\n\x1a\n"
MGH_VERSION, MGH_TYPES = b"\0\0\0\x01", (0, 1, 3, 4)
APART_MM = 1.0
BESIDE = Layout(num_files=1)

FORMS_DIFFER = f"sform and qform lie more than {APART_MM:g} mm apart: the sform is taken"


def unzipped(start: bytes) -> bytes:
    """Return first bytes of a file as they are without gzip; nothing where that is damaged."""
    if not start.startswith(GZIP):
        return start
    try:
        return zlib.decompressobj(wbits=WITH_HEADER).decompress(start, START_BYTES)
    except zlib.error:
        return b""


def is_volume(start: bytes) -> bool:
    """Tell whether a file is a volume of a format read here, by its first bytes, unzipped."""
    return _is_nifti_1(start) or _is_nifti_2(start) or _is_mgh(start) or _is_analyze(start)


def read_header(start: bytes) -> VolumeHeader:
    """Read the header of a volume. start: its first bytes, unzipped; BadSource says why it cannot be."""
    if _is_mgh(start):
        return _mgh_header(start)
    if _is_analyze(start):
        return _analyze_header(start)
    return _nifti_header(start)


def is_pair(start: bytes) -> bool:
    """Tell whether first bytes, unzipped, are those of a header whose voxels lie in a file beside it."""
    return start[344:348] == PAIR_1 or start[4:12] == PAIR_2 or _is_analyze(start)


def _is_nifti_1(start: bytes) -> bool:
    return start[344:348] in (SINGLE_1, PAIR_1)


def _is_nifti_2(start: bytes) -> bool:
    return start[4:12] in (SINGLE_2, PAIR_2)


def _is_analyze(start: bytes) -> bool:
    is_whole = len(start) == NIFTI1_BYTES and start[:4] in (b"\x5c\1\0\0", b"\0\0\1\x5c")
    return is_whole and not _is_nifti_1(start)


def _is_mgh(start: bytes) -> bool:
    if len(start) < MGH_BYTES or not start.startswith(MGH_VERSION):
        return False
    *shape, kind = struct.unpack(">5i", start[4:24])
    return kind in MGH_TYPES and all(0 < length < 2**20 for length in shape)


def _nifti_header(start: bytes) -> VolumeHeader:
    from nibabel.nifti1 import Nifti1Header
    from nibabel.nifti2 import Nifti2Header
    from nibabel.spatialimages import HeaderDataError

    kind: type[Nifti1Header] = Nifti2Header if _is_nifti_2(start) else Nifti1Header
    length = NIFTI2_BYTES if _is_nifti_2(start) else NIFTI1_BYTES
    if len(start) < length:
        raise BadSource(DAMAGED_HEADER)
    try:
        header = kind(start[:length], check=False)
        dtype = header.get_data_dtype()
        sform, qform = header.get_sform(coded=True)[0], header.get_qform(coded=True)[0]
    except (HeaderDataError, ValueError, KeyError, ArithmeticError):
        raise BadSource(DAMAGED_HEADER) from None
    shape, num_volumes = _nifti_shape([int(length) for length in header["dim"]])
    affine = sform if sform is not None else qform
    notes = (
        (FORMS_DIFFER,) if sform is not None and qform is not None and _differ(sform, qform, shape) else ()
    )
    is_side_known = affine is not None
    if affine is None:
        affine = untold_affine(header["pixdim"][1:4], shape)
    slope, intercept = float(header["scl_slope"]), float(header["scl_inter"])
    is_scaled = math.isfinite(slope) and slope != 0
    return VolumeHeader(
        shape=shape,
        num_volumes=num_volumes,
        dtype=plain_numbers(dtype),
        offset=_offset(float(header["vox_offset"]), 0 if is_pair(start) else length + 4),
        affine=np.asarray(affine, np.float64),
        acquired=acquired_axis(_named_slice_axis(int(header["dim_info"])), affine, shape),
        is_side_known=is_side_known,
        notes=notes,
        is_inverted=is_scaled and slope < 0,
        zero=-intercept / abs(slope) if is_scaled and math.isfinite(intercept) else 0.0,
        layout=BESIDE if is_pair(start) else PLAIN,
    )


def _analyze_header(start: bytes) -> VolumeHeader:
    from nibabel.spatialimages import HeaderDataError
    from nibabel.spm99analyze import Spm99AnalyzeHeader

    try:
        header = Spm99AnalyzeHeader(start[:NIFTI1_BYTES], check=False)
        dtype = header.get_data_dtype()
    except (HeaderDataError, ValueError, KeyError, ArithmeticError):
        raise BadSource(DAMAGED_HEADER) from None
    shape, num_volumes = _nifti_shape([int(length) for length in header["dim"]])
    affine = untold_affine(header["pixdim"][1:4], shape)
    return VolumeHeader(
        shape=shape,
        num_volumes=num_volumes,
        dtype=plain_numbers(dtype),
        offset=_offset(float(header["vox_offset"]), 0),
        affine=affine,
        acquired=acquired_axis(None, affine, shape),
        is_side_known=False,
        layout=BESIDE,
    )


def _nifti_shape(dim: list[int]) -> tuple[tuple[int, int, int], int]:
    """Return the shape of a volume, and how many there are. dim: as in the header."""
    num_axes, lengths = dim[0], dim[1 : dim[0] + 1]
    if not 2 <= num_axes <= 7 or not all(0 < length < 2**31 for length in lengths):
        raise BadSource(DAMAGED_HEADER)
    if math.prod(lengths[4:]) > 1:
        raise BadSource(OTHER_DIMENSIONS)
    x, y, z, volumes, *_rest = [*lengths, 1, 1, 1]
    return checked_shape((x, y, z), volumes)


def _offset(given: float, least: int) -> int:
    if not math.isfinite(given) or given > MOST_OFFSET:
        raise BadSource(DAMAGED_HEADER)
    return max(int(given), least)


def _differ(sform: np.ndarray, qform: np.ndarray, shape: tuple[int, int, int]) -> bool:
    """Tell whether any corner of a volume lies elsewhere by one than by the other."""
    apart = sform - qform
    if not np.isfinite(apart).all():
        return True
    return bool(np.linalg.norm(corners_mm(apart, shape), axis=0).max() > APART_MM)


def _named_slice_axis(dim_info: int) -> int | None:
    axis = (dim_info >> 4) & 3
    return axis - 1 if axis else None


def _mgh_header(start: bytes) -> VolumeHeader:
    from nibabel.freesurfer.mghformat import MGHHeader
    from nibabel.spatialimages import HeaderDataError

    try:
        header = MGHHeader(start[:MGH_BYTES], check=False)
        affine = header.get_affine()
        dtype = header.get_data_dtype()
    except (HeaderDataError, ValueError, KeyError, ArithmeticError):
        raise BadSource(DAMAGED_HEADER) from None
    x, y, z, volumes = (int(length) for length in header["dims"])
    return VolumeHeader(
        shape=(x, y, z),
        num_volumes=volumes,
        dtype=plain_numbers(dtype),
        offset=MGH_BYTES,
        affine=np.asarray(affine, np.float64),
        acquired=acquired_axis(None, affine, (x, y, z)),
        is_side_known=int(header["goodRASFlag"]) > 0,
    )


def nifti_bytes(voxels: np.ndarray, affine: np.ndarray, *, is_side_known: bool, description: str) -> bytes:
    """Write a volume as NIfTI-1, its axes exchanged and reversed to RAS+. affine: float64, (4, 4), RAS+.

    Where the side is not known both codes are 0, so that no reader takes left and right as told.
    """
    from nibabel.funcs import as_closest_canonical
    from nibabel.nifti1 import Nifti1Image

    image = as_closest_canonical(Nifti1Image(voxels, affine))
    code = int(is_side_known)
    image.header["descrip"] = description.encode()
    image.header.set_xyzt_units("mm")
    placed = image.affine
    image.set_qform(placed, code)
    # A quaternion turns and stretches, and says nothing of a shear.
    if not np.allclose(image.get_qform(), placed, atol=1e-3):
        image.set_qform(None, 0)
    image.set_sform(placed, code)
    written: bytes = image.to_bytes()
    return written
