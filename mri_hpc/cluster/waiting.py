"""Plain words for why a job waits, with the line to type where it would wait for ever."""

import re
import shlex
import time

from mri_hpc.cluster.slurm import release_command
from mri_hpc.cluster.slurm_answers import JobState

AGAIN = "mri-hpc launch --run RUN --cancel, then launch again with"
NEVER = "it will not start as it is: "
WORDS: tuple[tuple[str, str], ...] = (
    ("Priority", "others are before it in the queue"),
    ("Resources", "for nodes to become free"),
    ("BeginTime", "for its time to begin; a requeued job waits two minutes"),
    ("Cleaning", "for its last attempt to be cleared away"),
    (
        "ReqNodeNotAvail.*(?:[Mm]aint|[Rr]eserved).*",
        "its nodes are kept for others, or for maintenance, until when scontrol show reservation says; "
        f"what ends before may start: {AGAIN} a smaller --time-limit-min",
    ),
    (
        "ReqNodeNotAvail.*|NodeDown|Nodes_required_for_job.*",
        "its nodes are down, drained or reserved: sinfo -R says why",
    ),
    ("Reservation", "for its reservation to begin: scontrol show reservation"),
    ("ReservationDeleted", f"{NEVER}its reservation is gone; {AGAIN} another"),
    ("Dependency", "for another job to end"),
    ("DependencyNeverSatisfied", f"{NEVER}the job that it waits for has failed; cancel it"),
    ("JobHeldUser|JobHoldMaxRequeue|job_requeued_in_held_state", "it is held; let it go: {release}"),
    ("launch_failed_requeued_held", "a node could not start it, and it is held; let it go: {release}"),
    ("JobHeldAdmin", "an administrator holds it: ask your site"),
    (
        "PartitionTimeLimit",
        f"{NEVER}its time limit is above the partition's; {AGAIN} a smaller --time-limit-min",
    ),
    ("PartitionNodeLimit", f"{NEVER}the partition gives fewer nodes to a job; {AGAIN} fewer --nodes"),
    (
        "PartitionDown|PartitionInactive",
        "its partition is closed: sinfo --summarize lists those that are open",
    ),
    ("BadConstraints", f"{NEVER}no node has what --constraint asks for; {AGAIN} another"),
    (
        "(?:Assoc|QOS)Max(?:Wall|WallDuration)PerJob.*",
        f"{NEVER}its time limit is above your account's; {AGAIN} a smaller --time-limit-min",
    ),
    (
        "(?:Assoc|QOS)Max\\w*PerJob.*",
        f"{NEVER}it asks for more than your account may have in one job; {AGAIN} less",
    ),
    (
        "(?:Assoc|QOS)Grp\\w*Minutes\\w*",
        "your group's hours are used up: sshare, or your site, says until when",
    ),
    (
        "(?:Assoc|QOS)Grp.*|(?:Assoc|QOS)Max.*",
        "your account or group has as much at once as it may: it starts when other jobs of yours end",
    ),
    (
        "InvalidAccount|InvalidQOS",
        f"{NEVER}its account or quality of service is not valid any more; {AGAIN} --account or --qos",
    ),
    ("Licenses", "for a licence"),
    ("NodeNotAvail|PowerNotAvail|PowerReserved", "for nodes to be powered up"),
)
"""Slurm's words for why a job waits, as patterns, and ours."""


def plain(job_id: str, job: JobState, cluster: str = "") -> str:
    """Say what a waiting job waits for, with Slurm's own word, and when Slurm expects it to start.

    cluster: another one than that at hand.
    """
    words = _words(job, release=shlex.join(release_command(job_id, cluster)))
    line = f"{words} (Slurm: {job.reason or job.state})" if words else f"Slurm: {job.reason or job.state}"
    if job.start_s is None:
        return line
    return f"{line}; expected to start {time.strftime('%Y-%m-%d %H:%M', time.localtime(job.start_s))}"


def _words(job: JobState, *, release: str) -> str:
    if job.state in ("REQUEUE_HOLD", "SPECIAL_EXIT"):
        return f"it is held; let it go: {release}"
    for pattern, words in WORDS:
        if re.fullmatch(pattern, job.reason):
            return words.format(release=release)
    return ""
