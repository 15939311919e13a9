"""The judgement of a drill, by what lies in its folder once it is over."""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mri_hpc.base.command import counted
from mri_hpc.base.exit_status import AGAIN, DONE, LOST_PEER
from mri_hpc.cluster import slurm
from mri_hpc.cluster.doctor.finding import Finding, Level, fine, note, problem
from mri_hpc.cluster.drill.folder import DrillFolder
from mri_hpc.cluster.drill.probe import Question, judge_nodes, read_answers
from mri_hpc.cluster.drill.terms import BY, LIMIT_MIN
from mri_hpc.cluster.drill.verdict import Preemption
from mri_hpc.cluster.jobs import Job
from mri_hpc.cluster.outcome import tail
from mri_hpc.cluster.rank_exits import read_exits
from mri_hpc.rundir.decisions import Action, Cause
from mri_hpc.rundir.layout import Attempt, RunDir
from mri_hpc.rundir.ledger import Event, Kind, read_events
from mri_hpc.rundir.metrics_log import read_metrics
from mri_hpc.rundir.provenance import read_provenance

HELP_DESK = "ask your cluster's help desk"
UNKNOWN = "?"
NODE = re.compile(r"drill: rank (\d+) on (\S+)")


@dataclass(frozen=True, kw_only=True)
class Judgement:
    """Findings of a drill."""

    findings: tuple[Finding, ...]
    bad_nodes: tuple[str, ...] = ()
    preemption: Preemption | None = None


def judge(drill: DrillFolder, question: Question, *, job: Job) -> Judgement:
    """Judge a drill whose job is over, or can go no further. UserError where Slurm is asked in vain."""
    answers = read_answers(drill)
    if answers is None:
        return _of_silence(drill, job)
    nodes = slurm.node_names(answers.nodes)
    by_node = judge_nodes(answers, nodes, question)
    seen = _grouped(by_node)
    bad = [node for node, found in by_node.items() if any(one.level is Level.PROBLEM for one in found)]
    if bad:
        # What holds for all nodes of a job is no fault of theirs.
        is_theirs = len(bad) < len(nodes) or len(nodes) == 1
        return Judgement(findings=tuple(seen), bad_nodes=tuple(bad) if is_theirs else ())
    whole = fine(f"every node sees runs, store and python, and can start ranks: {answers.nodes}")
    events = read_events(drill.run)
    found = list(_of_course(drill, events))
    suspects = _suspects(drill, events) if any(one.level is Level.PROBLEM for one in found) else []
    return Judgement(
        findings=(whole, *seen, *found), bad_nodes=tuple(suspects), preemption=preemption_of(events)
    )


def preemption_of(events: Sequence[Event]) -> Preemption | None:
    """Work out what the drill's interruption took; None where it did not come back."""
    at = {
        (event.kind, Attempt.parse(event.attempt).restart): event.time
        for event in reversed(events)
        if event.kind in (Kind.STOP_AGREED, Kind.RANKS_GONE, Kind.STARTING, Kind.FIRST_STEP)
    }
    try:
        stopped_s, gone_s = at[Kind.STOP_AGREED, 0], at[Kind.RANKS_GONE, 0]
        started_s, stepped_s = at[Kind.STARTING, 1], at[Kind.FIRST_STEP, 1]
    except KeyError:
        return None
    return Preemption(
        stop_s=round(gone_s - stopped_s, 1), held_s=round(started_s - gone_s, 1),
        start_s=round(stepped_s - started_s, 1),
    )  # fmt: skip


def _of_silence(drill: DrillFolder, job: Job) -> Judgement:
    """Judge a job that left no answer of any node."""
    node = slurm.first_node(job.job_id, slurm.elsewhere(job.slurm_cluster))
    where = (
        f"{node}, on which the job's script starts," if node else "the node on which the job's script starts"
    )
    if drill.began.exists():
        says = f"{where} could not ask the nodes: srun did not come back"
        return Judgement(findings=(problem(says, HELP_DESK),), bad_nodes=(node,) if node else ())
    says = (
        f"{where} does not see {drill.path.parent}, or could not start the script: the job has ended without "
        f"a word"
    )
    cure = "put runs on a file system that all nodes share, and drill there: mri-hpc doctor /shared --drill"
    return Judgement(findings=(problem(says, cure),), bad_nodes=(node,) if node else ())


