"""``mri-hpc store same-patient``: two patients of a store turn out to be one."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from mri_hpc.base.command import Action, counted, print_json
from mri_hpc.base.errors import UserError
from mri_hpc.base.marks import POSITIONAL, Flag
from mri_hpc.intake.labels.label import SPLITS
from mri_hpc.intake.labels.pseudonyms import key_path
from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.settings import load_training
from mri_hpc.storage.store import Store
from mri_hpc.store_actions.who_used import uses_in

if TYPE_CHECKING:
    from mri_hpc.storage.store import Name, Snapshot

TYPED = "typed to store same-patient"


@dataclass(frozen=True, kw_only=True)
class SamePatient:
    """Make two patients one from now on, with all images that come later under either name.

    If one of them is in test, both are in new runs; else if one is in validation, both are. Runs that learnt
    from them are named: they keep their snapshots.
    """

    store: Annotated[Path, POSITIONAL]
    """Folder of the store."""
    first: Annotated[str, POSITIONAL]
    """The id of one as in the labels, or the pseudonym."""
    second: Annotated[str, POSITIONAL]
    """That of the other."""
    undo: Flag = False
    """They are two patients after all."""
    runs: Path = Path("runs")
    """Folder of runs, of which those that learnt from either are named."""
    why: str = ""
    """Kept with the record, which may be shared: name no person."""
    json: Flag = False
    """Print as JSON."""


def join_patients(options: SamePatient) -> None:
    """Publish whose names are of one patient, and print what follows."""
    # Here and below: whoever asks for help need not wait for it.
    from mri_hpc.storage.store import Pair

    store = Store.open(options.store)
    first, second = (_name(store, given) for given in (options.first, options.second))
    if first.name == second.name:
        raise UserError(f"{options.first!r} and {options.second!r} have one name in the store: {first.name}")
    pair = Pair(first=first, second=second)
    before = store.current().persons
    was_one = before.name(first.name) == before.name(second.name)
    if options.undo:
        store.part(pair, options.why)
    else:
        store.join([pair], options.why)
    snapshot = store.current()
    values = {
        "store": str(options.store),
        "names": sorted([first.name, second.name]),
        "patient": "" if options.undo else snapshot.persons.name(first.name),
        "was_one": was_one,
        "images": sum(
            _images(snapshot, name) for name in {snapshot.persons.name(n.name) for n in (first, second)}
        ),
        "runs": _runs(options.runs, store, snapshot, (first.name, second.name)),
    }
    if options.json:
        print_json(values)
    else:
        _print(values)


def _name(store: Store, given: str) -> "Name":
    """Return the name that a patient has in the store; UserError where it has nothing of the patient."""
    from mri_hpc.storage.store import Name

    name = store.name_of(given, key_path(os.environ))
    store.look_for(name, given=given)
    return Name(name=name, patient=given, where=TYPED)


def _images(snapshot: "Snapshot", patient: str) -> int:
    names = snapshot.patient_names.tolist()
    return (
        int(snapshot.counts("patient")[names.index(patient.encode()) + 1]) if patient.encode() in names else 0
    )


def _runs(folder: Path, store: Store, snapshot: "Snapshot", names: tuple[str, str]) -> list[dict[str, Any]]:
    """Describe the runs that learnt from either, and where these would be in a new run of such settings."""
    if not folder.is_dir():
        return []
    from mri_hpc.cohort.lineage import LEARNT_FROM

    learnt = {SPLITS[code] for code in LEARNT_FROM}
    used = uses_in(folder, store, names)
    return [
        {**run, "split_now": _split_now(RunDir(Path(run["run"])), snapshot, names)}
        for run in used
        if learnt & run["images"].keys() or run["descends_from"]
    ]


def _split_now(run: RunDir, snapshot: "Snapshot", names: tuple[str, str]) -> str:
    """Name the splits in which the patients are now; empty where that cannot be told."""
    from mri_hpc.cohort.splits import split_by

    settings = load_training(run)
    try:
        code = split_by(snapshot, settings)
    except UserError:
        return ""
    of_either = snapshot.is_of(snapshot.persons.all_names(name.encode() for name in names))
    return ", ".join(SPLITS[one] for one in sorted({*code[of_either].tolist()}) if one >= 0)


def _print(values: dict[str, Any]) -> None:
    first, second = values["names"]
    images = counted(values["images"], "image")
    if not values["patient"]:
        print(f"{first} and {second} are two patients again, of {images}")
    else:
        already = "were one patient already" if values["was_one"] else "are one patient from now on"
        print(f"{first} and {second} {already}: {values['patient']}, of {images}")
    for run in values["runs"]:
        parts = [f"{count} images in {split}" for split, count in run["images"].items()]
        parts += [f"descends from {other}" for other in run["descends_from"]]
        now = f"; new runs have them in {run['split_now']}" if run["split_now"] else ""
        print(f"run {run['run']} has learnt from them: {', '.join(parts)}{now}")


ACTION = Action(
    options=SamePatient, body=join_patients, example="mri-hpc store same-patient data/store ID OTHER"
)
