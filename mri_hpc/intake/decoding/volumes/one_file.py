"""The decoder of volumes: NIfTI, Analyze, MGH, NRRD and MetaImage, read one volume at a time.

A source is one file, plain or compressed by gzip, or a header and the files beside it that hold its voxels.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np

from mri_hpc.base.errors import BadSource
from mri_hpc.base.version import version_of
from mri_hpc.intake.decoding.recipe import Recipe
from mri_hpc.intake.decoding.samples import NativeImage
from mri_hpc.intake.decoding.volumes.headers import is_volume, read_header, unzipped
from mri_hpc.intake.decoding.volumes.layout import TEXT_BYTES, VolumeHeader
from mri_hpc.intake.decoding.volumes.mask_volumes import in_two_values, kinds_of
from mri_hpc.intake.decoding.volumes.meta_image import is_meta_image, meta_image_header
from mri_hpc.intake.decoding.volumes.nrrd import is_nrrd, nrrd_header
from mri_hpc.intake.decoding.volumes.slices import few_slices, slices_of
from mri_hpc.intake.decoding.volumes.streams import File, check_end, check_length, opened_voxels
from mri_hpc.intake.decoding.volumes.volume import MOST_VOXELS, Volume
from mri_hpc.intake.decoding.volumes.words import read_values
from mri_hpc.intake.files.content import GZIP, Content

MOST_VOLUME_BYTES = 400 * 2**20

LARGE_VOLUME = (
    f"volume of more than {MOST_VOLUME_BYTES // 2**20} MiB or {MOST_VOXELS // 2**20} million voxels"
)
NO_VOXELS = "header of a volume whose voxels are in another file, which is not beside it"


class VolumeFiles:
    """The decoder of volumes."""

    formats: tuple[str, ...] = ("NIfTI", "Analyze", "MGH", "NRRD", "MetaImage")

    def reads(self, start: bytes) -> bool:
        """As in Decoder."""
        return is_volume(unzipped(start)) or is_nrrd(start) or is_meta_image(start)

    def decode(self, content: Content, recipe: Recipe) -> Iterator[NativeImage]:
        """As in Decoder."""
        num_files = 1 + _header_of(content.files[0]).layout.num_files
        files, others = content.files[:num_files], content.files[num_files:]
        masks = kinds_of([_mask(other) for other in others], recipe.masks)
        return few_slices(image for volume in volumes_in(files) for image in slices_of(volume, recipe, masks))

    def versions(self) -> Mapping[str, str]:
        """As in Decoder."""
        # Their own words would load them, for the sake of files that are no volumes.
        return {"nibabel": version_of("nibabel"), "pynrrd": version_of("pynrrd", "nrrd")}


def _mask(file: File) -> Volume:
    """Read a mask; BadSource where it is no volume that can be read."""
    if not VolumeFiles().reads(file.start):
        raise BadSource("its mask is no volume")
    try:
        return in_two_values(next(volumes_in([file])))
    except BadSource as error:
        raise BadSource(f"its mask cannot be read: {error}") from None


def volumes_in(files: Sequence[File]) -> Iterator[Volume]:
    """Yield the volumes of a source as its files hold them; BadSource, also amid them: why there are none."""
    header = _header_of(files[0])
    holders = files[1:] if header.layout.num_files else files
    if len(holders) != (header.layout.num_files or 1):
        raise BadSource(NO_VOXELS)
    if not header.layout.encoding and all(file.start.startswith(GZIP) for file in holders):
        header = replace(header, layout=replace(header.layout, encoding="gzip"))
    check_length(holders, header)
    at_once = header.volume_bytes * (header.num_volumes if header.layout.is_interleaved else 1)
    if at_once > MOST_VOLUME_BYTES or math.prod(header.shape) > MOST_VOXELS:
        raise BadSource(LARGE_VOLUME)
    with opened_voxels(holders, header) as voxels:
        count = math.prod(header.shape)
        if header.layout.is_interleaved:
            values = read_values(voxels, header.dtype, count * header.num_volumes)
            several = values.reshape((header.num_volumes, *header.shape), order="F")
            for number in range(header.num_volumes):
                yield _volume(header, several[number], number)
        else:
            for number in range(header.num_volumes):
                values = read_values(voxels, header.dtype, count)
                yield _volume(header, values.reshape(header.shape, order="F"), number)
        check_end(voxels, header)


def _header_of(file: File) -> VolumeHeader:
    is_text = next((read for tell, read in TEXTS if tell(file.start)), None)
    if is_text is None:
        return read_header(unzipped(file.start))
    with file.opened() as opened:
        return is_text(opened.read(TEXT_BYTES))


TEXTS = ((is_nrrd, nrrd_header), (is_meta_image, meta_image_header))
"""Formats whose header is a text, which may be long."""


def _volume(header: VolumeHeader, voxels: np.ndarray, number: int) -> Volume:
    if header.is_inverted:
        # The negative of the least integer of a type does not fit into it.
        voxels = np.negative(voxels, dtype=np.int32 if voxels.dtype.itemsize < 4 else np.float64)
    return Volume(
        voxels=voxels,
        affine=header.affine,
        acquired=header.acquired,
        is_side_known=header.is_side_known,
        zero=header.zero,
        name=f"t{number:03d}" if header.num_volumes > 1 else "",
        # Said once of a file.
        notes=header.notes if number == 0 else (),
    )
