"""A table of labels to be filled in: a row a patient and study, else a row a file."""

import csv
import io
from collections.abc import Sequence

from mri_hpc.intake.labels import Label, Labels
from mri_hpc.intake.understanding import label_of


def template_of(paths: Sequence[str], labels: Labels, *, are_patients: bool) -> str:
    """Write the table, with the labels that are known. paths: of all files, below the root.

    are_patients: True where what look like classes are patients, whose labels nothing tells.
    """
    found = [_as_patient(one) if are_patients else one for one in (label_of(labels, p)[0] for p in paths)]
    if all(label.patient for label in found):
        return _by_patient(found)
    return _by_path(paths, found)


def _as_patient(label: Label) -> Label:
    """Take the class for a patient, and the patient for a study of theirs."""
    return Label(patient=label.label, study=label.patient)


def _by_patient(found: Sequence[Label]) -> str:
    labels: dict[tuple[str, str], set[str]] = {}
    for label in found:
        labels.setdefault((label.patient, label.study), set()).add(label.label)
    rows = [
        # Of several labels none is the patient's.
        (patient, study, next(iter(names)) if len(names) == 1 else "")
        for (patient, study), names in sorted(labels.items())
    ]
    if any(study for _patient, study, _label in rows):
        return _csv(("patient", "study", "label"), rows)
    return _csv(("patient", "label"), [(patient, label) for patient, _study, label in rows])


def _by_path(paths: Sequence[str], found: Sequence[Label]) -> str:
    rows = [(path, label.patient, label.label) for path, label in zip(paths, found, strict=True)]
    return _csv(("path", "patient", "label"), sorted(rows))


def _csv(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return text.getvalue()
