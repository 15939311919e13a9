"""``mri-hpc store info``: the content of a store."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from mri_hpc.base.command import Action, counted, print_json, shown_bytes
from mri_hpc.base.marks import POSITIONAL, Flag
from mri_hpc.intake.decoding.recipe import load_recipe
from mri_hpc.storage.store import Store

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True, kw_only=True)
class Info:
    """Show what is in the store: images, patients, classes, files, rejections, digests, and its growth."""

    store: Annotated[Path, POSITIONAL]
    """Folder of the store."""
    json: Flag = False
    """Print as JSON."""


def info(options: Info) -> None:
    """Print what is in a store."""
    store = Store.open(options.store)
    values = summary(store)
    if options.json:
        print_json(values)
    else:
        _print_table(values)


def summary(store: Store) -> dict[str, Any]:
    """Return what `store info --json` prints."""
    totals = store.totals()
    growth = store.growth(totals)
    recipe = load_recipe(store.recipe)
    return {
        "store": str(store.path),
        "images": totals.images,
        "patients": totals.patients,
        "images_without_patient": totals.images_without_patient,
        "classes": totals.classes,
        "images_without_label": totals.images_without_label,
        "chunks": totals.chunks,
        "bytes": totals.bytes,
        "shadowed": totals.shadowed,
        "twins": totals.twins,
        "rejected": sum(totals.reasons.values()),
        "reasons": totals.reasons,
        **({"deidentified": asdict(totals.added.deidentified)} if totals.added.deidentified else {}),
        "size": recipe.size,
        "fit": recipe.fit,
        **({} if recipe.bits == 8 else {"bits": recipe.bits}),
        "ids": recipe.ids,
        "commits": totals.commits,
        "snapshot": totals.digest,
        "content_digest": totals.content_digest,
        "snapshots": len(store.published()),
        "snapshot_bytes": store.snapshot_bytes(),
        "growth": {"by": growth.by, "periods": [asdict(period) for period in growth.periods]},
    }


def _print_table(values: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(show_header=False, box=None, title=values["store"], title_justify="left")
    table.add_column(style="bold")
    table.add_column(overflow="fold")
    names = Store(Path(values["store"])).names
    depth = f", {values['bits']} bits" if "bits" in values else ""
    rows = [
        ("images", f"{values['images']:,} of {values['size']} × {values['size']}, {values['fit']}{depth}"),
        ("patients", f"{values['patients']:,} ({values['ids']})"),
        ("", _unless_zero(values["images_without_patient"], "images name no patient")),
        *((f"class {name}", f"{count:,}") for name, count in values["classes"].items()),
        ("", _unless_zero(values["images_without_label"], "images have no label")),
        (
            "files",
            f"{counted(values['chunks'], 'chunk')}, {shown_bytes(values['bytes'])}, "
            f"{counted(values['commits'], 'commit')}",
        ),
        (
            "twins",
            _unless_zero(
                values["twins"],
                "images with the bytes of another one (store audit also finds those saved anew)",
            ),
        ),
        (
            "shadowed",
            _unless_zero(values["shadowed"], "copies that are not read (store compact takes them away)"),
        ),
        ("rejected", f"{values['rejected']:,}{f' (which: {names}/*.csv)' if values['rejected'] else ''}"),
        *((f"  {count:,}", reason) for reason, count in values["reasons"].items()),
        *_deidentified(values.get("deidentified")),
        ("snapshots", f"{values['snapshots']:,} published, {shown_bytes(values['snapshot_bytes'])}"),
        ("snapshot", values["snapshot"]),
        ("content digest", values["content_digest"]),
    ]
    for name, value in rows:
        if value:
            table.add_row(name, value)
    console = Console(highlight=False, markup=False)
    console.print(table)
    if values["growth"]["periods"]:
        console.print()
        console.print(_growth_table(values["growth"]))


def _deidentified(values: dict[str, Any] | None) -> Iterator[tuple[str, str]]:
    """Yield a row of what was done to sources of DICOM, and one of what their files say."""
    if values is None:
        return
    from mri_hpc.intake.decoding.dicom.deidentification import MEANINGS

    codes = ", ".join(f"{code} {MEANINGS[code]}" for code in values["by"]) or "none: ids are as given"
    of_sources = f"of {counted(values['sources'], 'DICOM source')}, dates {values['dates'].lower()}"
    yield "de-identified", f"{codes} ({of_sources})"
    statements = ", ".join(f"{statement}: {count:,}" for statement, count in values["statements"].items())
    yield "as files say", statements or "nothing"


def _growth_table(values: dict[str, Any]) -> "Table":
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column(values["by"])
    for title in ("images added", "size", "patients then"):
        table.add_column(title, justify="right")
    for period in values["periods"]:
        patients = "" if period["patients"] is None else f"{period['patients']:,}"
        added = f"{period['images']:,}"
        table.add_row(period["since"], added, shown_bytes(period["bytes"]), patients)
    return table


def _unless_zero(count: int, what: str) -> str:
    return f"{count:,} {what}" if count else ""


ACTION = Action(options=Info, body=info, example="mri-hpc store info data/store")
