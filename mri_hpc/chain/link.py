"""One link: from new files to a proposal, in steps of which each is done once, by what it leaves itself."""

import functools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from mri_hpc.base.command import shown
from mri_hpc.base.errors import UserError
from mri_hpc.chain.commands import Commands, NotOn
from mri_hpc.chain.delivery import Delivery, delivery_of
from mri_hpc.chain.layout import ChainDir
from mri_hpc.chain.links import LEAK, Objection, State
from mri_hpc.chain.objections import Held, hold_against
from mri_hpc.chain.suspects import write_suspects
from mri_hpc.chain.training import (
    Learnt,
    OutOfHours,
    gpu_hours,
    is_in_hands,
    last_trained_on,
    learnt_so_far,
    meant_by,
    unfinished,
)
from mri_hpc.cluster.outcome import is_cancelled
from mri_hpc.cohort.kept_twins import kept_twins
from mri_hpc.registry.layout import ModelsDir
from mri_hpc.registry.promoting import promote_by_rule
from mri_hpc.registry.record import Verdict, read_record
from mri_hpc.rundir.decisions import Action
from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.ledger import Kind, read_events
from mri_hpc.rundir.settings import TrainingSettings
from mri_hpc.storage.store import Store

GATE = ("--calibration-share", "0.5")
"""Of a first training: half of the validation patients choose nothing, and are the gate of all later ones."""
COMPACT_BYTES = 256 * 2**20


@dataclass(frozen=True, kw_only=True)
class Wanted:
    """Orders of a chain: where its data lie, and how they are taken."""

    source: Path
    store: Path
    models: Path
    preprocess: tuple[str, ...] = ()
    """Further words of mri-hpc preprocess."""
    launch: tuple[str, ...] = ()
    """Further words of mri-hpc launch."""
    margin: float = 0.05
    """Part of balanced accuracy by which a model may be worse than the current one at most."""
    promote: Literal["person", "auto"] = "person"
    accept: tuple[str, ...] = ()
    """Words of objections that a person accepts for what came."""
    max_gpu_hours: float | None = None
    waits: bool = False
    """Follow a training until it ends, and go on in the same link."""


@dataclass(frozen=True, kw_only=True)
class Found:
    """Outcome of a link so far."""

    state: State = State.NOTHING
    words: str = ""
    values: dict[str, Any]
    """Further fields of its outcome."""

    def then(self, state: State, words: str, **values: Any) -> "Found":
        """Return it with one more step."""
        whole = f"{self.words}; {words}" if self.words else words
        return Found(state=state, words=whole, values={**self.values, **values})

    def beside(self, **values: Any) -> "Found":
        """Return it with values that are no step."""
        return replace(self, values={**self.values, **values})


def do_link(chain: ChainDir, wanted: Wanted, commands: Commands) -> Found:
    """Do what is to be done now; UserError where a step fails, Interrupted where a signal came.

    Whatever was killed on the way, the same call goes on where it was.
    """
    store = _take_in(wanted, commands)
    found = _propose_finished(chain, wanted, commands, Found(values={}))
    under_way = unfinished(chain)
    if under_way and is_in_hands(under_way):
        return _wait_for(chain, under_way, wanted, commands, found)
    if under_way:
        found = _resume(chain, under_way, wanted, commands, found)
        return _propose_finished(chain, wanted, commands, found)
    learnt = learnt_so_far(chain, ModelsDir(wanted.models))
    delivery = delivery_of(store.resolve(), last_trained_on(chain, store, learnt))
    found = found.beside(
        snapshot=delivery.snapshot.digest, new_images=delivery.images, gone_images=delivery.num_gone
    )
    if delivery.is_nothing:
        return (
            found
            if found.words
            else found.then(State.NOTHING, "no image came, changed or left since the last training")
        )
    meant = meant_by(wanted.launch, learnt)
    held = _hold(store, delivery, learnt, meant, commands)
    found = found.beside(notes=held.notes, objections=held.objections)
    accepted = {*wanted.accept, *([LEAK] if meant_by(wanted.launch, None).allow_leaks else [])}
    opened = [one for one in held.objections if one.word not in accepted]
    if opened:
        suspects = [one for one in held.suspects if one.word not in accepted]
        table = write_suspects(store, delivery.snapshot, chain.name, suspects)
        found = found.beside(listed_in=str(table) if table else "")
        return found.then(State.STOPPED, _stopped(delivery, opened, table, wanted))
    found = found.beside(accepted=tuple(one.word for one in held.objections))
    if gone := _hours_gone(chain, wanted, one_more=True):
        raise OutOfHours(gone)
    found = _train(chain, delivery, learnt, wanted, commands, found)
    return _propose_finished(chain, wanted, commands, found)


