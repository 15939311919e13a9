"""One link: from new files to a proposal, in steps of which each is done once, by what it leaves itself."""

import contextlib
import functools
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from mri_hpc.base.command import shown
from mri_hpc.base.errors import UserError
from mri_hpc.chain.commands import Commands, NotOn
from mri_hpc.chain.delivery import Delivery, delivery_of
from mri_hpc.chain.layout import ChainDir
from mri_hpc.chain.links import CLASSES, LABELS, LEAK, Objection, State, outcomes
from mri_hpc.chain.objections import Held, hold_against
from mri_hpc.chain.suspects import write_suspects
from mri_hpc.chain.training import (
    Learnt,
    OutOfHours,
    allows_leaks,
    gpu_hours,
    is_in_hands,
    last_trained_on,
    learnt_so_far,
    meant_by,
    unfinished,
)
from mri_hpc.cluster.outcome import is_cancelled
from mri_hpc.cohort.kept_twins import kept_twins
from mri_hpc.cohort.twins import TwinGroup
from mri_hpc.registry.layout import ModelsDir
from mri_hpc.registry.promoting import promote_by_rule
from mri_hpc.registry.record import Verdict, read_record
from mri_hpc.rundir.decisions import Action
from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.ledger import Kind, read_events
from mri_hpc.rundir.settings import TrainingSettings
from mri_hpc.storage.store import Snapshot, Store

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
    """Words of the last objections, which a person accepts."""
    max_gpu_hours: float | None = None
    waits: bool = False
    """Follow a training until it ends, and go on in the same link."""


@dataclass(kw_only=True)
class Found:
    """Outcome of a link so far: what ends the link midway takes nothing of it back."""

    state: State = State.NOTHING
    words: str = ""
    values: dict[str, Any] = field(default_factory=dict)
    """Further fields of its outcome."""

    def then(self, state: State, words: str, **values: Any) -> None:
        """Add one more step."""
        self.state, self.words = state, f"{self.words}; {words}" if self.words else words
        self.beside(**values)

    def beside(self, **values: Any) -> None:
        """Add values that are no step."""
        self.values |= values


def do_link(chain: ChainDir, wanted: Wanted, commands: Commands, found: Found) -> None:
    """Do what is to be done now; UserError where a step fails, Interrupted where a signal came.

    Whatever was killed on the way, the same call goes on where it was. found: takes what is done, also where
    it ends midway.
    """
    store = _take_in(wanted, commands)
    _propose_finished(chain, wanted, commands, found)
    if under_way := unfinished(chain):
        _see_to(chain, under_way, wanted, commands, found)
        return
    learnt = learnt_so_far(chain, ModelsDir(wanted.models))
    delivery = delivery_of(store.resolve(), last_trained_on(chain, store, learnt))
    found.beside(snapshot=delivery.snapshot.digest, new_images=delivery.images, gone_images=delivery.num_gone)
    if not delivery.is_nothing:
        if _is_as_meant(chain, store, delivery, learnt, wanted, commands, found):
            _train(chain, delivery, learnt, wanted, commands, found)
            _propose_finished(chain, wanted, commands, found)
    elif not found.words:
        found.then(State.NOTHING, "no image came, changed or left since the last training")


def _take_in(wanted: Wanted, commands: Commands) -> Store:
    """Store what is new in the source, and compact where enough small files have come together."""
    words = ["--source", str(wanted.source), "--store", str(wanted.store), *wanted.preprocess]
    commands.run("preprocess", words)
    store = Store.open(wanted.store)
    ahead = store.look_ahead(target_bytes=COMPACT_BYTES)
    if ahead.bytes_written:
        commands.run("store", ["compact", str(wanted.store)])
    return store


def _propose_finished(chain: ChainDir, wanted: Wanted, commands: Commands, found: Found) -> None:
    """Keep the models of finished runs, with what speaks for each; promote by rule where that was typed."""
    models = ModelsDir(wanted.models)
    for run in _not_proposed(chain, models, found):
        _propose(run, models, wanted, commands, found)
    newest = [run.path.name for run in chain.launched() if models.record(run.path.name).exists()][-1:]
    if wanted.promote == "auto" and newest:
        # Also where the link that proposed it was killed in between.
        done = promote_by_rule(models, newest[0])
        if done and done.is_new:
            words = f"{newest[0]} is current now, by --promote auto: no person has looked at it"
            found.then(State.PROMOTED, words, model=newest[0])


