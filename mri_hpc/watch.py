"""``mri-hpc watch``: one link of a chain, from new files to a model that is proposed."""

import datetime
import functools
import re
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from mri_hpc.base.command import print_json, run_command, shown
from mri_hpc.base.errors import UserError, Verdict
from mri_hpc.base.exit_status import AGAIN, DONE
from mri_hpc.base.marks import OFTEN, POSITIONAL, Flag, Word

if TYPE_CHECKING:
    from mri_hpc.chain.layout import ChainDir
    from mri_hpc.chain.link import Found, Wanted
    from mri_hpc.chain.links import Claim, Outcome

EXAMPLE = "mri-hpc watch data/raw --launch='--nodes 2' --every 1d --until 2026-12-31 --max-gpu-hours 200"
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


@dataclass(frozen=True, kw_only=True)
class Options:
    """Do what is to be done since the last time, once, and end: store new files, check them, train, propose.

    Typed again, it goes on where it was. A training that it launches is a job of its own: the next link
    proposes its model, which a person promotes (mri-hpc models promote).
    """

    source: Annotated[Path, POSITIONAL, OFTEN]
    """Folder of images, as of mri-hpc preprocess."""
    store: Annotated[Path, OFTEN] = Path("data/store")
    """Folder of the store; made if it is not there."""
    models: Annotated[Path, OFTEN] = Path("models")
    """Folder of models."""
    chain: Path | None = None
    """Folder of the chain; by default watch/NAME, by the name of the source."""
    preprocess: Annotated[str, OFTEN] = ""
    """More options of mri-hpc preprocess, in quotes behind =, such as --preprocess='--labels labels.csv'."""
    launch: Annotated[str, OFTEN] = ""
    """More options of mri-hpc launch, in quotes behind =; a first training has --calibration-share 0.5."""
    wait: Annotated[Flag, OFTEN] = False
    """Follow a training until it ends, and propose its model in the same link."""
    accept: Annotated[tuple[str, ...], OFTEN, Word(value="[WORD ...]")] = ()
    """Train in spite of what looks wrong in this delivery: leak, classes, look, labels."""
    margin: float = 5.0
    """Points of balanced accuracy by which a model may be worse than the current one at most."""
    promote: Literal["person", "auto"] = "person"
    """Promotion by a person, or auto: of what meets all that is asked; each page of such a model says so."""
    every: Annotated[str, OFTEN] = ""
    """On Slurm: have links as small jobs, one after the other, so far apart: such as 30m, 6h, 1d, 1w."""
    until: Annotated[str, OFTEN] = ""
    """Last day, or moment, at which a job of the chain begins, such as 2026-12-31."""
    max_gpu_hours: Annotated[float | None, OFTEN] = None
    """GPU hours of all trainings of the chain, beyond which nothing more is trained."""
    slurm: tuple[str, ...] = ()
    """More options of sbatch for the jobs of links, as KEY=VALUE, such as partition=cpu time=04:00:00."""
    stop: Annotated[Flag, OFTEN] = False
    """End the chain: no link begins until the file watch/NAME/stop is removed. A training goes on."""
    json: Flag = False
    """Print what came of the link as JSON."""

    def __post_init__(self) -> None:
        if not 0 < self.margin < 100:
            raise UserError(f"--margin must be above 0 and below 100, got {self.margin:g}")
        if self.every and not re.fullmatch(r"[1-9]\d*[smhdw]", self.every):
            raise UserError(f"--every takes a number and s, m, h, d or w, such as 1d, found {self.every!r}")
        if self.until:
            moment_of(self.until)
        if (self.until or self.slurm) and not self.every:
            raise UserError("--until and --slurm are of a chain of jobs: add --every, such as --every 1d")
        if self.max_gpu_hours is not None and not self.max_gpu_hours > 0:
            raise UserError(f"--max-gpu-hours must be above 0, got {self.max_gpu_hours:g}")
        for name in ("preprocess", "launch"):
            _words(name, getattr(self, name))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    return run_command("mri-hpc watch", Options, watch, argv, example=EXAMPLE)


