"""A table of twins, and a page of their pictures: written for the owner of a store alone."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mri_hpc.base.access import replace_private
from mri_hpc.cohort.audit import is_torn
from mri_hpc.cohort.twins import TwinGroup
from mri_hpc.intake.labels.images import as_text
from mri_hpc.intake.labels.label import SPLITS
from mri_hpc.results.twin_page import ShownGroup, ShownImage, make_twin_page, shortened
from mri_hpc.storage.store import Reader, Snapshot, Store

COLUMNS = ("group", "image", "key", "class", "patient", "split", "fold", "twin_of", "how", "score")


@dataclass(frozen=True, kw_only=True)
class TwinFiles:
    """The two files of a store."""

    table: Path
    """CSV, a line an image."""
    page: Path
    """HTML."""


def write_twin_files(
    store: Store, snapshot: Snapshot, reader: Reader, groups: Sequence[TwinGroup], names: Sequence[str]
) -> TwinFiles | None:
    """Write both; None where this user may not, or the disk takes nothing.

    names: of all images of the groups, in their order.
    """
    files = TwinFiles(table=store.private / "twins.csv", page=store.private / "twins.html")
    by_row = dict(zip((row for group in groups for row in group.rows), names, strict=True))
    try:
        replace_private(files.table, _table(snapshot, groups, by_row).encode())
        replace_private(files.page, _page(store, snapshot, reader, groups, by_row).encode())
    except OSError:
        return None
    return files


def names_of(store: Store, snapshot: Snapshot, groups: Sequence[TwinGroup]) -> list[str]:
    """Return the path of each image of the groups, or its key where this user may not know it."""
    keys = [int(snapshot.key[row]) for group in groups for row in group.rows]
    paths = store.sources_of(keys)
    return [as_text(paths.get(key, f"{key:016x}")) for key in keys]


def described(snapshot: Snapshot, group: TwinGroup, names: Sequence[str]) -> dict[str, Any]:
    """Return one group for scripts. names: of its images."""
    patients = {snapshot.text("patient", row) for row in group.rows}
    return {
        "images": list(names),
        "keys": [f"{int(snapshot.key[row]):016x}" for row in group.rows],
        "patients": sorted(patients - {""}),
        "classes": sorted({snapshot.text("label", row) for row in group.rows} - {""}),
        "how": list(group.how),
        "is_leak": is_torn(snapshot, np.array(group.rows)),
    }


def _table(snapshot: Snapshot, groups: Sequence[TwinGroup], names: dict[int, str]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for number, group in enumerate(groups, 1):
        edges = {twin.second: twin for twin in group.twins}
        for row in group.rows:
            split, fold = int(snapshot.split[row]), int(snapshot.fold[row])
            twin = edges.get(row)
            difference = (names[twin.first], ", ".join(twin.how), twin.score) if twin else ("", "", "")
            writer.writerow(
                (
                    number, names[row], f"{int(snapshot.key[row]):016x}", snapshot.text("label", row),
                    snapshot.text("patient", row), SPLITS[split] if split >= 0 else "",
                    fold if fold >= 0 else "", *difference,
                )
            )  # fmt: skip
    return text.getvalue()


def _page(
    store: Store, snapshot: Snapshot, reader: Reader, groups: Sequence[TwinGroup], names: dict[int, str]
) -> str:
    shown = shortened([_shown(snapshot, group, names) for group in groups])
    rows = np.array([image.row for group in shown for image in group.images], np.int64)
    pictures = (reader.read(rows[at : at + 1])[0] for at in range(len(rows)))
    return make_twin_page(
        shown, pictures, store=str(store.path), snapshot=snapshot.digest[:12], total=len(groups)
    )


def _shown(snapshot: Snapshot, group: TwinGroup, names: dict[int, str]) -> ShownGroup:
    rows = np.array(group.rows)
    return ShownGroup(
        how=group.how,
        is_torn=is_torn(snapshot, rows),
        has_other_class=len(np.unique(np.asarray(snapshot.label)[rows])) > 1,
        images=tuple(
            ShownImage(name=names[row], caption=_caption(snapshot, row), row=row) for row in group.rows
        ),
    )


def _caption(snapshot: Snapshot, row: int) -> str:
    split, fold = int(snapshot.split[row]), int(snapshot.fold[row])
    parts = (
        snapshot.text("label", row) or "no class",
        snapshot.text("patient", row) or "nobody",
        SPLITS[split] if split >= 0 else "",
        f"fold {fold}" if fold >= 0 else "",
    )
    return ", ".join(part for part in parts if part)
