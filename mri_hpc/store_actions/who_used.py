"""``mri-hpc store who-used``: the snapshots, runs and predictions that have seen a patient, or images."""

import os
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from mri_hpc.base.command import Action, print_json
from mri_hpc.base.errors import UsageError, UserError
from mri_hpc.base.marks import POSITIONAL, Flag, Word
from mri_hpc.intake.decoding.recipe import load_recipe
from mri_hpc.intake.labels.label import SPLITS
from mri_hpc.intake.labels.pseudonyms import key_path, pseudonyms_of
from mri_hpc.rundir.following import adoptions_of
from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.ledger import read_events
from mri_hpc.rundir.manifests import checkpoint_folders, read_manifest
from mri_hpc.rundir.predictions import Prediction, read_predictions
from mri_hpc.rundir.provenance import read_provenance
from mri_hpc.rundir.settings import TrainingSettings, load_training
from mri_hpc.storage.store import Store, state_of_made
from mri_hpc.store_actions.retracted_elsewhere import MODELS, models_in, refuse_missing

if TYPE_CHECKING:
    import numpy as np

    from mri_hpc.storage.store import Snapshot


@dataclass(frozen=True, kw_only=True)
class WhoUsed:
    """List the snapshots, runs, predictions, models and files that have seen or show a patient, or images.

    Their retractions are listed, too.

    Runs that start from the model of one that has learnt from them are listed as its descendants.
    """

    store: Annotated[Path, POSITIONAL]
    """Folder of the store."""
    patient: Annotated[str | None, POSITIONAL] = None
    """The patient's id as in the labels, or the pseudonym."""
    image: Annotated[tuple[str, ...], Word(value="[KEY|PATH ...]")] = ()
    """In place of a patient: keys of images, or the paths of their files."""
    runs: Path = Path("runs")
    """Folder of runs."""
    models: Path = MODELS
    """Folder of models that are kept, where there is one."""
    json: Flag = False
    """Print as JSON."""

    def __post_init__(self) -> None:
        if (self.patient is not None) == bool(self.image):
            raise UsageError("give a patient, or --image KEY|PATH ...")


@dataclass(frozen=True, kw_only=True)
class Traced:
    """A patient, or images, whose traces are looked for."""

    names: tuple[str, ...] = ()
    """All names of the patient in the store, the one by which the patient goes first; none: images."""
    keys: frozenset[int] = frozenset()
    """Of images."""

    def rows(self, snapshot: "Snapshot") -> "np.ndarray":
        """Find the images in a snapshot: bool, (n,)."""
        # Here and below: whoever asks for help need not wait for it.
        import numpy as np

        if self.names:
            return snapshot.is_of(np.array([name.encode() for name in self.names]))
        return np.isin(snapshot.key, np.fromiter(self.keys, "<u8", len(self.keys)))

    def has(self, row: Prediction) -> bool:
        """Tell whether a prediction is about them."""
        if self.names:
            return row.patient in self.names
        return int(row.key, 16) in self.keys


def who_used(options: WhoUsed) -> None:
    """Print the snapshots, runs and predictions that have seen a patient, or images."""
    refuse_missing(options.models)
    store = Store.open(options.store)
    traced = _traced(store, options)
    snapshots = {digest: store.recall(digest) for digest in store.published()}
    retractions = {
        one.id: one for name in traced.names or ("",) for one in store.retractions(name, traced.keys)
    }
    gone = [int(key, 16) for one in retractions.values() for key in one.retracted_keys if traced.names]
    keys = _keys_of(snapshots.values(), traced, gone)
    values = {
        **({"patient": traced.names[0]} if traced.names else {"images": _keys(traced)}),
        "snapshots": [
            {"snapshot": digest, "images": count}
            for digest, snapshot in snapshots.items()
            if (count := int(traced.rows(snapshot).sum()))
        ],
        "runs": _uses(options.runs, store, snapshots, traced),
        "models": models_in(options.models, store, keys),
        "files": _files(store, keys, traced),
        "retracted": [_record(one.created, one.who, one.why) for one in retractions.values()],
    }
    if traced.names and not values["snapshots"] and not values["runs"] and not values["models"]:
        # A name that was mistyped must not look like one that nothing has seen.
        store.look_for(traced.names[0], given=options.patient or "")
    if options.json:
        print_json(values)
    else:
        _print(values, options.runs)


def _files(store: Store, keys: "np.ndarray", traced: Traced) -> list[dict[str, Any]]:
    """Describe the files that were made of images, as far as they were written down. keys: uint64, (n,)."""
    from mri_hpc.store_actions.made import described, files_showing

    return [described(state_of_made(one)) for one in files_showing(store, keys, traced.names)[0]]


def _keys_of(snapshots: "Iterable[Snapshot]", traced: Traced, gone: Iterable[int]) -> "np.ndarray":
    """Return the keys of all images that are traced: uint64, (n,). gone: of those that were retracted."""
    import numpy as np

    stored = [np.asarray(one.key)[traced.rows(one)] for one in snapshots]
    return np.unique(np.concatenate([np.array([*gone, *traced.keys], np.uint64), *stored]))


def uses_in(folder: Path, store: Store, names: Sequence[str]) -> list[dict[str, Any]]:
    """Describe what the runs in a folder have seen of a patient, those that have seen anything."""
    snapshots = {digest: store.recall(digest) for digest in store.published()}
    return _uses(folder, store, snapshots, Traced(names=tuple(names)))