def _grouped(by_node: dict[str, list[Finding]]) -> list[Finding]:
    """Say once what holds for several nodes, with their names before it."""
    nodes: dict[Finding, list[str]] = {}
    for node, found in by_node.items():
        for one in found:
            nodes.setdefault(one, []).append(node)
    return [
        Finding(level=one.level, says=f"{', '.join(names)}: {one.says}", cure=one.cure)
        for one, names in nodes.items()
    ]


def _of_course(drill: DrillFolder, events: Sequence[Event]) -> Iterator[Finding]:
    """Judge rank by rank, attempt by attempt, what came after the nodes had answered."""
    failures = list(_failures(drill, events))
    kinds = [event.kind for event in events]
    if Kind.FIRST_STEP not in kinds:
        yield from failures or [_unexplained("the ranks took no step", drill)]
        return
    [started] = [event for event in events if event.kind == Kind.STARTED][:1]
    yield fine(f"{started.values['ranks']} rank(s) have met and taken a step on {started.values['device']}")
    yield from _of_signal(drill, kinds)
    if kinds.count(Kind.FIRST_STEP) < 2:
        yield from failures or [_unexplained("the job did not come back", drill)]
        return
    yield fine("requeued, the run has resumed where it was stopped")
    yield from failures
    if drill.twin.is_finished and drill.run.is_finished:
        yield from _of_bits(drill, events)
    elif drill.run.is_finished:
        yield fine("and it has trained to its end")
        yield note(
            f"its twin was not done within the job's {LIMIT_MIN} minutes: whether the bits are equal is open",
            f"drill once more, when files are in the nodes' memory; how far it came: {drill.twin.attempts}",
        )
    elif not failures:
        yield from [_unexplained("it was not finished", drill)]


def _failures(drill: DrillFolder, events: Sequence[Event]) -> Iterator[Finding]:
    """Say why an attempt failed, in the last words of the ranks that failed by themselves."""
    if any(event.kind == Kind.CANCELLED and event.values.get("by") == BY for event in events):
        yield problem(
            f"the job had had its {LIMIT_MIN} minutes before the end: starting takes long here",
            f"install where imports are fast; how far it came: {drill.run.attempts}",
        )
    decided = next((event for event in events if _is_failure(event)), None)
    if decided is None:
        if Kind.FIRST_STEP not in {event.kind for event in events}:
            yield from _waiting_ranks(drill.run)
        return
    attempt = Attempt.parse(decided.attempt)
    words = [
        problem(f"{node}: {_last_line(drill.run.rank_log(attempt, rank))}", f"see {drill.run.attempts}")
        for rank, node in _failed_ranks(drill.run, attempt).items()
    ]
    yield from dict.fromkeys(words)
    if not words:
        last = next(iter(reversed(decided.values.get("last_words", ()))), "")
        yield problem(f"{decided.values['reason']}{': ' if last else ''}{last}", f"see {drill.run.submitit}")


def _waiting_ranks(run: RunDir) -> Iterator[Finding]:
    """Say at what the ranks of the first attempt were that took no step, and were not ended for a fault."""
    for attempt in run.all_attempts()[:1]:
        for rank, node in sorted(_nodes_of_ranks(run, attempt).items()):
            yield problem(f"{node}: {_last_line(run.rank_log(attempt, rank))}", f"see {run.attempts}")


def _is_failure(event: Event) -> bool:
    """Tell whether an event is the decision on an attempt that failed."""
    if event.kind != Kind.DECIDED:
        return False
    return event.values["decision"] == Action.GIVE_UP or event.values["cause"] == Cause.CRASH


def _of_signal(drill: DrillFolder, kinds: Sequence[str]) -> Iterator[Finding]:
    """Judge how the signal came to the ranks."""
    complaint = _complaint(drill)
    if complaint:
        yield problem(
            f"a signal that Slurm was asked to send did not reach the ranks: {complaint}",
            "what starts python here (MRI_PYTHON, a container) has to pass signals on: end it with exec",
        )
    elif Kind.STOP_AGREED in kinds:
        yield fine("a signal of Slurm's reached the ranks, and they stopped together")


