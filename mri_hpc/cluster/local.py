"""The supervisor of a run without Slurm: it starts the ranks and plays the batch script's part."""

import argparse
import contextlib
import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from mri_hpc.base.errors import UserError
from mri_hpc.base.exit_status import AGAIN, DONE, LOST_PEER, USER_CAN_FIX
from mri_hpc.cluster.batch import STATUS_OF_ACTION
from mri_hpc.cluster.jobs import heartbeat_of
from mri_hpc.cluster.outcome import conclude, may_start, patiently, say
from mri_hpc.cluster.rank import SAVE_GRACE, rank_command
from mri_hpc.cluster.requeue import says_more_than_a_peer
from mri_hpc.rundir.decisions import Action
from mri_hpc.rundir.layout import Attempt, RunDir
from mri_hpc.rundir.ledger import Kind, record
from mri_hpc.rundir.node_range import NodeRange

# As long as Slurm waits by default between SIGTERM and SIGKILL.
SAVE_GRACE_S = 30.0
# After a crash there is nothing to save: peers only wait for the dead rank.
CRASH_GRACE_S = 5.0
HEARTBEAT_S = 60.0
HEARD = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2, signal.SIGCHLD}


class Ranks:
    """The rank processes of one attempt."""

    def __init__(
        self, commands: Mapping[int, Sequence[str]], environments: Mapping[int, Mapping[str, str]]
    ) -> None:
        self._processes = {
            rank: subprocess.Popen(list(command), env=dict(environments[rank]), stdin=subprocess.DEVNULL)
            for rank, command in commands.items()
        }
        self.status = DONE
        self.failed_rank: int | None = None
        self.failed_s: float | None = None
        self._are_killed = False

    def reap(self) -> bool:
        """Note the ranks that have ended; True if any did since the last call."""
        ended = {rank: p.returncode for rank, p in self._processes.items() if p.poll() is not None}
        for rank, code in ended.items():
            del self._processes[rank]
            self._note(rank, 128 - code if code < 0 else code)
        return bool(ended)

    def tell(self, number: signal.Signals) -> None:
        """Send a signal to the ranks that are left."""
        for process in self._processes.values():
            process.send_signal(number)

    def kill(self) -> None:
        """End the ranks that are left."""
        self._are_killed = True
        self.tell(signal.SIGKILL)

    @property
    def are_gone(self) -> bool:
        """Tell whether all have ended."""
        return not self._processes

    @property
    def has_crashed(self) -> bool:
        """Tell whether one ended without having finished or saved."""
        return self.status not in (DONE, AGAIN)

    def _note(self, rank: int, status: int) -> None:
        # Some rank has left because it was asked to: one that did not in time, as amid imports, is no crash.
        if self._are_killed and self.status in (AGAIN, LOST_PEER):
            return
        # The first that failed speaks for all, unless it only lost a peer, which may be seen to end after it.
        is_first = not self.has_crashed and status != DONE
        if is_first or (self.status == LOST_PEER and says_more_than_a_peer(status)):
            self.status = status
            if self.has_crashed:
                self.failed_rank, self.failed_s = rank, self.failed_s or time.time()


