"""A study of heads before and after treatment: real volumes where they are at hand, and phantoms beside them.

NIfTI lies by patient, DICOM as an archive gives it out, under numbers. A table names class and patient.
"""

import csv
import gzip
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import nibabel
import numpy as np

from tests.harness.dicom_phantoms import as_bytes, classic, uid
from tests.harness.volume_phantoms import affine_of, head

CLASSES = ("before", "after")
HOLE = (slice(10, 18), slice(20, 30), slice(6, 15))
"""What a treatment has taken out of a phantom."""
STEP = 5
"""Voxels along each axis that share one grey value of a phantom's own."""


@dataclass(frozen=True, kw_only=True)
class Study:
    """Volumes below a folder, and the table that labels them."""

    root: Path
    rows: list[tuple[str, str, str]] = field(default_factory=list)
    """Path of a volume, or of any file of a series, its class and its patient."""

    @property
    def table(self) -> Path:
        """The table of labels."""
        return self.root / "labels.csv"

    def add_nifti(self, patient: str, number: int) -> None:
        """Add a phantom of a patient as two NIfTI files."""
        for label, voxels in zip(CLASSES, pair(number), strict=True):
            path = self.path(f"nifti/{patient}/{label}_T1.nii.gz")
            image = nibabel.Nifti1Image(voxels, affine_of())
            path.write_bytes(gzip.compress(image.to_bytes(), 1))
            self._label(path, label, patient)

    def add_dicom(self, patient: str, number: int) -> Path:
        """Add a phantom of a patient as two DICOM series; returns the folder of the later one."""
        for visit, (label, voxels) in enumerate(zip(CLASSES, pair(number), strict=True)):
            series = 2 * number + visit + 1
            slices = classic(
                voxels, affine_of(), series=series, PatientID=patient, StudyInstanceUID=uid(9, series)
            )
            folder = f"dicom/{2 * number + visit:04d}"
            # Names that tell no order.
            for name, one in enumerate(slices):
                self.path(f"{folder}/IM{name * 7 % len(slices):04d}").write_bytes(as_bytes(one))
            self._label(self.root / folder / "IM0000", label, patient)
        return self.root / folder

    def add_real(self, data: Path) -> None:
        """Add three patients in NIfTI, and one that lies on the back, then on the front, in DICOM."""
        for folder in sorted((data / "nifti").glob("[0-9]*")):
            for label, name in zip(CLASSES, ("Pre_Scan_T1.nii.gz", "Post_Scan_T1.nii.gz"), strict=True):
                path = self.path(f"nifti/real{folder.name}/{name}")
                path.symlink_to(folder / name)
                self._label(path, label, f"real{folder.name}")
        for label, posture in zip(CLASSES, ("supine", "prone"), strict=True):
            folder = self.path(f"dicom/{posture}")
            folder.symlink_to(data / "decubitus" / posture)
            self._label(folder / "000.dcm", label, "decubitus")

    def path(self, name: str) -> Path:
        """Return the path of a file, whose folder is there then."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def _label(self, path: Path, label: str, patient: str) -> None:
        self.rows.append((str(path.relative_to(self.root)), label, patient))
        with self.table.open("w", newline="") as table:
            lines = csv.writer(table)
            lines.writerow(("path", "label", "patient", "study"))
            lines.writerows((*row, f"{row[2]}-{row[1]}") for row in self.rows)


def make_study(root: Path, *, nifti: int, dicom: int, real: Path | None = None) -> Study:
    """Make a study of so many phantoms of either format. real: folder of real volumes, which come first."""
    study = Study(root=root)
    if real:
        study.add_real(real)
    for number in range(nifti):
        study.add_nifti(f"N{number}", number)
    for number in range(nifti, nifti + dicom):
        study.add_dicom(f"D{number}", number)
    return study


def pair(number: int) -> Sequence[np.ndarray]:
    """Return a head of its own before and after: int16, of the shape of volume_phantoms.head."""
    random = np.random.default_rng(number)
    before = head() * random.uniform(0.8, 1.2)
    grey = np.kron(random.normal(0, 90, [length // STEP + 1 for length in before.shape]), np.ones([STEP] * 3))
    is_head = before > 100
    before[is_head] += grey[tuple(map(slice, before.shape))][is_head]
    for axis, turn in enumerate(random.integers(-4, 5, 2).tolist()):
        before = np.roll(before, turn, axis=axis)
    after = before.copy()
    after[HOLE] = 40
    return [np.clip(one, 0, 2000).astype(np.int16) for one in (before, after)]