def _not_proposed(chain: ChainDir, models: ModelsDir, found: Found) -> list[RunDir]:
    """List finished runs whose models are not kept, or that no link has named since, as it was killed."""
    finished = [run for run in chain.launched() if run.is_finished]
    named = {one.model for one in outcomes(chain)} | {found.values.get("model", "")}
    # A link that proposes several has words for each, and names the newest.
    first_unnamed = max((n for n, run in enumerate(finished, 1) if run.path.name in named), default=0)
    return [
        run
        for n, run in enumerate(finished)
        if n >= first_unnamed or not models.record(run.path.name).exists()
    ]


def _propose(run: RunDir, models: ModelsDir, wanted: Wanted, commands: Commands, found: Found) -> None:
    """Keep the model of a finished run, and say what speaks for it."""
    # In a process of its own: a signal ends it, and it takes as much memory as predictions do.
    of_models = ["--models", str(wanted.models), "--margin", f"{100 * wanted.margin:g}"]
    try:
        to_promote = commands.run("models", ["add", str(run.path), *of_models])
    except UserError:
        if not models.record(run.path.name).exists():
            raise
        # It is kept, and what failed is the line to type: models show, and promote, say why.
        to_promote = ""
    record = read_record(models, run.path.name)
    unmet = [f"{one.word} {one.verdict}" for one in record.evidence if one.verdict is not Verdict.MET]
    words = f"{record.name} is proposed ({', '.join(unmet) or 'all is met'})"
    found.then(State.PROPOSED, words, model=record.name, run=str(run.path), to_promote=to_promote)


def _see_to(chain: ChainDir, run: RunDir, wanted: Wanted, commands: Commands, found: Found) -> None:
    """Leave a run to its job, follow it, or have it go on; end it where it has used up the GPU hours."""
    found.beside(run=str(run.path))
    if not is_in_hands(run):
        _resume(chain, run, wanted, commands, found)
    elif gone := _hours_gone(chain, wanted):
        _cancel(run, gone, commands, found)
    elif wanted.waits:
        _launch(chain, run, ["--run", str(run.path)], wanted, commands, found)
    else:
        found.then(State.TRAINING, f"{shown(run.path)} is under way")
    _propose_finished(chain, wanted, commands, found)


def _resume(chain: ChainDir, run: RunDir, wanted: Wanted, commands: Commands, found: Found) -> None:
    """Have a run go on that has stopped; UserError where a person has cancelled it, or hours are used up."""
    name = shown(run.path)
    if gone := _hours_gone(chain, wanted):
        raise OutOfHours(f"{gone}; {name} goes on then")
    if _has_been_cancelled(chain, run):
        raise UserError(
            f"{name} was cancelled: mri-hpc launch --run {name} has it go on, and rm -r {name} gives it up"
        )
    decided = [one.values for one in read_events(run) if one.kind == Kind.DECIDED][-1:]
    _launch(chain, run, ["--run", str(run.path)], wanted, commands, found)
    if decided and not wanted.waits and decided[0].get("decision") == Action.GIVE_UP:
        # Three of these in a row end a chain of jobs.
        found.then(
            State.FAILED,
            f"{name} had failed ({decided[0].get('reason')}), and was launched again: mri-hpc status {name} "
            f"has its last words, and rm -r {name} gives it up",
        )
    else:
        found.then(State.TRAINING, f"{name} goes on")


def _has_been_cancelled(chain: ChainDir, run: RunDir) -> bool:
    """Tell whether a person has cancelled the newest submission of a run, and not the chain."""
    newest = run.newest_attempt()
    if newest is None or not is_cancelled(run, newest.submission):
        return False
    by_chain = {one.cancelled for one in outcomes(chain) if Path(one.run).name == run.path.name}
    return newest.submission not in by_chain


def _cancel(run: RunDir, gone: str, commands: Commands, found: Found) -> None:
    """End a run that has used up the GPU hours; OutOfHours, unless it has finished meanwhile."""
    newest = run.newest_attempt()
    own = newest.submission if newest and not is_cancelled(run, newest.submission) else 0
    # Before it is done: what ends this link meanwhile must not make it a person's.
    found.beside(cancelled=own)
    commands.run("launch", ["--run", str(run.path), "--cancel"])
    if not run.is_finished:
        raise OutOfHours(f"{gone}; {shown(run.path)} was told to save and end, and goes on then")


def _launch(
    chain: ChainDir, run: RunDir, words: Sequence[str], wanted: Wanted, commands: Commands, found: Found
) -> None:
    """Launch a run, and follow it where that is wanted: one that uses up the GPU hours saves, and ends."""
    gone = functools.partial(_hours_gone, chain, wanted)
    try:
        if wanted.waits:
            commands.run("launch", [*words, "--wait"], is_followed=True, why_not_on=gone)
        else:
            commands.run("launch", words)
    except NotOn as why:
        _cancel(run, str(why), commands, found)
    finally:
        if run.settings.is_file():
            found.beside(run=str(run.path))


