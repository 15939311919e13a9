"""``mri-hpc store who-used``: the snapshots, runs and predictions that have seen a patient."""

import os
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np

from mri_hpc.base.command import print_json
from mri_hpc.base.errors import UserError
from mri_hpc.base.marks import POSITIONAL, Flag
from mri_hpc.cohort.lineage import LEARNT_FROM, parent_of
from mri_hpc.cohort.splits import split_of
from mri_hpc.intake.labels import SPLITS
from mri_hpc.intake.pseudonyms import key_path
from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.manifests import checkpoint_folders, read_manifest
from mri_hpc.rundir.predictions import read_predictions
from mri_hpc.rundir.provenance import read_provenance
from mri_hpc.rundir.settings import TrainingSettings, load_training
from mri_hpc.storage.store import Snapshot, Store


@dataclass(frozen=True, kw_only=True)
class WhoUsed:
    """List the snapshots, runs and predictions that have seen a patient, and the patient's retractions.

    Runs that start from the model of one that has learnt from the patient are listed as its descendants.
    """

    store: Annotated[Path, POSITIONAL]
    """Folder of the store."""
    patient: Annotated[str, POSITIONAL]
    """The patient's id as in the labels, or the pseudonym."""
    runs: Path = Path("runs")
    """Folder of runs."""
    json: Flag = False
    """Print as JSON."""


def who_used(options: WhoUsed) -> None:
    """Print the snapshots, runs and predictions that have seen a patient."""
    store = Store.open(options.store)
    name = store.name_of(options.patient, key_path(os.environ))
    persons = store.current().persons
    names = persons.names(name)
    snapshots = {digest: store.recall(digest) for digest in store.published()}
    retractions = {one.id: one for other in names for one in store.retractions(other)}
    values = {
        "patient": persons.name(name),
        "snapshots": [
            {"snapshot": digest, "images": count}
            for digest, snapshot in snapshots.items()
            if (count := int(_rows(snapshot, names).sum()))
        ],
        "runs": _uses(options.runs, store, snapshots, names),
        "retracted": [_record(one.created, one.who, one.why) for one in retractions.values()],
    }
    if not any(values[what] for what in ("snapshots", "runs")):
        # A name that was mistyped must not look like one that nothing has seen.
        store.look_for(name, given=options.patient)
    if options.json:
        print_json(values)
    else:
        _print(values, options.runs)


def uses_in(folder: Path, store: Store, names: Sequence[str]) -> list[dict[str, Any]]:
    """Describe what the runs in a folder have seen of a patient, those that have seen anything."""
    return _uses(folder, store, {digest: store.recall(digest) for digest in store.published()}, names)


def _uses(
    folder: Path, store: Store, snapshots: dict[str, Snapshot], names: Sequence[str]
) -> list[dict[str, Any]]:
    return [used for run in _runs(folder) if (used := _use(run, store, snapshots, names))]


def _rows(snapshot: Snapshot, names: Sequence[str]) -> np.ndarray:
    """Find the rows of a patient. names: all that the patient has in the store."""
    return snapshot.is_of(np.array([name.encode() for name in names]))


def _runs(folder: Path) -> list[RunDir]:
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder: --runs takes the folder that holds the runs")
    return [RunDir(file.parent) for file in sorted(folder.glob("*/settings.toml"))]


def _use(
    run: RunDir, store: Store, snapshots: dict[str, Snapshot], names: Sequence[str]
) -> dict[str, Any] | None:
    """Describe what a run has seen of a patient, itself or by its ancestors; None where that is nothing."""
    images = _images(run, store, snapshots, names)
    predictions = _predictions(run, names)
    descends_from = [
        str(ancestor.path)
        for ancestor, digest in _ancestors(run)
        if _has_learnt(ancestor, digest, store, snapshots, names)
    ]
    if not (images or predictions or descends_from):
        return None
    return {
        "run": str(run.path),
        "finished": run.is_finished,
        "images": dict(images),
        "predictions": dict(predictions),
        "descends_from": descends_from,
    }


