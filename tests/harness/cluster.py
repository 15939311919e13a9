"""A running sandbox of tools/sandbox, and the questions that tests and trials ask of it."""

import dataclasses
import functools
import json
import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

SANDBOX = Path(__file__).parents[2] / "tools" / "sandbox" / "sandbox"
PROGRAMS = ("slurmctld", "slurmd", "sbatch", "munged", "slurmdbd", "mariadbd", "ip")
ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "PREEMPTED", "NODE_FAIL", "OUT_OF_MEMORY")

# Between two questions: each is a process of a client, and work for slurmctld.
LEAST_PAUSE_S = 0.1
MOST_PAUSE_S = 1.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class Slurm:
    """A running sandbox. What does not come, or fails, is an AssertionError that says what."""

    dir: Path

    @property
    def log_dir(self) -> Path:
        return self.dir / "log"

    @property
    def env(self) -> dict[str, str]:
        """The environment in which Slurm's commands, and ours, speak to this sandbox."""
        ours = {"SLURM_CONF": str(self.dir / "etc" / "slurm.conf"), "MRI_SANDBOX_DIR": str(self.dir)}
        return {**os.environ, **ours}

    @property
    def has_accounting(self) -> bool:
        """Whether sacct knows anything: slurmdbd does not start everywhere."""
        state = json.loads((self.dir / "state.json").read_text(encoding="utf-8"))
        return bool(state["options"]["accounting"] != "none")

    def run(self, argv: Sequence[object], **changes: Any) -> subprocess.CompletedProcess[str]:
        """Run a command against this Slurm; it must succeed, unless `check=False`."""
        settings: dict[str, Any] = {
            "env": self.env,
            "check": True,
            "capture_output": True,
            "text": True,
            "timeout": 180,
        }
        words = [str(word) for word in argv]
        try:
            return subprocess.run(words, **{**settings, **changes})
        except subprocess.CalledProcessError as error:
            raise AssertionError(
                f"{' '.join(words)}: status {error.returncode}\n{error.stdout}{error.stderr}"
            ) from None

    def sandbox(self, *words: object, **changes: Any) -> subprocess.CompletedProcess[str]:
        """Run a command of the sandbox: kill-node n2, cut-link n2, ..."""
        return self.run([SANDBOX, words[0], "--dir", self.dir, *words[1:]], **changes)

    def status(self) -> dict[str, Any]:
        """What `sandbox status --json` says."""
        return dict(json.loads(self.sandbox("status", "--json", check=False).stdout))

    def sbatch(self, *words: object, script: str | None = None) -> str:
        """Submit a batch job, with its lines in `script` where given; its number."""
        return self.run(["sbatch", "--parsable", *words], input=script).stdout.strip().split(";")[0]

    def job(self, job_id: str) -> dict[str, str]:
        """The fields of `scontrol show job`; empty once Slurm has forgotten the job."""
        shown = self.run(["scontrol", "show", "job", "--oneliner", job_id], check=False).stdout
        return dict(re.findall(r"([\w:/]+)=(\S*)", shown))

    def job_state(self, job_id: str) -> str:
        """PENDING, RUNNING, COMPLETING, COMPLETED, ...; "" for a job that Slurm does not know."""
        return self.job(job_id).get("JobState") or next(iter(self.accounted_states(job_id)[::-1]), "")

    def mails_about(self, job_id: str) -> list[str]:
        """What Slurm has mailed of a job: subjects. The first mail makes the file."""
        log = self.log_dir / "mail.log"
        lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
        return [line for line in lines if f"Job_id={job_id} " in line]

    def accounted_states(self, job_id: str) -> list[str]:
        """The states of a job's attempts as sacct tells them, in their order; none without accounting."""
        if not self.has_accounting:
            return []
        question = ["sacct", "--duplicates", "-X", "--noheader", "--parsable2", "--jobs", job_id]
        lines = self.run([*question, "--format=State"]).stdout.splitlines()
        return [line.split()[0] for line in lines if line]

    def wait_state(self, job_id: str, states: str | Sequence[str], timeout_s: float = 180) -> str:
        """Wait until the job is in one of the states; which one."""
        wanted = (states,) if isinstance(states, str) else tuple(states)
        seen: list[str] = []

        def is_there() -> bool:
            seen.append(self.job_state(job_id))
            return seen[-1] in wanted

        self.wait_until(
            is_there, what=lambda: f"job {job_id} in {wanted}: it is {seen[-1]}", timeout_s=timeout_s
        )
        return seen[-1]

    def wait_end(self, job_id: str, timeout_s: float = 180) -> str:
        """Wait until the job has ended; its state."""
        return self.wait_state(job_id, ENDED, timeout_s)

    def wait_until(
        self, is_true: Callable[[], bool], *, what: str | Callable[[], str], timeout_s: float = 180,
        most_pause_s: float = MOST_PAUSE_S,
    ) -> None:  # fmt: skip
        """Return soon after the condition holds; the longer that takes, the less often it is asked."""
        began = time.monotonic()
        while not is_true():
            waited_s = time.monotonic() - began
            if waited_s > timeout_s:
                said = what if isinstance(what, str) else what()
                raise AssertionError(f"not within {timeout_s:g} s: {said}")
            time.sleep(min(max(LEAST_PAUSE_S, waited_s / 10), most_pause_s))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sandboxes:
    """Starts sandboxes below one folder, and takes down those that are left."""

    folder: Path
    started: list[Slurm] = dataclasses.field(default_factory=list)
    _is_coming_up: threading.Lock = dataclasses.field(default_factory=threading.Lock)
    """Nothing takes a sandbox down while it comes up."""

    def start(self, *options: object) -> Slurm:
        """One more Slurm, with these options of `sandbox up`."""
        with self._is_coming_up:
            slurm = Slurm(dir=self.folder / f"box{len(self.started)}")
            self.started.append(slurm)
            slurm.sandbox("up", *options)
        return slurm

    def stop(self, slurm: Slurm) -> None:
        """Take one down; its logs stay in the folder."""
        if slurm.log_dir.exists():
            shutil.copytree(slurm.log_dir, self.folder / f"{slurm.dir.name}-log", dirs_exist_ok=True)
        slurm.sandbox("down")

    def stop_all(self) -> None:
        """Take every sandbox down; their logs stay in the folder."""
        # Held for good: whoever still waits to start one is too late.
        self._is_coming_up.acquire()
        for slurm in self.started:
            self.stop(slurm)


@functools.cache
def slurm_version() -> str:
    """The Slurm that is installed: 22.05.8, 24.11.5."""
    # Its commands for users look for a slurm.conf first.
    path = {**os.environ, "PATH": f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin"}
    said = subprocess.run(["slurmctld", "-V"], capture_output=True, text=True, check=True, env=path).stdout
    return said.split()[-1]


def why_not() -> str:
    """What this machine lacks for a sandbox; empty if nothing."""
    if os.geteuid() != 0:
        return "a sandbox needs root"
    search = f"{os.environ.get('PATH', '')}:/usr/local/sbin:/usr/sbin:/sbin"
    missing = [program for program in PROGRAMS if not shutil.which(program, path=search)]
    return f"Slurm's programs are missing: {', '.join(missing)}" if missing else ""
