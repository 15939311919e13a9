"""Runs that continue others: what they may differ in, and that no judged patient was ever trained on."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mri_hpc.base.command import shown
from mri_hpc.base.errors import UserError
from mri_hpc.cohort.splits import TEST, TRAIN, UNUSED, VALIDATION, split_by
from mri_hpc.intake.decoding.recipe import load_recipe
from mri_hpc.rundir.layout import RunDir, open_run
from mri_hpc.rundir.manifests import newest_manifest
from mri_hpc.rundir.provenance import read_provenance
from mri_hpc.rundir.settings import TrainingSettings, load_training
from mri_hpc.storage.store import Snapshot, Store

# What a model depends on: by the one its weights are fitted, by the other its epoch is chosen.
LEARNT_FROM = {TRAIN: "training", VALIDATION: "validation"}


@dataclass(frozen=True, kw_only=True)
class Ancestor:
    """A finished run whose weights a later one starts from, and what it was trained on."""

    run: RunDir
    snapshot: Snapshot
    code: np.ndarray
    """int8, (n,): the split of every image of its snapshot."""


def open_finished(path: Path) -> RunDir:
    """Open the finished run at `path`, to go on from; UserError where there is none, or it is unfinished."""
    run = open_run(path)
    if not run.model.is_file():
        raise UserError(
            f"--continue-from {shown(path)}: the run is not finished, it has no {run.model.name} yet; "
            f"finish it with: python -m mri_hpc.launch --run {shown(path)}"
        )
    return run


def check_lineage(training: TrainingSettings, snapshot: Snapshot, code: np.ndarray) -> list[str]:
    """Check the runs that a new one goes on from; return, for people, what it takes over and adds.

    snapshot, code: of the new run; code as `split_of` gives it. Raises UserError where the weights do not
    fit, or a run that it descends from has learnt from a patient that it is judged on.
    """
    parent = open_finished(Path(training.continue_from))
    name = f"--continue-from {shown(parent.path)}"
    _refuse_other_model(name, load_training(parent), training)
    ancestors = list(_ancestors(training))
    old = ancestors[0].snapshot
    _refuse_other_data(name, old, snapshot)
    for ancestor in ancestors:
        _refuse_other_names(name, ancestor, Path(training.store))
        _refuse_leak(name, ancestor, snapshot, code)
    growth = [*_model_step(parent), *_growth(ancestors[0], snapshot, code)]
    lines = [f"continues {shown(parent.path)} ({', '.join(growth)})", *_no_longer_stored(ancestors, snapshot)]
    new = sorted(set(snapshot.classes) - set(old.classes))
    if new:
        lines.append(f"new here: {', '.join(new)}; the head starts anew, all else from {shown(parent.path)}")
    return lines


def check_weights_of_run(training: TrainingSettings, snapshot: Snapshot, code: np.ndarray) -> list[str]:
    """Check the run that --weights names a model of, if it does; return a note where its images are unknown.

    snapshot, code: of the new run. Raises UserError where that run has learnt from a patient that this one is
    judged on.
    """
    parent = parent_of(training)
    if not parent:
        return []
    name = f"--weights {shown(parent.model)}"
    try:
        ancestors = list(_ancestors(training))
    except UserError:
        # Another site's model, for one: its patients are not these, and its store is not here.
        return [f"{name}: the data of that run are not here; patients that both runs have go unnoticed"]
    for ancestor in ancestors:
        _refuse_other_names(name, ancestor, Path(training.store))
        _refuse_leak(name, ancestor, snapshot, code)
    return []


def share_validation(training: TrainingSettings, snapshot: Snapshot, code: np.ndarray) -> bool:
    """Tell whether patients of validation were in that of a run before; False where its data are not here.

    snapshot, code: of the new run.
    """
    names = _patients(snapshot, code == VALIDATION)
    try:
        before = [_patients(one.snapshot, one.code == VALIDATION) for one in _ancestors(training)]
    except UserError:
        return False
    return any(names.intersection(snapshot.persons.all_names(one).tolist()) for one in before)


def learnt_from(run: RunDir) -> np.ndarray:
    """Return the keys of all images that a finished run's model depends on: uint64, (n,), sorted.

    By itself, and by the runs that it goes on from. UserError where one of them, or its snapshot, is gone.
    """
    training = load_training(run)
    training = replace(training, snapshot=str(read_provenance(run).get("snapshot") or training.snapshot))
    snapshot = _find_snapshot(run, training, stores=(training.store,))
    itself = Ancestor(run=run, snapshot=snapshot, code=split_by(snapshot, training))
    return np.unique(
        np.concatenate(
            [
                np.asarray(one.snapshot.key)[np.isin(one.code, list(LEARNT_FROM))]
                for one in (itself, *_ancestors(training))
            ]
        )
    )


def parent_of(training: TrainingSettings) -> RunDir | None:
    """Return the run whose model a run starts from, whichever option names it."""
    if training.continue_from:
        return RunDir(Path(training.continue_from))
    run = RunDir(Path(training.weights).parent)
    is_of_run = bool(training.weights) and Path(training.weights) == run.model and run.settings.is_file()
    return run if is_of_run else None


def runs_before(training: TrainingSettings) -> Iterator[RunDir]:
    """List the run that is continued, the one that it continued, and so on. UserError where one is gone."""
    child, seen = training, set()
    while (run := parent_of(child)) and run.path not in seen:
        seen.add(run.path)
        if not run.settings.is_file():
            raise UserError(
                f"{run.path}, from which this run descends, is gone: nobody can tell which patients it was "
                f"trained on; put it back there, or train without --continue-from"
            )
        yield run
        child = load_training(run)


def ancestor_of(training: TrainingSettings) -> Ancestor:
    """Return the run that is continued, and what it was trained on. UserError where either is gone."""
    ancestor = next(_ancestors(training), None)
    if ancestor is None:
        raise UserError("the run goes on from none")
    return ancestor


def _ancestors(training: TrainingSettings) -> Iterator[Ancestor]:
    """List what `runs_before` were trained on. UserError where one, or its snapshot, is gone."""
    for run in runs_before(training):
        settings = load_training(run)
        snapshot = _find_snapshot(run, settings, stores=(settings.store, training.store))
        yield Ancestor(run=run, snapshot=snapshot, code=split_by(snapshot, settings))


def _find_snapshot(run: RunDir, settings: TrainingSettings, *, stores: Iterable[str]) -> Snapshot:
    """Find the snapshot that the run was trained on; UserError where no store holds it any more."""
    looked_in = list(dict.fromkeys(stores))
    # Of a run that followed its store, the last one, which has all that is there of those before.
    digest = str(read_provenance(run).get("snapshot") or settings.snapshot)
    for store in looked_in:
        try:
            return Store.open(Path(store)).recall(digest)
        except UserError as error:
            reason = error
    raise UserError(
        f"{shown(run.path)} was trained on snapshot {digest[:12]}, which is not in "
        f"{' and not in '.join(looked_in)} ({reason}): nobody can tell whether its patients are judged now; "
        f"bring its store back, or train without --continue-from"
    )


def _refuse_other_model(name: str, parent: TrainingSettings, training: TrainingSettings) -> None:
    if parent.model != training.model:
        raise UserError(
            f"{name} is a {parent.model}, and --model is {training.model}: weights of one do not fit the "
            f"other; leave --model out"
        )


def _refuse_other_data(name: str, old: Snapshot, new: Snapshot) -> None:
    if old.image_shape != new.image_shape:
        was, now = (f"{height} × {width}" for height, width in (old.image_shape, new.image_shape))
        raise UserError(
            f"{name} was trained on images of {was} pixels, and the store holds {now}: "
            f"preprocess into a store of that --size"
        )
    missing = sorted(set(old.classes) - set(new.classes))
    if missing:
        raise UserError(
            f"{name} knows classes that the store lacks ({', '.join(missing)}): "
            f"add their images, or train without --continue-from"
        )


def _refuse_other_names(name: str, ancestor: Ancestor, store: Path) -> None:
    """Raise UserError where the same patient has another name here than an ancestor gave them."""
    was, now = load_recipe(ancestor.run.recipe), load_recipe(store / "recipe.json")
    if (was.ids, was.site) != (now.ids, now.site):
        raise UserError(
            f"{name}: {shown(store)} names patients otherwise than {shown(ancestor.run.path)} did (another "
            f"site key, or --ids): nobody can tell whether those who are judged were trained on; use a store "
            f"with its key, or train without --continue-from"
        )


def _no_longer_stored(ancestors: Iterable[Ancestor], snapshot: Snapshot) -> list[str]:
    """Return a note where ancestors have learnt from patients who have left the store since."""
    learnt = [_patients(one.snapshot, np.isin(one.code, list(LEARNT_FROM))) for one in ancestors]
    gone = sorted(
        set().union(*learnt) - set(snapshot.persons.all_names(snapshot.patient_names.tolist()).tolist())
    )
    if not gone:
        return []
    which = f"{len(gone)} patients who are not in the store any more (such as {gone[0].decode()})"
    return [f"its weights have learnt from {which}: where they were retracted, train without --continue-from"]


def _refuse_leak(name: str, ancestor: Ancestor, snapshot: Snapshot, code: np.ndarray) -> None:
    """Raise UserError where the new run would be judged on what an ancestor has learnt from."""
    is_tested, is_judged = code == TEST, (code == TEST) | (code == VALIDATION)
    _refuse_shared(name, ancestor, TRAIN, snapshot, is_judged, "validation and test splits")
    # Its best epoch was chosen by them; choosing by them again does no harm.
    _refuse_shared(name, ancestor, VALIDATION, snapshot, is_tested, "test split")


def _refuse_shared(
    name: str, ancestor: Ancestor, split: int, snapshot: Snapshot, is_judged: np.ndarray, judged: str
) -> None:
    """Raise UserError where an ancestor's split holds what the new run is judged on."""
    was_seen = ancestor.code == split
    seen = f"the {LEARNT_FROM[split]} split of {shown(ancestor.run.path)}"
    # Who was seen under one name may have another one now.
    seen_names = snapshot.persons.all_names(_patients(ancestor.snapshot, was_seen)).tolist()
    patients = sorted(_patients(snapshot, is_judged).intersection(seen_names))
    if patients:
        which = f"{len(patients)} patients of this run's {judged} (such as {patients[0].decode()})"
        _refuse(name, which, seen)
    # The same picture under another name, or of no known patient.
    bytes_seen = np.asarray(ancestor.snapshot.source_hash)[was_seen]
    images = int(np.isin(np.asarray(snapshot.source_hash)[is_judged], bytes_seen).sum())
    if images:
        _refuse(name, f"{images} images of this run's {judged} (by their bytes)", seen)


