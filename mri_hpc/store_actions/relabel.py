"""``mri-hpc store relabel``: other labels for stored images."""

import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from mri_hpc.base.command import Action, print_json
from mri_hpc.base.errors import UserError
from mri_hpc.base.marks import POSITIONAL, Flag
from mri_hpc.intake.decoding.recipe import load_recipe
from mri_hpc.intake.files.sources import root_name
from mri_hpc.intake.labels.csv_labels import read_csv
from mri_hpc.intake.labels.pseudonyms import key_path, pseudonyms_of
from mri_hpc.storage.store import Store

if TYPE_CHECKING:
    from mri_hpc.storage.store import Relabelling

PATHS_SHOWN = 20


@dataclass(frozen=True, kw_only=True)
class Relabel:
    """Change labels, patients, studies, folds and splits of stored images; empty cells change nothing.

    Runs keep the labels of their snapshot; new runs take the new ones. Planes and boxes stay as they are.
    """

    store: Annotated[Path, POSITIONAL]
    """Folder of the store."""
    labels: Path
    """CSV as for preprocess: path, label, and where they change patient, study, fold, split."""
    source: Path = Path("data/raw")
    """Folder of images that was preprocessed: its name is part of each image's identity. It may be gone."""
    why: str = ""
    """Kept with the record, which may be shared: name no person."""
    accept: tuple[Literal["ids", "same-ids"], ...] = ()
    """Ids that differ in their writing alone: ids, they are of different patients; same-ids, of one each."""
    dry_run: Flag = False
    """Only say what would change."""
    json: Flag = False
    """Print as JSON."""


def relabel_images(options: Relabel) -> None:
    """Publish relabels, and print what they change."""
    store = Store.open(options.store)
    labels = read_csv(options.labels, options.source)
    rows = labels.rows
    recipe = load_recipe(store.recipe)
    pseudonyms = pseudonyms_of(
        ids=recipe.ids, site=recipe.site, key_file=key_path(os.environ), group=store.group
    )
    if not options.dry_run:
        store.join_alike(labels.mentions(rows), pseudonyms, options.accept)
    found = store.find_relabelling(
        rows,
        root_name=root_name(options.source),
        pseudonyms=pseudonyms,
        series=_series(options.source, rows),
        without_lesion=recipe.without_lesion,
    )
    if rows and len(found.unknown) == len(rows):
        raise UserError(
            f"none of the {len(rows)} paths in {options.labels} is in {options.store}: --source takes the "
            f"folder that was preprocessed (now {options.source})"
        )
    if not options.dry_run:
        store.relabel(found, options.why)
    if options.json:
        print_json({
            "store": str(options.store), "dry_run": options.dry_run, "changed": len(found.relabels),
            "changes": dict(found.changes), "unchanged": found.unchanged, "unknown": list(found.unknown),
        })  # fmt: skip
    else:
        _print(found, is_dry=options.dry_run)


def _series(source: Path, paths: Iterable[str]) -> dict[str, str]:
    """Return the id of the series of each file that is there and is DICOM."""
    # Whoever asks for help need not wait for it.
    from mri_hpc.intake.decoding.dicom.listing import find_series

    paths = list(paths)
    series = find_series(source, paths, kept=None)
    return {path: one for path in paths if (one := series.named(path).series)}


def _print(found: "Relabelling", *, is_dry: bool) -> None:
    for path in found.unknown[:PATHS_SHOWN]:
        print(f"not in the store: {path}", file=sys.stderr)
    if len(found.unknown) > PATHS_SHOWN:
        print(f"not in the store: {len(found.unknown) - PATHS_SHOWN} more", file=sys.stderr)
    for what, count in sorted(found.changes.items()):
        print(f"  {what}: {count}")
    print(
        f"{len(found.relabels)} images {'would change' if is_dry else 'changed'}, {found.unchanged} rows say "
        f"what the store says, {len(found.unknown)} are not in the store"
    )


ACTION = Action(
    options=Relabel,
    body=relabel_images,
    example="mri-hpc store relabel data/store --labels new.csv --dry-run",
)
