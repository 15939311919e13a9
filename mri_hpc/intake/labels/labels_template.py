"""A table of labels to be filled in: a row a patient and study, else a row a file."""

import csv
import io
from collections.abc import Sequence

from mri_hpc.intake.labels.label import Label, Labels, label_or_reason


def template_of(paths: Sequence[str], labels: Labels, *, are_patients: bool) -> str:
    """Write the table, with the labels that are known. paths: of all files, below the root.

    are_patients: True where what look like classes are patients, whose labels nothing tells.
    """
    known = [label_or_reason(labels, path)[0] for path in paths]
    found = [_as_patient(label) for label in known] if are_patients else known
    if all(label.patient for label in found):
        return _by_patient(found)
    return _by_path(paths, found)


def _as_patient(label: Label) -> Label:
    """Take the class for a patient, and the patient for a study of theirs."""
    return Label(patient=label.label, study=label.patient, site=label.site)


def _by_patient(found: Sequence[Label]) -> str:
    labels: dict[tuple[str, str, str], set[str]] = {}
    for label in found:
        key = (_plain(label.patient, label), _plain(label.study, label), label.site)
        labels.setdefault(key, set()).add(label.label)
    # Of several labels none is the patient's.
    rows = [(*key, next(iter(names)) if len(names) == 1 else "") for key, names in sorted(labels.items())]
    return _csv(("patient", "study", "site", "label"), rows)


def _by_path(paths: Sequence[str], found: Sequence[Label]) -> str:
    rows = [
        (path, _plain(label.patient, label), _plain(label.study, label), label.site, label.label)
        for path, label in zip(paths, found, strict=True)
    ]
    return _csv(("path", "patient", "study", "site", "label"), sorted(rows))


def _plain(name: str, label: Label) -> str:
    """Return the id of a patient or a study as it stands in a table, without its site."""
    return name.removeprefix(f"{label.site}/")


def _csv(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write rows, without those columns that nothing is known of and that need not be filled in."""
    wanted = [
        at for at, name in enumerate(header) if name not in ("study", "site") or any(row[at] for row in rows)
    ]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([line[at] for at in wanted] for line in (header, *rows))
    return text.getvalue()
