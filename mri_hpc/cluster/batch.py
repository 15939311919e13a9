"""The batch script's part: before srun, the check that ranks may start; after it, the job's end.

What decides has seconds until Slurm ends it as well: it imports no more than it needs.
"""

import contextlib
import dataclasses
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from mri_hpc.base.errors import UserError
from mri_hpc.base.exit_status import AGAIN, DONE, USER_CAN_FIX
from mri_hpc.cluster import node_answers, slurm
from mri_hpc.cluster.outcome import conclude, explain_vanished, may_start, say, says_preempted
from mri_hpc.rundir import server_clock
from mri_hpc.rundir.decisions import Action, Cause
from mri_hpc.rundir.layout import Attempt, RunDir
from mri_hpc.rundir.ledger import CLOCKS, UNSEEN, Kind, read_events, record

MAY_NOT_START = 3
REFUSED = 4
"""In place of MAY_NOT_START where the run cannot be used: of scripts that know it."""
GAVE_UP = 1
MAILS = "MRI_MAILS"
"""1, by the batch script, where Slurm is to mail when the run has ended for good."""
REQUEUE_BY_SHELL = 76
SHELL_HAS_SCONTROL = "MRI_SHELL_HAS_SCONTROL"
"""1 or 0, by the batch script: whether scontrol is on its PATH."""
STATUS_OF_ACTION = {
    Action.FINISHED: DONE, Action.AGAIN: AGAIN, Action.STAY_AWAY: DONE, Action.GIVE_UP: GAVE_UP,
}  # fmt: skip


def before_ranks(run: RunDir, submission: int) -> int:
    """Claim the attempt for the ranks; MAY_NOT_START where none may start (any more)."""
    # What decides after the ranks needs none of it.
    from mri_hpc.cluster.jobs import publish_job, slurm_job

    # One that begins again, also after its end, has nothing to mail until it has been decided about.
    _mail_at_end(is_wanted=False)
    if not may_start(run, submission):
        return MAY_NOT_START
    if os.environ.get(SHELL_HAS_SCONTROL) == "0" and not slurm.has_scontrol():
        raise UserError(
            "scontrol is on the PATH of neither the job's shell nor its python, so that the run could not be "
            "requeued: load Slurm's module in the shell that launches, or in site.env"
        )
    attempt = Attempt(submission=submission, restart=slurm.restart_count())
    run.claim_attempt(attempt)
    # Says it where launch died between sbatch and its own note.
    publish_job(run, submission, slurm_job(slurm.own_job_id(), slurm.own_cluster()))
    if attempt.restart > 0:
        state = slurm.past_state(slurm.own_job_id(), attempt.restart - 1)
        earlier = Attempt(submission=submission, restart=attempt.restart - 1)
        explain_vanished(run, earlier, state=state, otherwise=Cause.REQUEUED)
        _record_use(run, earlier)
    answers = node_answers.parse(os.environ.get(node_answers.ANSWERS, ""))
    for node in answers.silent:
        late_s = node_answers.PATIENCE_S
        say(f"mri_hpc: node {node} does not answer within {late_s} s: a file system may hang there")
    has_started = any(event.kind == Kind.STARTED for event in read_events(run))
    if answers.unseen and not has_started:
        raise UserError(unseen_words(run, submission, answers.unseen))
    record(run, attempt, Kind.STARTING, **_of_nodes(run, answers))
    return DONE


def unseen_words(run: RunDir, submission: int, unseen: Mapping[str, Sequence[str]]) -> str:
    """Say which nodes do not see what of a run."""
    from mri_hpc.rundir.settings import load_training

    store = Path(load_training(run).store).absolute()
    first = run.attempt_folder(Attempt(submission=submission, restart=0)).absolute()
    names = {str(first): f"the run {run.path}", str(store / "recipe.json"): f"the store {store}"}
    return node_answers.unseen_words(unseen, names)


def _of_nodes(run: RunDir, answers: node_answers.NodeAnswers) -> dict[str, object]:
    """Return what the ledger keeps of the answers: where something is amiss, and clocks by the ledger's."""
    own_s = server_clock.ahead_s(run.attempts)
    clocks = {node: round(ahead_s + own_s, 1) for node, ahead_s in answers.clocks.items()}
    off = {node: s for node, s in clocks.items() if abs(s) >= node_answers.LEAST_CLOCK_S}
    return {**({CLOCKS: off} if off else {}), **({UNSEEN: dict(answers.unseen)} if answers.unseen else {})}


