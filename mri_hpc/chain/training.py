"""Runs of a chain: which one is under way, what it goes on from, and the GPU hours of all."""

import argparse
import contextlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mri_hpc.base.errors import UserError
from mri_hpc.chain.layout import ChainDir
from mri_hpc.cluster.choice import phase_of
from mri_hpc.cluster.launching import live_job
from mri_hpc.cluster.scheduler import Phase
from mri_hpc.registry.history import current_of, read_history
from mri_hpc.registry.layout import ModelsDir
from mri_hpc.registry.record import Record, read_record
from mri_hpc.registry.retracted import accepted_of, retracted_since
from mri_hpc.rundir import server_clock
from mri_hpc.rundir.decisions import Cause
from mri_hpc.rundir.layout import Attempt, RunDir
from mri_hpc.rundir.ledger import Event, Kind, read_events
from mri_hpc.rundir.settings import TrainingSettings, load_training
from mri_hpc.storage.store import Snapshot, Store

HOUR_S = 3600.0
STARTS = {Kind.STARTING, Kind.STARTED}
ENDS = {Kind.DECIDED, Kind.RANKS_GONE}
SPLITTING: Mapping[str, type] = {
    "val_fold": int, "test_fold": int, "from_train": str, "hash_folds": int, "train_share": float,
}  # fmt: skip
"""Settings by which data are split."""
BY_OTHERS = {Kind.DECIDED, Kind.CANCELLED}
"""Events that other commands may write long after an attempt has gone."""


class OutOfHours(UserError):
    """The chain has used up its GPU hours, or would with one more training."""


@dataclass(frozen=True, kw_only=True)
class Learnt:
    """The model that a link goes on from: the current one, before the first promotion the newest proposed."""

    record: Record
    model: RunDir
    """Folder of its record, which can be asked."""
    is_retracted: bool
    """It has learnt from images that were retracted since, which no person has accepted."""

    @property
    def run(self) -> RunDir:
        """Return the run to continue from; UserError where its folder is gone."""
        run = RunDir(Path(self.record.run))
        if not run.settings.is_file():
            raise UserError(
                f"{run.path}, the run of models/{self.record.name}, is gone, and training goes on from runs: "
                "put it back there, or promote a model whose run is there"
            )
        return run


def learnt_so_far(chain: ChainDir, models: ModelsDir) -> Learnt | None:
    """Find the model that a link goes on from; None before the first. UserError where it is damaged."""
    entries = read_history(models)
    current = current_of(models, entries)
    proposed = [run.path.name for run in chain.launched() if models.record(run.path.name).exists()]
    name = current.name if current else proposed[-1] if proposed else ""
    if not name:
        return None
    record = read_record(models, name)
    retracted = retracted_since(models, record, entries).beyond(accepted_of(entries, name))
    return Learnt(record=record, model=models.run(name), is_retracted=bool(retracted))


def meant_by(words: Sequence[str], learnt: Learnt | None) -> TrainingSettings:
    """Return the settings of the training to come, as far as they split its data.

    words: further ones of mri-hpc launch, of which the others are its own affair. UserError: they cannot be.
    """
    goes_on = learnt is not None and not learnt.is_retracted
    before = load_training(learnt.model) if learnt and goes_on else TrainingSettings()
    return replace(before, **_typed(words, {name: {"type": kind} for name, kind in SPLITTING.items()}))


def allows_leaks(words: Sequence[str]) -> bool:
    """Tell whether words of mri-hpc launch allow leaks. UserError: they cannot be."""
    typed = _typed(words, {"allow_leaks": {"action": argparse.BooleanOptionalAction}})
    return bool(typed.get("allow_leaks"))


def _typed(words: Sequence[str], options: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the values of options of mri-hpc launch that are among its words. options: as of argparse."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for name, how in options.items():
        parser.add_argument(f"--{name.replace('_', '-')}", f"--{name}", **how)
    try:
        given = vars(parser.parse_known_args(list(words))[0])
    except argparse.ArgumentError as error:
        raise UserError(f"--launch: {error}; see: mri-hpc launch --help") from None
    return {name: value for name, value in given.items() if value is not None}


def last_trained_on(chain: ChainDir, store: Store, learnt: Learnt | None) -> Snapshot | None:
    """Return the snapshot on which the chain, or before its first run the current model, was trained last."""
    launched = chain.launched()
    if launched:
        return store.recall(load_training(launched[-1]).snapshot)
    return store.recall(learnt.record.snapshot) if learnt else None


def unfinished(chain: ChainDir) -> RunDir | None:
    """Return the run of the chain that was launched, and is not finished."""
    launched = chain.launched()
    return launched[-1] if launched and not launched[-1].is_finished else None


def is_in_hands(run: RunDir) -> bool:
    """Tell whether a job has the run now."""
    job = live_job(run)
    return job is not None and phase_of(job) is not Phase.GONE


def gpu_hours(runs: Sequence[RunDir]) -> float:
    """Add up the hours of all GPUs that runs had, by their ledgers."""
    return sum(gpu_seconds(read_events(run), _counts_until_s(run)) for run in runs) / HOUR_S


def _counts_until_s(run: RunDir) -> float | None:
    """Return the Unix time, by the ledger's clock, if its job may be at work; None where that has gone."""
    # Without an answer of Slurm hours are counted rather than given away.
    with contextlib.suppress(UserError):
        job = None if run.is_finished else live_job(run)
        if job is None or phase_of(job) is not Phase.RUNNING:
            return None
    return server_clock.now(run.attempts)


def gpu_seconds(events: Sequence[Event], now_s: float | None) -> float:
    """Add up the seconds of all GPUs of a run's attempts, each from its start until its ranks had gone.

    now_s: Unix time up to which the newest attempt counts where its end is not written down; None: up to its
    last sign, as its job has gone. So does one that vanished, whose end others wrote down later.
    """
    of_rank = {
        Attempt.parse(one.attempt).submission: int(one.values["gpus"])
        / max(int(one.values.get("ranks") or 1), 1)
        for one in events
        if one.kind == Kind.SUBMITTED and one.values.get("gpus")
    }
    attempts = sorted({event.attempt for event in events}, key=Attempt.parse)
    total = 0.0
    for name in attempts:
        own = [event for event in events if event.attempt == name]
        begun = [one.time for one in own if one.kind in STARTS]
        ends = [one.time for one in own if one.kind in ENDS and not _is_of_later(one)]
        has_vanished = any(_is_of_later(one) for one in own)
        last_sign_s = max((one.time for one in own if one.kind not in BY_OTHERS), default=0.0)
        ranks = max((int(one.values.get("ranks") or 0) for one in own if one.kind == Kind.STARTED), default=0)
        until_s = last_sign_s if now_s is None or name != attempts[-1] or has_vanished else now_s
        last_s = max(ends, default=until_s)
        gpus = of_rank.get(Attempt.parse(name).submission, 0.0) * ranks
        total += gpus * max(0.0, last_s - min(begun)) if begun else 0.0
    return total


def _is_of_later(event: Event) -> bool:
    """Tell whether an event is the word of others on an attempt that vanished, whenever they noticed."""
    return event.kind == Kind.DECIDED and (
        event.values.get("cause") == Cause.VANISHED or event.values.get("status") == -1
    )
