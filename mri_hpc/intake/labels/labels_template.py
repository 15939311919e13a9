"""A table of labels to be filled in: a row a patient and study, else a row a file."""

import csv
import io
from collections import defaultdict
from collections.abc import Iterable, Sequence

from mri_hpc.intake.labels.id_rows import HeaderIds
from mri_hpc.intake.labels.label import Label, Labels, label_or_reason

NO_PICTURES = (
    ".csv", ".tsv", ".json", ".txt", ".md", ".xml", ".html", ".bval", ".bvec", ".pdf", ".py", ".sh", ".log",
)  # fmt: skip
"""Ends of the names of files that hold no picture."""
OPTIONAL = ("study", "site", "study_uid", "accession")


def template_of(paths: Sequence[str], labels: Labels, *, are_patients: bool) -> str:
    """Write the table, with the labels that are known. paths: of all files, below the root.

    are_patients: True where what look like classes are patients, whose labels nothing tells.
    """
    known = [label_or_reason(labels, path)[0] for path in paths]
    found = [_as_patient(label) for label in known] if are_patients else known
    if all(label.patient for label in found):
        return _by_patient(found)
    return _by_path(paths, found)


def template_of_series(series: Sequence[tuple[HeaderIds, Label]], *, are_known: bool) -> str:
    """Write the table for series by their headers: a row a study, or a series where one has several labels.

    series: the ids of each, with what labels say of it; are_known: False where folders may mean patients.
    """
    of_study, of_class = defaultdict[str, set[str]](set), defaultdict[str, set[str]](set)
    for ids, label in series:
        of_study[ids.study].add(label.label)
        of_class[label.label].add(ids.patient)
    # One class is none, and as many as patients are folders of patients.
    are_classes = len(of_class) > 1 and any(len(patients) > 1 for patients in of_class.values())
    is_known = are_known or are_classes
    is_by_series = is_known and any(len(labels) > 1 for labels in of_study.values())
    kinds = (
        "patient",
        "study_uid",
        "accession",
        "series_uid" if is_by_series or "" in of_study else "",
        "label",
    )
    rows = {
        (ids.patient, ids.study, ids.accession, ids.series, label.label if is_known else "")
        for ids, label in series
    }
    columns = [at for at, kind in enumerate(kinds) if kind]
    shown = {tuple(row[at] for at in columns) for row in rows}
    return _csv([kinds[at] for at in columns], sorted(shown))


def hold_pictures(paths: Iterable[str]) -> bool:
    """Tell whether some files hold pictures, as far as their names tell."""
    names = (path.rpartition("/")[2].lower() for path in paths)
    return any("." in name and not name.endswith(NO_PICTURES) for name in names)


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
    wanted = [at for at, name in enumerate(header) if name not in OPTIONAL or any(row[at] for row in rows)]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([line[at] for at in wanted] for line in (header, *rows))
    return text.getvalue()
