"""A finished run becomes a record: copies of what it takes to ask its model, and what speaks for it."""

import io
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mri_hpc.base.access import let_group_use, user_name
from mri_hpc.base.atomic import TEMP_PREFIX, is_abandoned, publish_folder, remove_folder
from mri_hpc.base.errors import UserError
from mri_hpc.cohort.lineage import learnt_from
from mri_hpc.registry.evidence import beside_controls, beside_current, of_audit, of_retractions
from mri_hpc.registry.gate import Pair, pair_of
from mri_hpc.registry.history import Entry, current_of, now, promoted_record, read_history
from mri_hpc.registry.layout import LEARNT_FROM, ModelsDir, check_name
from mri_hpc.registry.record import Record, copied_files, digest_of, read_record, to_json
from mri_hpc.registry.retracted import retracted_since
from mri_hpc.results.answers.resemblance_run import keep_resemblance
from mri_hpc.results.answers.run_decision import num_models
from mri_hpc.results.runs.control_run import keep_controls
from mri_hpc.rundir import choices
from mri_hpc.rundir.layout import RunDir, open_run
from mri_hpc.rundir.provenance import read_provenance
from mri_hpc.rundir.settings import load_training


@dataclass(frozen=True, kw_only=True)
class Added:
    """A record, and whether it is new."""

    record: Record
    is_new: bool


def add_run(models: ModelsDir, path: Path, name: str, margin: float) -> Added:
    """Make a record of a finished run; harmless where the same model is there under that name.

    name: empty for that of the run's folder. UserError where the run is not finished, or damaged, or the
    name is another model's.
    """
    run = open_run(path)
    if not run.is_finished:
        raise UserError(f"{path} is not finished: mri-hpc status {path} says how far it is")
    name = check_name(name or run.path.resolve().name)
    models.make()
    _sweep(models)
    if (models.path / name).exists():
        return Added(record=_same(models, run, name), is_new=False)
    keep_controls(run)
    keep_resemblance(run)
    entries = read_history(models)
    if not publish_folder(
        models.path / name, lambda folder: _fill(models, folder, run, name, entries, margin)
    ):
        return Added(record=_same(models, run, name), is_new=False)
    return Added(record=read_record(models, name), is_new=True)


def compared_before(models: ModelsDir, entries: Sequence[Entry], gate: Sequence[str]) -> int:
    """Count the comparisons that were made on some of the same gate patients. gate: hashes of these."""
    made = [read_record(models, name).gate for name in models.names()] + [one.gate for one in entries]
    return sum(not {*gate}.isdisjoint(units) for units in made)


def pair_with(models: ModelsDir, run: RunDir, current: Entry) -> Pair | str:
    """Pair what a model and the current one say; the reason where that one is not as it was promoted."""
    try:
        record = promoted_record(models, current)
    except UserError as error:
        return str(error)
    return pair_of(run, models.run(record.name))


def _fill(
    models: ModelsDir, folder: Path, run: RunDir, name: str, entries: Sequence[Entry], margin: float
) -> None:
    """Write a record into a folder that is not published yet, and load its copies once."""
    let_group_use(folder)
    for path in copied_files(run):
        shutil.copyfile(path, folder / path.name)
    copy = RunDir(folder)
    _write_what_others_tell(run, copy)
    # Whatever is wrong with it, is wrong now: also damage on the way here.
    from mri_hpc.training.prediction import load_finished

    load_finished(copy)
    record = _described(models, run, copy, name, entries, margin)
    copy.record.write_bytes(to_json(record))
    for path in folder.iterdir():
        let_group_use(path)


def _write_what_others_tell(run: RunDir, copy: RunDir) -> None:
    """Keep what runs before, and the store, tell of the model: they may be gone when it is asked."""
    try:
        copy.choices.write_bytes(choices.to_json(num_models(run)))
    except UserError:
        # Then nothing can be promised of the run itself either, and the copy says so in the same words.
        copy.choices.unlink(missing_ok=True)
    try:
        keys = learnt_from(run)
    except (UserError, OSError):
        return
    text = io.BytesIO()
    np.save(text, keys)
    (copy.path / LEARNT_FROM).write_bytes(text.getvalue())


def _described(
    models: ModelsDir, run: RunDir, copy: RunDir, name: str, entries: Sequence[Entry], margin: float
) -> Record:
    training, provenance = load_training(run), read_provenance(run)
    current = current_of(models, entries)
    pair = pair_with(models, copy, current) if current else None
    gate = pair.units if isinstance(pair, Pair) else ()
    num = 1 + compared_before(models, entries, gate)
    record = Record(
        name=name,
        model_digest=str(provenance.get("model_digest", "")),
        model=training.model,
        classes=tuple(provenance.get("classes", ())),
        run=str(run.path.resolve()),
        store=str(Path(training.store).absolute()),
        snapshot=str(provenance.get("snapshot") or training.snapshot),
        added=now(),
        who=user_name(),
        files={path.name: digest_of(path) for path in sorted(copy.path.iterdir())},
        margin=margin,
        compared_with=current.name if current else "",
        gate=gate,
    )
    retracted = retracted_since(models, replace(record, name=copy.path.name), entries)
    evidence = (
        *beside_current(copy, pair, margin=margin, comparisons=num),
        beside_controls(run),
        of_audit(run),
        of_retractions(retracted),
    )
    return replace(record, evidence=evidence)


def _same(models: ModelsDir, run: RunDir, name: str) -> Record:
    """Return the record of a name; UserError where it is another model, or says something else of it."""
    if not models.record(name).exists():
        raise UserError(f"{models.path / name} is there, and is no record: give another --name, or remove it")
    record = read_record(models, name)
    # Controls can be asked at any time, and change no answer.
    for path in (one for one in copied_files(run) if one != run.controls):
        if record.files.get(path.name) != digest_of(path):
            raise UserError(
                f"{models.path} has another model of the name {name!r} ({path.name} differs), and records "
                "never change: give this one another --name"
            )
    return record


def _sweep(models: ModelsDir) -> None:
    """Remove what additions that were killed left behind."""
    for path in models.path.glob(f"{TEMP_PREFIX}*"):
        if is_abandoned(path):
            remove_folder(path)
