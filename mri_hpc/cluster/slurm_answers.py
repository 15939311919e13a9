"""Answers of Slurm's commands, as text, and what they say: nothing here asks."""

import dataclasses
import re
from dataclasses import dataclass

# How squeue is to tell of a job: number, state, reason, and when it starts or has started.
QUEUE_FORM = "%i|%T|%r|%S"
KILL_WAIT = re.compile(r"^\s*KillWait\s*=\s*(\d+)", re.MULTILINE | re.IGNORECASE)
"""Finds it in slurm.conf, and in what ``scontrol show config`` prints."""
# States in which a job is over. Every other one, also one that a newer Slurm invents, is of a job that Slurm
# still has: taken for gone, it would be submitted once more, beside itself.
ENDED_STATES = {
    "BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "LAUNCH_FAILED", "NODE_FAIL",
    "OUT_OF_MEMORY", "PREEMPTED", "RECONFIG_FAIL", "REVOKED", "TIMEOUT",
}  # fmt: skip
# States in which a job has its nodes, and its ranks may run.
STARTED_STATES = {"RUNNING", "COMPLETING", "STAGE_OUT", "STOPPED", "SIGNALING", "RESIZING", "UPDATE_DB"}


@dataclass(frozen=True, kw_only=True)
class JobState:
    """The state of one job in Slurm."""

    state: str
    """Slurm's word: PENDING, RUNNING, CANCELLED, ..."""
    is_completing: bool = False
    """True while it ends: its ranks may still be saving, its batch script still deciding."""
    restarts: int = 0
    """Number of times the job was requeued."""
    is_preempted: bool = False
    """True where a job of higher priority is taking its nodes."""
    is_out_of_time: bool = False
    """True where it has run as long as it may."""
    end_s: float | None = None
    """Unix time at which Slurm will end it."""
    start_s: float | None = None
    """Unix time at which Slurm expects a waiting one to start, where it knows."""
    reason: str = ""
    """Slurm's word for why it waits, or why it ended."""

    @property
    def is_live(self) -> bool:
        """Tell whether it runs, or will run by itself."""
        return self.is_completing or self.state not in ENDED_STATES

    @property
    def is_waiting(self) -> bool:
        """Tell whether it has yet to start."""
        return self.is_live and not self.is_completing and self.state not in STARTED_STATES


def parse_job(text: str, now: float) -> JobState | None:
    """Parse the one line of ``scontrol --oneliner show job``; None where it names no state."""
    values: dict[str, str] = {}
    for name, value in re.findall(r"(\S+?)=(\S*)", text):
        # The first wins: paths further on may hold anything.
        values.setdefault(name, value)
    if "JobState" not in values:
        return None
    start_s, end_s = (unix_time(values.get(name, "")) for name in ("StartTime", "EndTime"))
    ran_s, limit_s = seconds_of(values.get("RunTime", "")), seconds_of(values.get("TimeLimit", ""))
    return JobState(
        state=values["JobState"],
        is_completing=values["JobState"] == "COMPLETING",
        restarts=int(values.get("Restarts", "0")),
        is_preempted=values.get("PreemptTime", "None") != "None",
        is_out_of_time=values.get("Reason") == "TimeLimit"
        or (ran_s is not None and limit_s is not None and ran_s >= limit_s),
        end_s=end_s if end_s and end_s > now else None,
        start_s=start_s if start_s and start_s > now and values["JobState"] == "PENDING" else None,
        reason=values.get("Reason", "None").replace("None", ""),
    )


def parse_queue(text: str, now: float) -> dict[str, JobState]:
    """Parse the lines of squeue, in QUEUE_FORM, by the numbers of the jobs."""
    states = {}
    for line in text.splitlines():
        # With --clusters it heads them with the cluster's name.
        number, _, rest = line.strip().partition("|")
        state, _, rest = rest.partition("|")
        reason, _, starts = rest.rpartition("|")
        if not number.isdigit() or not state:
            continue
        start_s = unix_time(starts)
        states[number] = JobState(
            state=state,
            is_completing=state == "COMPLETING",
            start_s=start_s if start_s and start_s > now and state == "PENDING" else None,
            # As scontrol writes it, where it is a whole sentence.
            reason=reason.replace("None", "").replace(" ", "_"),
        )
    return states


def parse_kill_time(shown: str, config: str, received_s: float) -> float | None:
    """Parse ``scontrol --oneliner show job`` and Slurm's settings; None where the time is unknown."""
    job, kill_wait = parse_job(shown, received_s), KILL_WAIT.search(config)
    if job is None or kill_wait is None:
        return None
    # GraceTime is in the EndTime of a preempted job that still runs. That of one being cleared away may be
    # its next run's: SIGTERM has come, and the kill follows.
    end_s = job.end_s if job.state == "RUNNING" and job.end_s else received_s
    return end_s + int(kill_wait[1])


def parse_accounting(text: str, shown: JobState | None) -> JobState | None:
    """Parse the last line of sacct (its state alone), and join it to what scontrol showed."""
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        return shown
    state = first_word(lines[-1])
    if shown is None:
        return JobState(state=state)
    ending = state if state not in ("RUNNING", "PENDING", "COMPLETED") else shown.state
    return dataclasses.replace(shown, state=ending)


def first_word(text: str) -> str:
    """Return the state in an answer: of ``CANCELLED by 1000`` the first word."""
    return (text.split() or [""])[0]


def unix_time(text: str) -> float | None:
    """Parse Unix seconds; None for Unknown and the like."""
    return float(text) if text.isdigit() else None


def seconds_of(text: str) -> int | None:
    """Parse ``[[days-]hours:]minutes:seconds`` as seconds; None for UNLIMITED and the like."""
    match = re.fullmatch(r"(?:(?:(\d+)-)?(\d+):)?(\d+):(\d\d)", text)
    if not match:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds
