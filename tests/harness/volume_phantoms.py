"""A head as a volume, its axes in any order and direction, and files of it."""

import gzip
import io
import itertools
import zlib
from typing import Any

import nibabel
import numpy as np

SHAPE, SPACING_MM = (40, 48, 22), (4.0, 4.0, 6.0)
FRONT, RIGHT, TOP = (slice(17, 23), slice(40, 46)), (slice(31, 37), slice(20, 28)), slice(15, 19)
VARIANTS = [
    (order, flips)
    for order in itertools.permutations(range(3))
    for flips in itertools.product((False, True), repeat=3)
]
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])


def head(shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    """Make a head in RAS+, int16, brighter at a nose in front, an ear at the right, and a spot on top."""
    axes = np.meshgrid(*(np.linspace(-1, 1, count) for count in shape), indexing="ij")
    ball = sum(axis**2 for axis in axes) < 0.7
    voxels = np.where(ball, 400 + 150 * axes[0] + 100 * axes[2], 3 + 2 * axes[1])
    voxels[(*FRONT, slice(7, 14))] = 900
    voxels[(*RIGHT, slice(8, 13))] = 1400
    voxels[16:24, 20:28, TOP] = 1100
    return voxels.astype(np.int16)


def affine_of(
    shape: tuple[int, ...] = SHAPE, spacing_mm: tuple[float, float, float] = SPACING_MM
) -> np.ndarray:
    """Return the affine of a head with the origin in its middle."""
    affine = np.diag([*spacing_mm, 1.0])
    affine[:3, 3] = -np.array(spacing_mm) * (np.array(shape) - 1) / 2
    return affine


def variant(
    voxels: np.ndarray, affine: np.ndarray, order: tuple[int, ...], flips: tuple[bool, ...]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the same volume with its axes in another order, and some of them reversed."""
    swap = np.eye(4)[:, [*order, 3]]
    moved = voxels.transpose(order)
    for axis in np.flatnonzero(flips):
        swap[:, 3] += (moved.shape[axis] - 1) * swap[:, axis]
        swap[:, axis] *= -1
    steps = tuple(slice(None, None, -1 if flip else 1) for flip in flips)
    return moved[steps], affine @ swap


def nrrd_of(voxels: np.ndarray, affine: np.ndarray, *, encoding: str = "raw", **fields: Any) -> bytes:
    """Write NRRD, in L, P, S as Slicer does. fields: further ones of the header, or other values."""
    lps = LPS @ affine
    header = {
        "type": voxels.dtype.name, "dimension": voxels.ndim, "space": "left-posterior-superior",
        "sizes": " ".join(map(str, voxels.shape)),
        "space directions": " ".join(_vector(lps[:3, axis]) for axis in range(3)),
        "endian": "big" if voxels.dtype.byteorder == ">" else "little", "encoding": encoding,
        "space origin": _vector(lps[:3, 3]),
        **{name.replace("_", " "): value for name, value in fields.items()},
    }  # fmt: skip
    text = "".join(f"{name}: {value}\n" for name, value in header.items() if value is not None)
    data = voxels.tobytes(order="F")
    if encoding == "gzip":
        data = gzip.compress(data, 1)
    elif encoding == "ascii":
        data = " ".join(map(str, voxels.ravel(order="F").tolist())).encode()
    return f"NRRD0005\n{text}\n".encode() + (b"" if fields.get("data_file") else data)


def meta_image_of(voxels: np.ndarray, affine: np.ndarray, *, file: str = "LOCAL", **keys: Any) -> bytes:
    """Write MetaImage as ITK does, compressed where keys say so. keys: further ones, or other values."""
    lps = LPS @ affine
    spacing = np.linalg.norm(lps[:3, :3], axis=0)
    kinds = {"int16": "MET_SHORT", "uint8": "MET_UCHAR", "float32": "MET_FLOAT"}
    header = {
        "ObjectType": "Image", "NDims": 3, "BinaryData": True,
        "BinaryDataByteOrderMSB": voxels.dtype.byteorder == ">",
        "TransformMatrix": _row((lps[:3, :3] / spacing).T.ravel()), "Offset": _row(lps[:3, 3]),
        "AnatomicalOrientation": "RAI", "ElementSpacing": _row(spacing),
        "DimSize": " ".join(map(str, voxels.shape)), "ElementType": kinds[voxels.dtype.name], **keys,
        "ElementDataFile": file,
    }  # fmt: skip
    text = "".join(f"{key} = {value}\n" for key, value in header.items() if value is not None)
    data = voxels.tobytes(order="F")
    if keys.get("CompressedData"):
        data = zlib.compress(data, 1)
    return text.encode() + (data if file == "LOCAL" else b"")


def pair_of(voxels: np.ndarray, affine: np.ndarray) -> tuple[bytes, bytes]:
    """Write NIfTI-1 as a header and its voxels."""
    image = nibabel.Nifti1Pair(voxels, affine)
    image.set_sform(affine, 1)
    image.set_qform(affine, 1)
    return _files_of(image)


def analyze_of(voxels: np.ndarray, spacing_mm: tuple[float, float, float]) -> tuple[bytes, bytes]:
    """Write Analyze 7.5 as a header and its voxels."""
    return _files_of(nibabel.AnalyzeImage(voxels, np.diag([*spacing_mm, 1.0])))


def _files_of(image: Any) -> tuple[bytes, bytes]:
    files = image.make_file_map({name: nibabel.FileHolder(fileobj=None) for name in ("header", "image")})
    for holder in files.values():
        holder.fileobj = io.BytesIO()
    image.to_file_map(files)
    return files["header"].fileobj.getvalue(), files["image"].fileobj.getvalue()


def _vector(numbers: np.ndarray) -> str:
    return f"({','.join(repr(float(number)) for number in numbers)})"


def _row(numbers: np.ndarray) -> str:
    return " ".join(repr(float(number)) for number in numbers)