def _complaint(drill: DrillFolder) -> str:
    """Read why the signal did not come; empty where it did."""
    if not drill.signal_note.exists():
        return "it was not sent"
    return str(json.loads(drill.signal_note.read_bytes())["complaint"])


def _of_bits(drill: DrillFolder, events: Sequence[Event]) -> Iterator[Finding]:
    """Compare the interrupted run with its twin, step by step and in the end."""
    stopped = next(event.values["step"] for event in events if event.kind == Kind.STOP_AGREED)
    losses, of_twin = (_losses(run) for run in (drill.run, drill.twin))
    differing = next((step for step, loss in losses.items() if of_twin.get(step) != loss), None)
    digests = {read_provenance(run)["weights_digest"] for run in (drill.run, drill.twin)}
    conditions = {str(event.values["condition"]) for event in events if event.kind == Kind.CHANGED}
    if differing is None and len(digests) == 1:
        ranks = next(event.values["ranks"] for event in events if event.kind == Kind.STARTED)
        steps = counted(len(losses), "step")
        alike = f"; the network added up alike in two process groups over {steps}" if ranks > 1 else ""
        yield fine(
            f"resumed, it ended with the weights of a twin that nothing interrupted, to the bit{alike}"
        )
    elif differing is not None and differing <= stopped:
        yield note(
            f"two process groups differ from step {differing} on: the network, or the GPUs, add up in "
            f"another order each time: a resumed run is as good as an uninterrupted one, but not equal to it",
            "a new run with --sums fixed-1 adds up as whole numbers, exact in any order",
        )
    else:
        changed = f"; what changed: {', '.join(sorted(conditions))}" if conditions else ""
        yield note(
            f"resumed, it differs from a twin that nothing interrupted{changed}: a resumed run is as good as "
            f"an uninterrupted one, but not equal to it",
            "ask for nodes of one kind: --constraint",
        )


def _losses(run: RunDir) -> dict[int, float]:
    return {line["step"]: line["loss"] for line in read_metrics(run) if "loss" in line}


def _suspects(drill: DrillFolder, events: Sequence[Event]) -> list[str]:
    """Name nodes whose ranks failed, which the next try should leave out.

    Ranks of other nodes wait for the first one: where all of them wait in vain, its node is the one.
    """
    decided = next((event for event in events if _is_failure(event)), None)
    if decided is None:
        return []
    attempt = Attempt.parse(decided.attempt)
    node_of = _nodes_of_ranks(drill.run, attempt)
    first, others = node_of.get(0, ""), {node for node in node_of.values() if node != node_of.get(0)}
    failed = set(_failed_ranks(drill.run, attempt).values())
    if failed == {first} or (len(others) > 1 and others <= failed):
        failed, first = {first}, ""
    # No node is known of a rank whose log is not there.
    return sorted(failed - {first, "", UNKNOWN})


def _failed_ranks(run: RunDir, attempt: Attempt) -> dict[int, str]:
    """Return the node of each rank that failed by itself."""
    node_of = _nodes_of_ranks(run, attempt)
    return {
        rank: node_of.get(rank, UNKNOWN)
        for rank, (status, _when) in sorted(read_exits(run, attempt).items())
        if status not in (DONE, AGAIN, LOST_PEER)
    }


def _nodes_of_ranks(run: RunDir, attempt: Attempt) -> dict[int, str]:
    """Read in the logs of the ranks on which node each is."""
    found = {}
    for log in run.attempt_folder(attempt).glob("rank*.log"):
        with log.open(encoding="utf-8", errors="replace") as file:
            if named := NODE.search(file.readline()):
                found[int(named[1])] = named[2]
    return found


def _last_line(log: Path) -> str:
    lines = tail(log) if log.exists() else []
    return lines[-1] if lines else f"no log at {log}"


def _unexplained(what: str, drill: DrillFolder) -> Finding:
    printed = [line for log in sorted(drill.run.submitit.glob("*_log.out")) for line in tail(log)]
    why = f"; its job's last words: {printed[-1]}" if printed else ", and nothing says why"
    return problem(f"{what}{why}", f"see {drill.run.attempts} and {drill.run.submitit}")
