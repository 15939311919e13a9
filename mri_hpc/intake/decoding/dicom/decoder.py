"""The decoder of DICOM: a source is the files of one series, or one file that names none."""

from collections.abc import Iterator, Mapping

from mri_hpc.base.version import version_of
from mri_hpc.intake.decoding.dicom.elements import is_dicom
from mri_hpc.intake.decoding.recipe import Recipe
from mri_hpc.intake.decoding.samples import NativeImage
from mri_hpc.intake.files.content import Content, LargeFile


class Dicom:
    """The decoder of what MR scanners write."""

    formats: tuple[str, ...] = ("DICOM",)

    def reads(self, start: bytes) -> bool:
        """As in Decoder."""
        return is_dicom(start)

    def decode(self, content: Content, recipe: Recipe) -> Iterator[NativeImage]:
        """As in Decoder."""
        # Most sources are pictures, which need none of it.
        from mri_hpc.intake.decoding.dicom.series import volumes_in
        from mri_hpc.intake.decoding.volumes.slices import few_slices, slices_of

        files = [file if isinstance(file, LargeFile) else file.data for file in content.files]
        volumes = volumes_in(files)
        return few_slices(image for volume in volumes for image in slices_of(volume, recipe))

    def versions(self) -> Mapping[str, str]:
        """As in Decoder."""
        # Its own word would load it, for the sake of files that are no DICOM.
        return {"pydicom": version_of("pydicom")}
