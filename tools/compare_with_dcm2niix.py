"""Compare volumes read from DICOM with those that dcm2niix makes of the same files: place and grey levels.

    python tools/compare_with_dcm2niix.py /path/to/dcm2niix FOLDER...

Of each folder: its series by UID, by both; volumes are turned to RAS+ and compared voxel by voxel. dcm2niix
is no dependency (`pip install dcm2niix` brings it).
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import nibabel
import numpy as np

from mri_hpc.base.errors import BadSource
from mri_hpc.intake.decoding.dicom.elements import Tag, is_dicom
from mri_hpc.intake.decoding.dicom.header import Values
from mri_hpc.intake.decoding.dicom.reader import read_elements
from mri_hpc.intake.decoding.dicom.series import volumes_in
from mri_hpc.intake.decoding.volumes.geometry import axes_of, corners_mm, turned
from mri_hpc.intake.decoding.volumes.volume import Volume

NOTHING_DIFFERS_MM = 0.01


def main() -> int:
    """Compare the folders that are named; 1 where a volume has no counterpart."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("dcm2niix", type=Path)
    options.add_argument("folders", type=Path, nargs="+")
    given = options.parse_args()
    is_alike = [_compare(given.dcm2niix, folder) for folder in given.folders]
    return 0 if all(is_alike) else 1


def _compare(program: Path, folder: Path) -> bool:
    ours = list(_ours(folder))
    theirs = list(_theirs(program, folder))
    print(f"{folder}: {len(ours)} volumes by mri_hpc, {len(theirs)} by dcm2niix")
    missed = 0
    for name, volume in ours:
        found = min((_difference(volume, other) for other in theirs), default=(np.inf, np.inf))
        missed += found[0] > NOTHING_DIFFERS_MM or found[1] > 0.51
        print(f"  {name}{volume.voxels.shape}: {found[0]:.4f} mm, {found[1]:.4g} grey levels at most")
    return not missed


def _difference(ours: Volume, theirs: Volume) -> tuple[float, float]:
    """Return the most that a corner is off in mm, and a voxel in grey levels."""
    if ours.voxels.shape != theirs.voxels.shape:
        return np.inf, np.inf
    apart = np.abs(corners_mm(ours.affine - theirs.affine, ours.voxels.shape)).max()
    return float(apart), float(np.abs(ours.voxels.astype(float) - theirs.voxels).max())


def _ours(folder: Path) -> Iterator[tuple[str, Volume]]:
    series: dict[str, list[bytes]] = {}
    for file in sorted(folder.rglob("*")):
        data = file.read_bytes() if file.is_file() else b""
        if is_dicom(data[:1024]):
            series.setdefault(Values(read_elements(data)).text(Tag.SERIES), []).append(data)
    for number, files in enumerate(series.values()):
        try:
            for volume in volumes_in(files):
                yield f"series {number} {volume.name} ", turned(volume, axes_of(volume.affine))
        except BadSource as error:
            print(f"  series {number}, {len(files)} files: {error}")


def _theirs(program: Path, folder: Path) -> Iterator[Volume]:
    with tempfile.TemporaryDirectory() as made:
        # Public scaling; no gantry correction; no cropping.
        options = ["-p", "n", "-z", "n", "-b", "n", "-f", "%s_%p_%e_%u", "-o", made]
        # It fails as a whole where one file is none of its own.
        subprocess.run(
            [str(program), *options, str(folder)],
            check=False,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        for file in sorted(Path(made).glob("*.nii")):
            image = nibabel.Nifti1Image.from_filename(file)
            voxels = np.asarray(image.dataobj)
            for number in range(voxels.shape[3] if voxels.ndim == 4 else 1):
                volume = Volume(
                    voxels=voxels[..., number] if voxels.ndim == 4 else voxels,
                    affine=np.asarray(image.affine, np.float64), acquired=2, is_side_known=True,
                )  # fmt: skip
                yield turned(volume, axes_of(volume.affine))


if __name__ == "__main__":
    sys.exit(main())