class Supervisor:
    """The supervisor of one submission: it runs attempts until there is nothing more to do."""

    def __init__(
        self,
        run: RunDir,
        submission: int,
        *,
        ranks: int,
        threads: int,
        gpus: int,
        module: str,
        free: NodeRange | None = None,
    ) -> None:
        """ranks: of the most nodes. free: nodes of which each attempt has as many as there is room for."""
        self._run, self._submission, self._module = run, submission, module
        self._num_ranks, self._threads, self._gpus = ranks, threads, gpus
        self._free, self._ranks_per_node = free, ranks // free.most if free else ranks
        self._heartbeat = heartbeat_of(run, submission)
        self._is_cancelled = False

    def supervise(self) -> int:
        """Run attempt after attempt; return the exit status that a batch script would have."""
        # Blocked, they wait for sigtimedwait: no handler runs between two lines of ours.
        signal.pthread_sigmask(signal.SIG_BLOCK, HEARD)
        attempt = Attempt(submission=self._submission, restart=0)
        while patiently(partial(self._may_begin, attempt)):
            if self._free:
                self._num_ranks = self._ranks_per_node * self._free.within(self._nodes_with_room())
            ranks = self._start(attempt)
            say(f"attempt {attempt}: {self._num_ranks} ranks started")
            self._watch(ranks)
            decision = conclude(
                self._run,
                attempt,
                status=ranks.status,
                rank=ranks.failed_rank,
                failed_s=ranks.failed_s,
                is_cancelled_here=self._is_cancelled,
            )
            say(f"attempt {attempt}: status {ranks.status}; {decision.cause}: {decision.action}")
            say(f"attempt {attempt}: {decision.reason}")
            if decision.action is not Action.AGAIN:
                return STATUS_OF_ACTION[decision.action]
            attempt = dataclasses.replace(attempt, restart=attempt.restart + 1)
        return DONE

    def _nodes_with_room(self) -> int:
        """Count the groups of ranks for which there are cores now: those of a machine may be shared anew."""
        return len(os.sched_getaffinity(0)) // (self._ranks_per_node * self._threads)

    def _may_begin(self, attempt: Attempt) -> bool:
        """Claim the attempt for its ranks; False where none may start (any more)."""
        if not may_start(self._run, self._submission):
            return False
        self._run.claim_attempt(attempt)
        record(self._run, attempt, Kind.STARTING)
        return True

    def _start(self, attempt: Attempt) -> Ranks:
        command = rank_command(self._run.path, self._submission, self._module)
        command += ["--parent", str(os.getpid())]
        every = range(self._num_ranks)
        return Ranks(
            dict.fromkeys(every, command),
            {
                rank: environment_of_rank(
                    rank, self._num_ranks, threads=self._threads, gpus=self._gpus, restart=attempt.restart
                )
                for rank in every
            },
        )

    def _watch(self, ranks: Ranks) -> None:
        """Return once all ranks have gone: by themselves, or made to."""
        kill_at: float | None = None
        while not ranks.are_gone:
            with contextlib.suppress(OSError):
                self._heartbeat.touch()
            heard = _wait_for_signal(kill_at)
            if heard in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                say(f"{signal.Signals(heard).name}: cancelled; the ranks save")
                self._is_cancelled = True
                ranks.tell(signal.SIGTERM)
                kill_at = kill_at or time.monotonic() + SAVE_GRACE_S
            elif heard == signal.SIGUSR2:
                ranks.tell(signal.SIGUSR2)
            if ranks.reap() and kill_at is None:
                # Ranks leave together: whoever stays behind has lost a peer, or is stuck.
                if ranks.has_crashed:
                    ranks.tell(signal.SIGTERM)
                kill_at = time.monotonic() + (CRASH_GRACE_S if ranks.has_crashed else SAVE_GRACE_S)
            elif kill_at is not None and time.monotonic() >= kill_at:
                ranks.kill()


def environment_of_rank(
    rank: int, num_ranks: int, *, threads: int, gpus: int, restart: int = 0
) -> dict[str, str]:
    """Return the environment of one of several ranks on this machine. gpus: 0 hides them."""
    environment = {
        **os.environ,
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(num_ranks),
        "LOCAL_WORLD_SIZE": str(num_ranks),
        "TORCHELASTIC_RESTART_COUNT": str(restart),
        "OMP_NUM_THREADS": str(threads),
        SAVE_GRACE: str(SAVE_GRACE_S),
    }
    return environment if gpus else {**environment, "CUDA_VISIBLE_DEVICES": ""}


def _wait_for_signal(until: float | None) -> int | None:
    """Wait for the next signal; None where none came in time. Children that ended before count as well."""
    wait_s = HEARTBEAT_S if until is None else max(0.05, until - time.monotonic())
    received = signal.sigtimedwait(HEARD, wait_s)
    return received.si_signo if received else None


def main(argv: Sequence[str] | None = None) -> int:
    """Run the supervisor's process: started by launch alone."""
    parser = argparse.ArgumentParser(prog="mri_hpc.cluster.local")
    parser.add_argument("--run", required=True, type=Path)
    parser.add_argument("--module", required=True)
    parser.add_argument("--free")
    for name in ("--submission", "--ranks", "--threads", "--gpus"):
        parser.add_argument(name, required=True, type=int)
    options = parser.parse_args(argv)
    supervisor = Supervisor(
        RunDir(options.run), options.submission, ranks=options.ranks, threads=options.threads,
        gpus=options.gpus, module=options.module,
        free=NodeRange.parse(options.free) if options.free else None,
    )  # fmt: skip
    try:
        return supervisor.supervise()
    except UserError as error:
        say(f"mri_hpc: {error}")
        return USER_CAN_FIX
    except KeyboardInterrupt:
        return DONE


if __name__ == "__main__":
    sys.exit(main())