def refuse_ranks(run: RunDir, submission: int, reason: str) -> None:
    """Write down why no ranks may start: the run's files cannot be used by this version."""
    say(f"mri_hpc: {reason}")
    attempt = Attempt(submission=submission, restart=slurm.restart_count())
    with contextlib.suppress(OSError):
        record(run, attempt, Kind.DECIDED, decision=Action.GIVE_UP.value, cause=Cause.USER_ERROR.value,
               reason=reason, step=-1, status=USER_CAN_FIX)  # fmt: skip
    _mail_at_end(is_wanted=True)


def after_ranks(run: RunDir, submission: int, *, status: int, signal_ahead_s: int) -> int:
    """Decide on the job by the cause, carry it out, and return the batch script's exit status."""
    attempt = Attempt(submission=submission, restart=slurm.restart_count())
    job_id = slurm.own_job_id()
    state = None
    with contextlib.suppress(UserError):
        # Also where the controller is away, the ledger has to know that the ranks have gone.
        state = slurm.job_state(job_id)
    if state and state.restarts > attempt.restart and says_preempted(run, job_id):
        state = dataclasses.replace(state, is_preempted=True)
    decision = conclude(run, attempt, status=status, job=state, signal_ahead_s=signal_ahead_s)
    say(f"mri_hpc: ranks ended with {status}; {decision.cause}: {decision.action} ({decision.reason})")
    if decision.action is Action.AGAIN:
        complaint = slurm.requeue(job_id)
        if complaint.endswith(slurm.NOT_INSTALLED):
            # As inside a container: the batch script, outside of it, has been asked whether it can.
            return REQUEUE_BY_SHELL
        if complaint:
            say(f"mri_hpc: scontrol requeue {job_id} failed: {complaint}")
            with contextlib.suppress(OSError):
                record(run, attempt, Kind.DECIDED, decision=Action.GIVE_UP.value, cause=decision.cause.value,
                       reason=f"Slurm refused to requeue job {job_id}: {complaint}")  # fmt: skip
            _mail_at_end(is_wanted=True)
            return GAVE_UP
    else:
        # Of a job that comes again, the next attempt does it.
        _record_use(run, attempt)
        # Where a newer attempt has the run, that one will tell.
        _mail_at_end(is_wanted=decision.cause is not Cause.SUPERSEDED)
    return STATUS_OF_ACTION[decision.action]


def _mail_at_end(*, is_wanted: bool) -> None:
    if os.environ.get(MAILS) == "1":
        slurm.mail_at_end(slurm.own_job_id(), is_wanted=is_wanted)


def _record_use(run: RunDir, attempt: Attempt) -> None:
    """Record what the ranks have used, which must not keep anything from going on."""
    from mri_hpc.cluster.accounted_use import record_use

    with contextlib.suppress(OSError):
        record_use(run, attempt, slurm.own_job_id())


def main(argv: Sequence[str] | None = None) -> int:
    """Do the part ``before`` or ``after`` srun: called by the batch script alone."""
    when, *words = sys.argv[1:] if argv is None else argv
    # Not argparse: with what it imports it takes a tenth of the time.
    given = dict(zip(words[::2], words[1::2], strict=True))
    run, submission = RunDir(Path(given["--run"])), int(given["--submission"])
    if when == "before":
        try:
            return before_ranks(run, submission)
        except UserError as error:
            refuse_ranks(run, submission, str(error))
            return int(given.get("--refused", MAY_NOT_START))
    status, signal_ahead_s = int(given.get("--status", 0)), int(given.get("--signal-ahead-s", 0))
    return after_ranks(run, submission, status=status, signal_ahead_s=signal_ahead_s)


if __name__ == "__main__":
    exit_status = main()
    for stream in (sys.stdout, sys.stderr):
        # What it prints may lie where nothing can be written.
        with contextlib.suppress(OSError):
            stream.flush()
    # All is written down. Taking modules apart takes a tenth of the time.
    os._exit(exit_status)