def _uses(
    folder: Path, store: Store, snapshots: "dict[str, Snapshot]", traced: Traced
) -> list[dict[str, Any]]:
    return [used for run in _runs(folder) if (used := _use(run, store, snapshots, traced))]


def _traced(store: Store, options: WhoUsed) -> Traced:
    if options.patient is not None:
        name, persons = store.name_of(options.patient, key_path(os.environ)), store.current().persons
        return Traced(names=tuple(dict.fromkeys([persons.name(name), *persons.names(name)])))
    recipe = load_recipe(store.recipe)
    pseudonyms = pseudonyms_of(
        ids=recipe.ids, site=recipe.site, key_file=key_path(os.environ), group=store.group
    )
    return Traced(keys=frozenset(store.look_for_images(options.image, pseudonyms).keys))


def _keys(traced: Traced) -> list[str]:
    return [f"{key:016x}" for key in sorted(traced.keys)]


def _runs(folder: Path) -> list[RunDir]:
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder: --runs takes the folder that holds the runs")
    return [RunDir(file.parent) for file in sorted(folder.glob("*/settings.toml"))]


def _use(
    run: RunDir, store: Store, snapshots: "dict[str, Snapshot]", traced: Traced
) -> dict[str, Any] | None:
    """Describe what a run has seen of them, itself or by its ancestors; None where that is nothing."""
    images = _images(run, store, snapshots, traced)
    predictions = _predictions(run, traced)
    descends_from = [
        str(ancestor.path)
        for ancestor, digest in _ancestors(run)
        if _has_learnt(ancestor, digest, store, snapshots, traced)
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


def _images(run: RunDir, store: Store, snapshots: "dict[str, Snapshot]", traced: Traced) -> Counter[str]:
    """Count images of them that a run has seen, by split; none where it is of another store."""
    settings = load_training(run)
    images = Counter[str]()
    if Path(settings.store).resolve() == store.path.resolve():
        for digest in _snapshots_of(run, settings):
            if digest in snapshots:
                # Of several snapshots, the one in which the run has seen most.
                images |= _images_by_split(snapshots[digest], settings, traced)
    return images


def _ancestors(run: RunDir) -> list[tuple[RunDir, str]]:
    """Find the runs that a run descends from, and the snapshot of each where provenance tells it."""
    from mri_hpc.cohort.lineage import parent_of

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
    run: RunDir, digest: str, store: Store, snapshots: "dict[str, Snapshot]", traced: Traced
) -> bool:
    """Tell whether a run's model depends on them; of one that is gone, whether it may."""
    if run.settings.is_file():
        from mri_hpc.cohort.lineage import LEARNT_FROM

        images = _images(run, store, snapshots, traced)
        return any(images[SPLITS[code]] for code in LEARNT_FROM)
    return digest in snapshots and bool(traced.rows(snapshots[digest]).any())


def _snapshots_of(run: RunDir, settings: TrainingSettings) -> set[str]:
    """Return the digests of snapshots that a run names, or that its checkpoints were made on."""
    manifests = (read_manifest(folder) for folder in checkpoint_folders(run))
    adopted = {one.snapshot for one in adoptions_of(read_events(run)).values()}
    return {
        settings.snapshot, *adopted, *(manifest.progress.snapshot for manifest in manifests if manifest)
    }  # fmt: skip


def _images_by_split(snapshot: "Snapshot", settings: TrainingSettings, traced: Traced) -> Counter[str]:
    rows = traced.rows(snapshot)
    if not rows.any():
        return Counter()
    from mri_hpc.cohort.splits import split_by

    code = split_by(snapshot, settings)[rows]
    return Counter(SPLITS[number] if number >= 0 else "unused" for number in code.tolist())


def _predictions(run: RunDir, traced: Traced) -> Counter[str]:
    """Count rows of predictions.csv about them, by split."""
    if not run.predictions.is_file():
        return Counter()
    _classes, rows = read_predictions(run.predictions)
    return Counter(row.split for row in rows if traced.has(row))


def _record(created: float, who: str, why: str) -> dict[str, str]:
    return {"who": who, "when": time.strftime("%Y-%m-%d %H:%M", time.localtime(created)), "why": why}


def _print(values: dict[str, Any], runs: Path) -> None:
    from mri_hpc.store_actions.made import in_words

    print(f"patient {values['patient']}" if "patient" in values else f"images {', '.join(values['images'])}")
    for one in values["snapshots"]:
        print(f"snapshot {one['snapshot']}: {one['images']} images")
    for one in values["runs"]:
        state = "finished" if one["finished"] else "not finished"
        parts = [f"{count} images in {split}" for split, count in one["images"].items()]
        parts += [f"{count} predictions in {split}" for split, count in one["predictions"].items()]
        parts += [f"descends from {run}" for run in one["descends_from"]]
        print(f"run {one['run']} ({state}): {', '.join(parts)}")
    for one in values["models"]:
        learnt = (
            "may have learnt from them" if one["images"] is None else f"learnt from {one['images']} images"
        )
        print(f"model {one['model']} ({one['state']}): {learnt}")
    for one in values["files"]:
        print(f"file {in_words(one)}")
    for one in values["retracted"]:
        why = f": {one['why']}" if one["why"] else ""
        print(f"retracted {one['when']} by {one['who']}{why}")
    if not values["snapshots"] and not values["runs"] and not values["models"]:
        print(
            f"no snapshot, and no run in {runs}, has seen {'this patient' if 'patient' in values else 'them'}"
        )


ACTION = Action(options=WhoUsed, body=who_used, example="mri-hpc store who-used data/store ID")
