"""Doubts about a table by patient: it finds files by the names of folders, which may mean other persons."""

from collections.abc import Sequence

from mri_hpc.base.command import counted
from mri_hpc.intake.labels.csv_labels import CsvLabels
from mri_hpc.intake.labels.doubts import Doubt
from mri_hpc.intake.labels.folder_labels import FolderLabels
from mri_hpc.intake.labels.label import label_or_reason

FOLDERS = FolderLabels()


def doubts_of_patient_rows(labels: CsvLabels, paths: Sequence[str]) -> list[Doubt]:
    """Return a doubt where files lie in folders of other classes than their patients' rows name.

    Folders are those of classes where the table has classes of their names. paths: of all files.
    """
    if not labels.table.patients:
        return []
    classes = {name.casefold() for name in labels.classes()}
    files, patients = 0, set[str]()
    for path in paths:
        label = label_or_reason(labels, path)[0]
        folder = label_or_reason(FOLDERS, path)[0].label.casefold()
        if label.label and folder in classes - {label.label.casefold()}:
            files += 1
            patients.add(label.patient)
    if not files:
        return []
    return [
        Doubt(
            kind="rows-differ-from-folders",
            count=files,
            text=f"{counted(files, 'file')} of {counted(len(patients), 'patient')} lie in folders of classes "
            f"other than {labels.file} gives the patient: where a number is another person's in each folder, "
            "name every file in a CSV (--labels, columns path, label, patient); where folders are wrong, the "
            "table holds",
            accept="folders",
        )
    ]
