"""Volumes of one file: NIfTI and MGH, plain or compressed by gzip, read one volume at a time.

No room is taken by the word of a header: a plain file has to be as long as it says, a compressed one at least
a thousandth of that, since gzip shrinks no further.
"""

import contextlib
import gzip
import io
import math
import zlib
from collections.abc import Iterator, Mapping
from typing import cast

import numpy as np

from mri_hpc.base.errors import BadSource
from mri_hpc.base.version import version_of
from mri_hpc.intake.decoding.pictures import TRUNCATED
from mri_hpc.intake.decoding.recipe import Recipe
from mri_hpc.intake.decoding.samples import NativeImage
from mri_hpc.intake.decoding.volumes.headers import VolumeHeader, is_volume, read_header
from mri_hpc.intake.decoding.volumes.mask_volumes import in_two_values, kinds_of
from mri_hpc.intake.decoding.volumes.slices import few_slices, slices_of
from mri_hpc.intake.decoding.volumes.volume import MOST_VOXELS, Volume
from mri_hpc.intake.decoding.volumes.words import read_values
from mri_hpc.intake.files.content import GZIP, Content, FileContent, LargeFile

# To zlib: a gzip header comes first.
WITH_HEADER = 31
HEADER_BYTES = 1024
MOST_VOLUME_BYTES = 400 * 2**20
MOST_SHRUNK = 1040
"""Bytes that a byte of gzip stands for at most."""
READ_BYTES = 2**20
MOST_BEHIND = 256 * 2**20
"""Bytes behind the voxels of a compressed file, read to see that it is whole."""

DAMAGED_GZIP = "damaged gzip"
LARGE_VOLUME = (
    f"volume of more than {MOST_VOLUME_BYTES // 2**20} MiB or {MOST_VOXELS // 2**20} million voxels"
)


class VolumeFiles:
    """The decoder of volumes of one file."""

    formats: tuple[str, ...] = ("NIfTI", "MGH")

    def reads(self, start: bytes) -> bool:
        """As in Decoder."""
        return is_volume(_unzipped(start) if start.startswith(GZIP) else start)

    def decode(self, content: Content, recipe: Recipe) -> Iterator[NativeImage]:
        """As in Decoder."""
        file, *others = content.files
        masks = kinds_of([_mask(other) for other in others], recipe.masks)
        return few_slices(image for volume in _volumes(file) for image in slices_of(volume, recipe, masks))

    def versions(self) -> Mapping[str, str]:
        """As in Decoder."""
        # Its own word would load it, for the sake of files that are no volumes.
        return {"nibabel": version_of("nibabel")}


def _mask(file: FileContent | LargeFile) -> Volume:
    """Read a mask; BadSource where it is no volume that can be read."""
    if not VolumeFiles().reads(file.start):
        raise BadSource("its mask is no volume")
    try:
        return in_two_values(next(_volumes(file)))
    except BadSource as error:
        raise BadSource(f"its mask cannot be read: {error}") from None


def _unzipped(start: bytes) -> bytes:
    try:
        return zlib.decompressobj(wbits=WITH_HEADER).decompress(start, HEADER_BYTES)
    except zlib.error:
        return b""


def _volumes(file: FileContent | LargeFile) -> Iterator[Volume]:
    is_zipped = file.start.startswith(GZIP)
    with file.opened() as raw, _unzipping(raw) if is_zipped else contextlib.nullcontext(raw) as voxels:
        header = read_header(voxels.read(HEADER_BYTES))
        _check_length(header, file.look.size, is_zipped=is_zipped)
        voxels.seek(header.offset)
        for number in range(header.num_volumes):
            values = read_values(voxels, header.dtype, math.prod(header.shape))
            yield _volume(header, values, number)
        if is_zipped:
            # Its checksum stands at the end.
            _read_on(voxels, MOST_BEHIND)


@contextlib.contextmanager
def _unzipping(raw: io.BufferedIOBase) -> Iterator[io.BufferedIOBase]:
    """Open gzip for reading; what is wrong with it is BadSource."""
    from isal import igzip, isal_zlib

    # Declared as an object.
    isal_error = cast("type[Exception]", isal_zlib.error)
    try:
        with igzip.IGzipFile(fileobj=raw) as file:
            yield file
    except EOFError:
        raise BadSource(TRUNCATED) from None
    except (gzip.BadGzipFile, isal_error):
        raise BadSource(DAMAGED_GZIP) from None


def _check_length(header: VolumeHeader, num_bytes: int, *, is_zipped: bool) -> None:
    needed = header.offset + header.num_volumes * header.volume_bytes
    if num_bytes * (MOST_SHRUNK if is_zipped else 1) < needed:
        raise BadSource(TRUNCATED)
    if header.volume_bytes > MOST_VOLUME_BYTES or math.prod(header.shape) > MOST_VOXELS:
        raise BadSource(LARGE_VOLUME)


def _read_on(voxels: io.BufferedIOBase, num_bytes: int) -> None:
    """Read so many bytes, or as many as there are, and drop them."""
    while num_bytes > 0 and (found := len(voxels.read(min(num_bytes, READ_BYTES)))):
        num_bytes -= found


def _volume(header: VolumeHeader, values: np.ndarray, number: int) -> Volume:
    voxels = values.reshape(header.shape, order="F")
    if header.is_inverted:
        # The negative of the least integer of a type does not fit into it.
        voxels = np.negative(voxels, dtype=np.int32 if voxels.dtype.itemsize < 4 else np.float64)
    return Volume(
        voxels=voxels,
        affine=header.affine,
        acquired=header.acquired,
        is_side_known=header.is_side_known,
        name=f"t{number:03d}" if header.num_volumes > 1 else "",
        # Said once of a file.
        notes=header.notes if number == 0 else (),
    )