def _refuse(name: str, which: str, seen: str) -> None:
    raise UserError(
        f"{name}: {which} were in {seen}: its figures would be too good; keep that run's folds and "
        f"splits, or start from other weights"
    )


def _patients(snapshot: Snapshot, rows: np.ndarray) -> set[bytes]:
    """Return the pseudonyms in these rows."""
    patient = np.unique(np.asarray(snapshot.patient)[rows])
    return set(snapshot.patient_names[patient[patient >= 0]].tolist())


def _model_step(run: RunDir) -> list[str]:
    """Return the step after which the run's model was saved, where its checkpoints still say so."""
    manifest = newest_manifest(run)
    if not manifest:
        return []
    return [f"step {manifest.progress.model_step(load_training(run).published_epoch)}"]


def _growth(parent: Ancestor, new: Snapshot, code: np.ndarray) -> list[str]:
    """Count what splits have gained since the parent. code: of the new run."""
    old = parent.snapshot
    if old.digest == new.digest:
        return [f"snapshot {old.digest[:8]} as before"]
    was_used, is_used = parent.code != UNUSED, code != UNUSED
    images = int(is_used.sum()) - int(was_used.sum())
    patients = len(_patients(new, is_used)) - len(_patients(old, was_used))
    return [f"snapshot {old.digest[:8]} → {new.digest[:8]}", f"{images:+} images", f"{patients:+} patients"]