def _take_in(wanted: Wanted, commands: Commands) -> Store:
    """Store what is new in the source, and compact where enough small files have come together."""
    words = ["--source", str(wanted.source), "--store", str(wanted.store), *wanted.preprocess]
    commands.run("preprocess", words)
    store = Store.open(wanted.store)
    ahead = store.look_ahead(target_bytes=COMPACT_BYTES)
    if ahead.bytes_written:
        commands.run("store", ["compact", str(wanted.store)])
    return store


def _propose_finished(chain: ChainDir, wanted: Wanted, commands: Commands, found: Found) -> Found:
    """Keep the models of finished runs, with what speaks for each; promote by rule where that was typed."""
    models = ModelsDir(wanted.models)
    for run in chain.launched():
        if not run.is_finished or models.record(run.path.name).exists():
            continue
        # In a process of its own: a signal ends it, and it takes as much memory as predictions do.
        of_models = ["--models", str(wanted.models), "--margin", f"{100 * wanted.margin:g}"]
        commands.run("models", ["add", str(run.path), *of_models])
        record = read_record(models, run.path.name)
        unmet = [f"{one.word} {one.verdict}" for one in record.evidence if one.verdict is not Verdict.MET]
        words = f"{record.name} is proposed ({', '.join(unmet) or 'all is met'})"
        found = found.then(State.PROPOSED, words, model=record.name, run=str(run.path))
    newest = [run.path.name for run in chain.launched() if models.record(run.path.name).exists()][-1:]
    if wanted.promote == "auto" and newest:
        # Also where the link that proposed it was killed in between.
        done = promote_by_rule(models, newest[0])
        if done and done.is_new:
            words = f"{newest[0]} is current now, by --promote auto: no person has looked at it"
            found = found.then(State.PROMOTED, words, model=newest[0])
    return found


def _wait_for(chain: ChainDir, run: RunDir, wanted: Wanted, commands: Commands, found: Found) -> Found:
    """Leave a run to its job, or follow it; end it where it has used up the GPU hours."""
    if gone := _hours_gone(chain, wanted):
        commands.run("launch", ["--run", str(run.path), "--cancel"])
        raise OutOfHours(gone)
    if wanted.waits:
        _launch(chain, run, ["--run", str(run.path)], wanted, commands)
        return _propose_finished(chain, wanted, commands, found)
    return found.then(State.TRAINING, f"{shown(run.path)} is under way", run=str(run.path))


def _resume(chain: ChainDir, run: RunDir, wanted: Wanted, commands: Commands, found: Found) -> Found:
    """Have a run go on that has stopped; UserError where a person has cancelled it, or hours are used up."""
    name, newest = shown(run.path), run.newest_attempt()
    if gone := _hours_gone(chain, wanted):
        raise OutOfHours(gone)
    if newest and is_cancelled(run, newest.submission):
        raise UserError(
            f"{name} was cancelled: mri-hpc launch --run {name} has it go on, and rm -r {name} gives it up"
        )
    decided = [one.values for one in read_events(run) if one.kind == Kind.DECIDED][-1:]
    _launch(chain, run, ["--run", str(run.path)], wanted, commands)
    if decided and not wanted.waits and decided[0].get("decision") == Action.GIVE_UP:
        # Three of these in a row end a chain of jobs.
        return found.then(
            State.FAILED,
            f"{name} had failed ({decided[0].get('reason')}), and was launched again: mri-hpc status {name} "
            f"has its last words, and rm -r {name} gives it up",
        )
    return found.then(State.TRAINING, f"{name} goes on", run=str(run.path))