def watch(options: Options) -> int:
    """Do one link, or have a job do it, or end the chain; return the exit status."""
    # Here and below: whoever asks for help need not wait for what trains and decodes.
    from mri_hpc.chain.layout import WATCH, chain_at, is_chain
    from mri_hpc.chain.queue import is_own_job, stop_chain

    if options.accept:
        _refuse_unknown_words(options.accept)
    chain = chain_at(options.chain or WATCH / options.source.absolute().name)
    if options.stop:
        if not is_chain(chain.path):
            raise UserError(f"{shown(chain.path)} is no chain: there is nothing to stop")
        print(stop_chain(chain))
        return DONE
    if not options.source.is_dir():
        raise UserError(f"{options.source} is no folder: name that of the images")
    is_of_job = is_own_job(chain)
    if options.every and not is_of_job:
        return _begin_jobs(chain, options)
    return _do_link(chain, options, is_of_job=is_of_job)


def _begin_jobs(chain: "ChainDir", options: Options) -> int:
    """Submit the first job of a chain, unless one waits or works already."""
    from mri_hpc.chain.queue import live_link_job, submit_next
    from mri_hpc.cluster.choice import name_of

    if chain.stop.exists():
        raise UserError(f"{shown(chain.path)} was stopped: remove {shown(chain.stop)}, then type it again")
    if _is_over(options, 0):
        raise UserError(f"--until {options.until} has passed: give a later one")
    if live := live_link_job(chain):
        if options.accept:
            raise UserError(
                f"{name_of(live.job)} of {chain.name} waits or works already, and has not taken "
                f"--accept: have a link of your own take it: {_line_without_jobs(options)}"
            )
        print(f"{name_of(live.job)} of {chain.name} waits or works already; nothing was submitted")
        return DONE
    chain.make()
    job = submit_next(chain, _typed_again(options, accept=options.accept), in_s=0, options=options.slurm).job
    print(
        f"{name_of(job)} does the first link; each submits the next, {options.every} after it began\n"
        f"  watch   mri-hpc status {shown(chain.path)}\n"
        f"  stop    mri-hpc watch {shlex.quote(str(options.source))} --chain {shown(chain.path)} --stop"
    )
    return DONE


def _do_link(chain: "ChainDir", options: Options, *, is_of_job: bool) -> int:
    """Do one link, write down what came of it, and in a chain of jobs submit the next."""
    from mri_hpc.base.stop_flag import StopFlag
    from mri_hpc.chain.commands import Commands
    from mri_hpc.chain.link import Found, do_link
    from mri_hpc.chain.links import State, claim_link, is_held_by_job
    from mri_hpc.chain.queue import PATIENT_TRIES, patiently

    if chain.stop.exists():
        print(f"{chain.name} was stopped: nothing is done while {shown(chain.stop)} is there")
        return DONE
    chain.make()
    began_s = time.monotonic()
    claimed = patiently(
        lambda: claim_link(chain, is_of_job=is_of_job), tries=PATIENT_TRIES if is_of_job else 1
    )
    if isinstance(claimed, str):
        print(claimed)
        if is_of_job and not is_held_by_job(chain):
            begins, why = _hand_on(chain, options, [], began_s)
            print(f"  the chain ends: {why}" if why else f"  the next job begins no sooner than {begins}")
        return DONE
    number, claim = claimed
    say = None if options.json else functools.partial(print, flush=True)
    commands = Commands(log=chain.log(number), stop=StopFlag().listen(), say=say)
    found = Found()
    end = functools.partial(_end_link, chain, options, number, claim, found, began_s)
    try:
        _do_steps(found, lambda: do_link(chain, _wanted(options), commands, found))
    except Exception as error:
        # A bug: it is raised again, and the next link may come all the same.
        found.then(State.FAILED, f"{type(error).__name__}: {error}")
        end()
        raise
    return _report(end(), options)


