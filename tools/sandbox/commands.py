"""The one door to other programs."""

import subprocess
import time
from collections.abc import Callable, Mapping, Sequence

from failure import SandboxError

PROGRAM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CLEAN_ENVIRONMENT = {"PATH": PROGRAM_PATH, "LANG": "C.UTF-8"}


def run(
    argv: Sequence[str], *, env: Mapping[str, str] | None = None, stdin: str = "", timeout_s: float = 30
) -> str:
    """Return the command's output; a SandboxError with its last line of complaint when it fails."""
    result = attempt(argv, env=env, stdin=stdin, timeout_s=timeout_s)
    if result.returncode != 0:
        raise SandboxError(
            f"`{' '.join(argv)}` failed with status {result.returncode}: {complaint_of(result)}"
        )
    return result.stdout


def complaint_of(result: subprocess.CompletedProcess[str]) -> str:
    """Return the last line that a command printed about its failure."""
    return (result.stderr.strip() or result.stdout.strip() or "no message").splitlines()[-1]


def attempt(
    argv: Sequence[str], *, env: Mapping[str, str] | None = None, stdin: str = "", timeout_s: float = 30
) -> subprocess.CompletedProcess[str]:
    """Return the command's outcome, whatever its status; a command that hangs counts as status 124."""
    try:
        return subprocess.run(
            list(argv),
            env=dict(env or CLEAN_ENVIRONMENT),
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=timeout_s,
            cwd="/",
        )
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(list(argv), 124, "", f"no answer in {timeout_s:g} s")


def wait_until(is_true: Callable[[], bool], *, what: str, timeout_s: float) -> None:
    """Return as soon as the condition holds; a SandboxError naming it when the time is over."""
    deadline = time.monotonic() + timeout_s
    while not is_true():
        if time.monotonic() > deadline:
            raise SandboxError(f"{what} did not come in {timeout_s:g} s")
        time.sleep(0.05)