def _launch(chain: ChainDir, run: RunDir, words: Sequence[str], wanted: Wanted, commands: Commands) -> None:
    """Launch a run, and follow it where that is wanted: one that uses up the GPU hours saves, and ends."""
    if not wanted.waits:
        commands.run("launch", words)
        return
    try:
        gone = functools.partial(_hours_gone, chain, wanted)
        commands.run("launch", [*words, "--wait"], is_followed=True, why_not_on=gone)
    except NotOn as why:
        commands.run("launch", ["--run", str(run.path), "--cancel"])
        raise OutOfHours(str(why)) from None


def _hold(
    store: Store, delivery: Delivery, learnt: Learnt | None, meant: TrainingSettings, commands: Commands
) -> Held:
    """Hold what came against what the model has learnt, once an audit has looked for leaks."""
    if kept_twins(store, delivery.snapshot) is None:
        commands.run("store", ["audit", str(store.path), "--report-only"], names_files=True)
    model = learnt.model if learnt else None
    return hold_against(store, delivery, model, meant, refuse_to_go_on=commands.refuse_to_go_on)


def _stopped(delivery: Delivery, opened: Sequence[Objection], table: Path | None, wanted: Wanted) -> str:
    """Say why nothing is trained, and what a person can do. table: of the files that are meant."""
    why = "; ".join(one.words for one in opened)
    listed = f" {shown(table)} lists the files." if table else ""
    accept = " ".join(dict.fromkeys(one.word for one in opened))
    return (
        f"nothing is trained on {delivery.words}: {why}.{listed} Take them out (mri-hpc store retract "
        f"{wanted.store} --image FILE), or give them other labels (mri-hpc store relabel), or, where all is "
        f"as it is meant, type it again with --accept {accept}"
    )


def _train(
    chain: ChainDir,
    delivery: Delivery,
    learnt: Learnt | None,
    wanted: Wanted,
    commands: Commands,
    found: Found,
) -> Found:
    """Launch a training on what there is now, from the model that was learnt so far."""
    run = chain.next_run(ModelsDir(wanted.models).names())
    words = ["--run", str(run.path), "--store", str(wanted.store), "--snapshot", delivery.snapshot.digest]
    if learnt and not learnt.is_retracted:
        words += ["--continue-from", str(learnt.run.path)]
        how = f"goes on from {learnt.record.name}"
    else:
        has_gate = any(word.replace("_", "-").startswith(GATE[0]) for word in wanted.launch)
        words += [] if has_gate else GATE
        how = (
            f"starts anew: {learnt.record.name} has learnt from what was retracted"
            if learnt
            else "is the first"
        )
    words += ["--allow-leaks"] if LEAK in wanted.accept else []
    _launch(chain, run, [*words, *wanted.launch], wanted, commands)
    return found.then(State.TRAINING, f"{shown(run.path)} {how}, with {delivery.words}", run=str(run.path))


def _hours_gone(chain: ChainDir, wanted: Wanted, *, one_more: bool = False) -> str:
    """Say that the GPU hours are used up, or would be by one more training like the last; else empty."""
    if wanted.max_gpu_hours is None:
        return ""
    launched = chain.launched()
    used, last = gpu_hours(launched), gpu_hours(launched[-1:]) if one_more else 0.0
    if used < wanted.max_gpu_hours and used + last <= wanted.max_gpu_hours:
        return ""
    more = f", and one more training as the last takes {last:.2f}" if last else ""
    limit = f"--max-gpu-hours {wanted.max_gpu_hours:g}"
    return f"{used:.2f} GPU hours are used{more}, of {limit}: nothing more is trained"