def _do_steps(found: "Found", body: "Callable[[], None]") -> None:
    """Do a link's steps; what a user can fix is an outcome, too, beside what was done before."""
    from mri_hpc.chain.commands import Interrupted
    from mri_hpc.chain.links import State
    from mri_hpc.chain.training import OutOfHours

    try:
        body()
    except Interrupted as signal:
        found.then(State.INTERRUPTED, f"{signal} ended it; the next link goes on")
    except OutOfHours as error:
        found.then(State.OUT_OF_HOURS, str(error))
    except UserError as error:
        found.then(State.FAILED, str(error))


def _end_link(
    chain: "ChainDir", options: Options, number: int, claim: "Claim", found: "Found", began_s: float
) -> "Outcome":
    """Submit the job that follows, where one does, and publish what came of a link."""
    from mri_hpc.base.access import publish_shared
    from mri_hpc.chain.links import Outcome, now, outcomes, to_json
    from mri_hpc.chain.training import gpu_hours

    outcome = Outcome(
        number=number, state=found.state, words=found.words, began=claim.began, ended=now(), who=claim.who,
        is_of_job=claim.is_of_job, gpu_hours=round(gpu_hours(chain.launched()), 3), **found.values,
    )  # fmt: skip
    if outcome.is_of_job:
        begins, why = _hand_on(chain, options, [*outcomes(chain), outcome], began_s)
        outcome = replace(outcome, next_begins=begins, ended_because=why)
    publish_shared(chain.outcome(outcome.number), to_json(outcome))
    return outcome


def _hand_on(
    chain: "ChainDir", options: Options, found: Sequence["Outcome"], began_s: float
) -> tuple[str, str]:
    """Submit the job that follows; return when it begins, or else the reason why none does.

    found: what came of links, the newest last.
    """
    from mri_hpc.chain.queue import PATIENT_TRIES, submit_next

    in_s = max(0, round(_seconds(options.every) - (time.monotonic() - began_s)))
    if why := _why_no_next(chain, options, found, in_s):
        return "", why
    try:
        following = submit_next(
            chain, _typed_again(options), in_s=in_s, options=options.slurm, tries=PATIENT_TRIES
        )
    except UserError as error:
        return "", str(error)
    return following.begins, ""


def _why_no_next(chain: "ChainDir", options: Options, found: Sequence["Outcome"], in_s: int) -> str:
    """Return the reason why no job follows; empty where one does."""
    from mri_hpc.chain.links import MOST_FAILURES, State, failures_in_a_row

    if chain.stop.exists():
        return f"it was stopped: {shown(chain.stop)} is there"
    if found and found[-1].state is State.OUT_OF_HOURS:
        return found[-1].words
    if failures_in_a_row(found) >= MOST_FAILURES:
        return f"{MOST_FAILURES} links in a row have failed: fix what the last one says, then type it again"
    if _is_over(options, in_s):
        return f"--until {options.until} is reached"
    return ""


def _report(outcome: "Outcome", options: Options) -> int:
    """Print what came of a link; return its exit status. Verdict where a person has to look."""
    from mri_hpc.chain.links import State

    is_bad = outcome.state in (State.FAILED, State.STOPPED, State.OUT_OF_HOURS)
    line = f"link {outcome.number}: {outcome.state}: {outcome.words}"
    if options.json:
        print_json(asdict(outcome))
    else:
        if not is_bad:
            print(line)
        for note in outcome.notes:
            print(f"  note: {note}")
        if outcome.accepted:
            print(f"  accepted: {', '.join(outcome.accepted)}")
        if outcome.model:
            print("\n".join(f"  {words}" for words in _lines_on_model(options.models, outcome)))
        if outcome.listed_in and sys.stdout.isatty():
            # To a person alone: paths may name patients, and what is printed elsewhere is kept.
            from mri_hpc.chain.suspects import first_suspects

            for words in first_suspects(Path(outcome.listed_in)):
                print(f"  {words}")
        if outcome.ended_because:
            print(f"  the chain ends: {outcome.ended_because}")
    if is_bad:
        raise Verdict(line)
    return AGAIN if outcome.state is State.INTERRUPTED else DONE