def _images(run: RunDir, store: Store, snapshots: dict[str, Snapshot], names: Sequence[str]) -> Counter[str]:
    """Count images of a patient that a run has seen, by split; none where it is of another store."""
    settings = load_training(run)
    images = Counter[str]()
    if Path(settings.store).resolve() == store.path.resolve():
        for digest in _snapshots_of(run, settings):
            if digest in snapshots:
                # Of several snapshots, the one in which the run has seen most.
                images |= _images_by_split(snapshots[digest], settings, names)
    return images


def _ancestors(run: RunDir) -> list[tuple[RunDir, str]]:
    """Find the runs that a run descends from, and the snapshot of each where provenance tells it."""
    snapshots: dict[Path, str] = {}
    found: list[Path] = []
    child: RunDir | None = run
    while child and child.settings.is_file() and child.path not in found[:-1]:
        # Beyond a run that is gone, the provenance of those that went on from it alone tells.
        snapshots |= {
            Path(one["run"]): one["snapshot"] for one in read_provenance(child).get("continued_from", [])
        }
        child = parent_of(load_training(child))
        found += [child.path] if child else []
    return [(RunDir(path), snapshots.get(path, "")) for path in dict.fromkeys([*found, *snapshots])]


def _has_learnt(
    run: RunDir, digest: str, store: Store, snapshots: dict[str, Snapshot], names: Sequence[str]
) -> bool:
    """Tell whether a run's model depends on a patient; of one that is gone, whether it may."""
    if run.settings.is_file():
        images = _images(run, store, snapshots, names)
        return any(images[SPLITS[code]] for code in LEARNT_FROM)
    return digest in snapshots and bool(_rows(snapshots[digest], names).any())


def _snapshots_of(run: RunDir, settings: TrainingSettings) -> set[str]:
    """Return the digests of snapshots that a run names, or that its checkpoints were made on."""
    manifests = (read_manifest(folder) for folder in checkpoint_folders(run))
    return {settings.snapshot, *(manifest.progress.snapshot for manifest in manifests if manifest)}


def _images_by_split(snapshot: Snapshot, settings: TrainingSettings, names: Sequence[str]) -> Counter[str]:
    rows = _rows(snapshot, names)
    if not rows.any():
        return Counter()
    code = split_of(snapshot, settings.val_fold, settings.test_fold, settings.from_train)[rows]
    return Counter(SPLITS[number] if number >= 0 else "unused" for number in code.tolist())


def _predictions(run: RunDir, names: Sequence[str]) -> Counter[str]:
    """Count rows of predictions.csv that name a patient, by split."""
    if not run.predictions.is_file():
        return Counter()
    _classes, rows = read_predictions(run.predictions)
    return Counter(row.split for row in rows if row.patient in names)


def _record(created: float, who: str, why: str) -> dict[str, str]:
    return {"who": who, "when": time.strftime("%Y-%m-%d %H:%M", time.localtime(created)), "why": why}


def _print(values: dict[str, Any], runs: Path) -> None:
    print(f"patient {values['patient']}")
    for one in values["snapshots"]:
        print(f"snapshot {one['snapshot']}: {one['images']} images")
    for one in values["runs"]:
        state = "finished" if one["finished"] else "not finished"
        parts = [f"{count} images in {split}" for split, count in one["images"].items()]
        parts += [f"{count} predictions in {split}" for split, count in one["predictions"].items()]
        parts += [f"descends from {run}" for run in one["descends_from"]]
        print(f"run {one['run']} ({state}): {', '.join(parts)}")
    for one in values["retracted"]:
        why = f": {one['why']}" if one["why"] else ""
        print(f"retracted {one['when']} by {one['who']}{why}")
    if not values["snapshots"] and not values["runs"]:
        print(f"no snapshot, and no run in {runs}, has seen this patient")