def _is_as_meant(
    chain: ChainDir,
    store: Store,
    delivery: Delivery,
    learnt: Learnt | None,
    wanted: Wanted,
    commands: Commands,
    found: Found,
) -> bool:
    """Hold what came against what the model has learnt; tell whether all objections are accepted."""
    held = _hold(store, delivery, learnt, meant_by(wanted.launch, learnt), commands)
    found.beside(notes=held.notes, objections=held.objections)
    accepted = _accepted(chain, store, delivery.snapshot, wanted)
    opened = [one for one in held.objections if one.word not in accepted]
    if not opened:
        return True
    suspects = [one for one in held.suspects if one.word not in accepted]
    table = write_suspects(store, delivery.snapshot, chain.name, suspects)
    found.then(
        State.STOPPED, _stopped(delivery, opened, table, wanted), listed_in=str(table) if table else ""
    )
    return False


def _hold(
    store: Store, delivery: Delivery, learnt: Learnt | None, meant: TrainingSettings, commands: Commands
) -> Held:
    """Hold what came against what the model has learnt, once an audit has looked for leaks."""
    twins = _audited(store, delivery.snapshot, commands)
    model = learnt.model if learnt else None
    return hold_against(store, delivery, model, meant, twins, refuse_to_go_on=commands.refuse_to_go_on)


def _audited(store: Store, snapshot: Snapshot, commands: Commands) -> list[TwinGroup]:
    """Return the twins of a snapshot, as an audit has kept them; UserError where it could not."""
    twins = kept_twins(store, snapshot)
    if twins is None:
        words = ["audit", str(store.path), "--report-only", "--snapshot", snapshot.digest]
        commands.run("store", words, names_files=True)
        twins = kept_twins(store, snapshot)
    if twins is None:
        raise UserError(
            f"what the audit found is not in {shown(store.twins)}, so that leaks are not known: see whether "
            "you may write there, and whether the disk is full; or images were retracted meanwhile: type it "
            "again"
        )
    return twins


def _accepted(chain: ChainDir, store: Store, snapshot: Snapshot, wanted: Wanted) -> set[str]:
    """Return the words of objections that are accepted: by --launch always, by a person as they were said.

    No word counts where anything in the store is not as the last link with objections had it.
    """
    always = {LEAK} if allows_leaks(wanted.launch) else set()
    last = next((one for one in reversed(outcomes(chain)) if one.objections), None)
    if wanted.accept and last:
        # A snapshot that cannot be read any more is as good as another one.
        with contextlib.suppress(UserError):
            if store.recall(last.snapshot).content_digest == snapshot.content_digest:
                return always | ({*wanted.accept} & {one.word for one in last.objections})
    return always


def _stopped(delivery: Delivery, opened: Sequence[Objection], table: Path | None, wanted: Wanted) -> str:
    """Say why nothing is trained, and what a person can do. table: of the files that are meant."""
    why = "; ".join(one.words for one in opened)
    listed = f" {shown(table)} lists the files." if table else ""
    words, store = list(dict.fromkeys(one.word for one in opened)), shown(wanted.store)
    if in_vain := [one.word for one in opened if one.word in wanted.accept]:
        listed += (
            f" --accept {' '.join(in_vain)} was not taken: no link has said this of the store as it is now."
        )
    ways = [f"take them out (mri-hpc store retract {store} --why WORDS --image FILE FILE)"]
    if {CLASSES, LABELS} & {*words}:
        ways.append(f"give them other labels (mri-hpc store relabel {store} --labels FILE)")
    ways.append(f"where all is as it is meant, type it again with --accept {' '.join(words)}")
    return f"nothing is trained on {delivery.words}: {why}.{listed} What to do: {'; or '.join(ways)}"


def _train(
    chain: ChainDir,
    delivery: Delivery,
    learnt: Learnt | None,
    wanted: Wanted,
    commands: Commands,
    found: Found,
) -> None:
    """Launch a training on what there is now, from the model that was learnt so far."""
    if gone := _hours_gone(chain, wanted, one_more=True):
        raise OutOfHours(gone)
    accepted = tuple(one.word for one in found.values["objections"])
    found.beside(accepted=accepted)
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
    # Typed each time, as a run has what the one that it goes on from was allowed.
    may_leak = LEAK in accepted or allows_leaks(wanted.launch)
    words += [*wanted.launch, "--allow-leaks" if may_leak else "--no-allow-leaks"]
    _launch(chain, run, words, wanted, commands, found)
    found.then(State.TRAINING, f"{shown(run.path)} {how}, with {delivery.words}")


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
    return f"{used:.2f} GPU hours are used{more}, of {limit}: nothing more is trained until it is larger"
