"""``mri-hpc store info``: what is in a store."""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from mri_hpc.base.command import Flag, print_json, shown_bytes
from mri_hpc.chunks.layout import StoreDir, open_store
from mri_hpc.chunks.snapshots import Snapshot, current
from mri_hpc.intake.recipe import load_recipe


@dataclass(frozen=True, kw_only=True)
class Info:
    """What is in the store: images, patients, classes, files, rejected sources and why, digests."""

    store: tyro.conf.Positional[Path]
    """Folder of the store."""
    json: Flag = False
    """Print as JSON."""


def info(options: Info) -> None:
    """Print what is in a store."""
    store = open_store(options.store)
    snapshot, _num_folded = current(store)
    values = summary(store, snapshot)
    if options.json:
        print_json(values)
    else:
        _print_table(values)


def summary(store: StoreDir, snapshot: Snapshot) -> dict[str, Any]:
    """What `store info --json` prints."""
    labels = Counter(snapshot.label.tolist())
    reasons = Counter(snapshot.rejected["reason"][snapshot.is_rejected].tolist())
    recipe = load_recipe(store.recipe)
    return {
        "store": str(store.path),
        "images": len(snapshot),
        "patients": len(snapshot.patient_names),
        "images_without_patient": int(np.count_nonzero(snapshot.patient < 0)),
        "classes": {name: labels[code] for code, name in enumerate(snapshot.classes)},
        "images_without_label": labels[-1],
        "chunks": len(snapshot.chunks),
        "bytes": int(snapshot.chunks["bytes"].sum()),
        "shadowed": snapshot.num_shadowed,
        "twins": snapshot.num_twins,
        "rejected": sum(reasons.values()),
        "reasons": {name: reasons[code] for code, name in enumerate(snapshot.reasons) if reasons[code]},
        "size": recipe.size,
        "fit": recipe.fit,
        "ids": recipe.ids,
        "commits": len(snapshot.commits),
        "snapshot": snapshot.digest,
        "content_digest": snapshot.content_digest,
    }


def _print_table(values: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(show_header=False, box=None, title=values["store"], title_justify="left")
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    rows = [
        ("images", f"{values['images']:,} of {values['size']} × {values['size']}, {values['fit']}"),
        ("patients", f"{values['patients']:,} ({values['ids']})"),
        ("", _unless_zero(values["images_without_patient"], "images name no patient")),
        *((f"class {name}", f"{count:,}") for name, count in values["classes"].items()),
        ("", _unless_zero(values["images_without_label"], "images have no label")),
        (
            "files",
            f"{values['chunks']:,} chunks, {shown_bytes(values['bytes'])}, {values['commits']:,} commits",
        ),
        ("twins", _unless_zero(values["twins"], "images whose source equals another one's, byte for byte")),
        ("shadowed", _unless_zero(values["shadowed"], "stored copies that nobody reads")),
        ("rejected", f"{values['rejected']:,}"),
        *((f"  {count:,}", reason) for reason, count in values["reasons"].items()),
        ("snapshot", values["snapshot"]),
        ("content", values["content_digest"]),
    ]
    for name, value in rows:
        if value:
            table.add_row(name, value)
    Console(highlight=False, markup=False).print(table)


def _unless_zero(count: int, what: str) -> str:
    return f"{count:,} {what}" if count else ""
