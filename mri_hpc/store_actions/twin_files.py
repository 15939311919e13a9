"""A table of twins, and a page of their pictures: written for the owner of a store alone."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mri_hpc.base.access import replace_private
from mri_hpc.cohort.audit import is_torn
from mri_hpc.cohort.twins import TwinGroup
from mri_hpc.intake.decoding.grey_values import to_8_bits
from mri_hpc.intake.labels.images import as_text
from mri_hpc.intake.labels.label import SPLITS
from mri_hpc.results.pages.twin_page import ShownGroup, ShownImage, make_twin_page, shortened
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
    store: Store, snapshot: Snapshot, reader: Reader, groups: Sequence[TwinGroup], names: Mapping[int, str]
) -> TwinFiles | None:
    """Write both; None where this user may not, or the disk takes nothing. names: of images, by row."""
    files = TwinFiles(table=store.twin_table, page=store.twin_page)
    try:
        replace_private(files.table, _table(snapshot, groups, names).encode())
        replace_private(files.page, _page(store, snapshot, reader, groups, names).encode())
    except OSError:
        return None
    return files


def names_of(store: Store, snapshot: Snapshot, rows: Iterable[int]) -> dict[int, str]:
    """Return the path of the source of each image, by row, or its key where this user may not know it."""
    keys = {row: int(snapshot.key[row]) for row in rows}
    paths = store.sources_of(keys.values())
    return {row: as_text(paths.get(key, f"{key:016x}")) for row, key in keys.items()}


def facts_of(snapshot: Snapshot, row: int) -> dict[str, str]:
    """Return class, patient, split and fold of an image in words, by column; empty where there is none."""
    split, fold = int(snapshot.split[row]), int(snapshot.fold[row])
    return {
        "label": snapshot.text("label", row) or "no class",
        "patient": snapshot.text("patient", row) or "nobody",
        "split": SPLITS[split] if split >= 0 else "",
        "fold": f"fold {fold}" if fold >= 0 else "",
    }


def described(snapshot: Snapshot, group: TwinGroup, names: Mapping[int, str]) -> dict[str, Any]:
    """Return one group for scripts. names: of images, by row."""
    patients = {snapshot.text("patient", row) for row in group.rows}
    return {
        "images": [names[row] for row in group.rows],
        "keys": [f"{int(snapshot.key[row]):016x}" for row in group.rows],
        "patients": sorted(patients - {""}),
        "classes": sorted({snapshot.text("label", row) for row in group.rows} - {""}),
        "how": list(group.how),
        "is_leak": is_torn(snapshot, np.array(group.rows)),
    }


def _table(snapshot: Snapshot, groups: Sequence[TwinGroup], names: Mapping[int, str]) -> str:
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
    store: Store, snapshot: Snapshot, reader: Reader, groups: Sequence[TwinGroup], names: Mapping[int, str]
) -> str:
    shown = shortened([_shown(snapshot, group, names) for group in groups])
    rows = np.array([image.row for group in shown for image in group.images], np.int64)
    pictures = (to_8_bits(reader.read(rows[at : at + 1])[0]) for at in range(len(rows)))
    return make_twin_page(
        shown, pictures, store=str(store.path), snapshot=snapshot.digest[:12], total=len(groups)
    )


def _shown(snapshot: Snapshot, group: TwinGroup, names: Mapping[int, str]) -> ShownGroup:
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
    return ", ".join(fact for fact in facts_of(snapshot, row).values() if fact)