def _lines_on_model(models: Path, outcome: "Outcome") -> list[str]:
    """Write what a person types to look at a model that was proposed, and to promote it."""
    from mri_hpc.registry.layout import MODELS

    place = [] if models == MODELS else ["--models", str(models)]
    look = f"look: {shlex.join(['mri-hpc', 'models', 'show', outcome.model, *place])}"
    return [look, *([outcome.to_promote] if outcome.to_promote else [])]


def _wanted(options: Options) -> "Wanted":
    from mri_hpc.chain.link import Wanted

    return Wanted(
        source=options.source,
        store=options.store.absolute(),
        models=options.models,
        preprocess=_words("preprocess", options.preprocess),
        launch=_words("launch", options.launch),
        margin=options.margin / 100,
        promote=options.promote,
        accept=options.accept,
        max_gpu_hours=options.max_gpu_hours,
        waits=options.wait,
    )


def _typed_again(options: Options, accept: Sequence[str] = ()) -> list[str]:
    """Write the command line of a job of the chain. accept: holds for one link alone."""
    pairs = {
        "--store": options.store, "--models": options.models, "--chain": options.chain,
        "--preprocess": options.preprocess, "--launch": options.launch, "--margin": options.margin,
        "--promote": options.promote, "--every": options.every, "--until": options.until,
        "--max-gpu-hours": options.max_gpu_hours,
    }  # fmt: skip
    words = [
        str(options.source),
        *(f"{name}={value}" for name, value in pairs.items() if value not in ("", None)),
    ]
    words += ["--wait"] if options.wait else []
    words += ["--slurm", *options.slurm] if options.slurm else []
    return [*words, *(["--accept", *accept] if accept else [])]


def _line_without_jobs(options: Options) -> str:
    """Write the line by which a person does one link at once, with what is accepted."""
    alone = replace(options, every="", until="", slurm=())
    by_default = _typed_again(Options(source=options.source))[1:]
    words = [word for word in _typed_again(alone, options.accept) if word not in by_default]
    return shlex.join(["mri-hpc", "watch", *words])


def _refuse_unknown_words(accepted: Sequence[str]) -> None:
    from mri_hpc.base.settings import nearest
    from mri_hpc.chain.links import ACCEPTED

    for word in accepted:
        if word not in ACCEPTED:
            raise UserError(f"--accept takes {', '.join(ACCEPTED)}, got {word!r}{nearest(word, ACCEPTED)}")


def _words(name: str, text: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise UserError(f"--{name}: {text!r} is no row of options ({error})") from None


def _seconds(every: str) -> int:
    return int(every[:-1]) * SECONDS[every[-1]]


def _is_over(options: Options, in_s: int) -> bool:
    """Tell whether a job that begins in so many seconds would begin after --until."""
    begins = datetime.datetime.now().astimezone() + datetime.timedelta(seconds=in_s)
    return bool(options.until) and begins > moment_of(options.until)


def moment_of(until: str) -> datetime.datetime:
    """Parse a day, which counts as a whole, or a moment, by this machine's clock; UserError for neither."""
    try:
        moment = datetime.datetime.fromisoformat(until)
    except ValueError:
        raise UserError(f"--until takes a day or a moment, such as 2026-12-31, found {until!r}") from None
    if re.fullmatch(r"\d{4}-?\d\d-?\d\d", until):
        moment += datetime.timedelta(days=1)
    return moment.astimezone()


if __name__ == "__main__":
    sys.exit(main())
