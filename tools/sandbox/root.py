"""Another distribution's files in a folder: its Slurm and its Python, on this machine's kernel."""

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from commands import CLEAN_ENVIRONMENT, attempt, complaint_of, run
from daemons import OLDER_LIBRARY_FOLDER, PACKAGES, find_program
from failure import SandboxError

SUITES = ("bookworm", "trixie", "testing", "sid")
REPOSITORY = Path(__file__).resolve().parents[2]
# In the root that a process sees as its own, and in the environment of what runs there.
MARK_FILE = ".mri-sandbox-root"
MARK = "MRI_SANDBOX_ROOT"
MORE_PACKAGES = ("python3", "python3-venv", "git", "procps", "libgomp1")
# slurmdbd of Debian 13 and later ends at its first query with the database's library of its own release.
OLDER_RELEASE = "bookworm"
OLDER_LIBRARY = "libmariadb3"
APT_OF_HERE = ("Acquire::Check-", "Acquire::http::Proxy", "Acquire::https::Proxy")
HALF_AN_HOUR_S = 1800.0


def current() -> str:
    """Name the root that this process sees as its own, as those outside of it call it."""
    return os.environ.get(MARK, "/")


def is_inside(root: Path) -> bool:
    """Tell whether this process sees the root as its own."""
    return current() == str(root)


def enter(root: Path, argv: Sequence[str], *, shown: Sequence[Path] = ()) -> NoReturn:
    """Become a command inside a root, which sees /tmp, this repository and some folders of the machine."""
    if not (root / MARK_FILE).is_file():
        raise SandboxError(
            f"{root} is not a root of the sandbox: sandbox up --root DIR --suite trixie makes one"
        )
    if os.geteuid() != 0:
        raise SandboxError("another root needs root: run it again with sudo")
    os.execvpe("unshare", entering(root, argv, shown=shown), environment_in(root))


def entering(root: Path, argv: Sequence[str], *, shown: Sequence[Path] = ()) -> list[str]:
    """Return the whole command that runs another one in a root."""
    init = str(Path(__file__).with_name("root_init.py"))
    # /tmp is shown in any case.
    folders = ":".join(str(path) for path in (REPOSITORY, *shown) if not path.is_relative_to("/tmp"))
    return ["unshare", "--mount", sys.executable, "-I", init, str(root), folders, *argv]


def environment_in(root: Path) -> dict[str, str]:
    """Return this process's environment with the programs of the root."""
    return {**os.environ, "PATH": CLEAN_ENVIRONMENT["PATH"], MARK: str(root)}


def make(root: Path, suite: str) -> bool:
    """Make a root from the distribution's packages, through the mirror that this machine's apt uses.

    Returns whether it was made: one of the same suite that is there already stays as it is.
    """
    if suite not in SUITES:
        raise SandboxError(f"--suite must be one of {', '.join(SUITES)}, got {suite}")
    if (root / MARK_FILE).is_file():
        found = json.loads((root / MARK_FILE).read_text())["suite"]
        if found != suite:
            raise SandboxError(f"{root} is of {found}: choose another --root for {suite}")
        return False
    if root.exists() and any(root.iterdir()):
        raise SandboxError(
            f"{root} holds other files, or half a root: choose a new or empty folder, or remove it"
        )
    if os.geteuid() != 0:
        raise SandboxError("making a root needs root: run it again with sudo")
    if not find_program("debootstrap"):
        raise SandboxError("programs are missing: apt-get install -y debootstrap")
    bootstrap(root, suite)
    install(root, [*PACKAGES.values(), *MORE_PACKAGES])
    if suite != OLDER_RELEASE:
        unpack_older_library(root)
    (root / MARK_FILE).write_text(json.dumps({"suite": suite}) + "\n")
    return True


def bootstrap(root: Path, suite: str) -> None:
    """Unpack the smallest system that can install packages."""
    mirror = mirror_of(sources_of_apt())
    words = ["debootstrap", "--variant=minbase", "--include=ca-certificates", suite, str(root)]
    made = attempt([*words, *([mirror] if mirror else [])], timeout_s=HALF_AN_HOUR_S)
    if made.returncode != 0:
        raise SandboxError(
            f"debootstrap {suite} failed: {complaint_of(made)}; remove {root} before the next try"
        )
    # Bound over by those of this machine, where it has them.
    for name in ("hosts", "resolv.conf"):
        (root / "etc" / name).touch()
    # Services are not started by being installed.
    policy = root / "usr" / "sbin" / "policy-rc.d"
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    set_up_apt(root)


def set_up_apt(root: Path) -> None:
    """Have the root's apt keep no packages, and reach and trust the mirror as this machine's does."""
    own = asked_of(["apt-config", "dump", "--format", '%f "%v";%n']).splitlines()
    lines = [
        'APT::Keep-Downloaded-Packages "false";',
        *(line for line in own if line.startswith(APT_OF_HERE)),
    ]
    (root / "etc" / "apt" / "apt.conf.d" / "as-outside").write_text("\n".join(lines) + "\n")


def sources_of_apt() -> str:
    """Ask apt for its sources: a line each, of address, origin and label."""
    return asked_of(
        ["apt-get", "indextargets", "--format", "$(SITE) $(ORIGIN) $(LABEL)", "Created-By: Packages"]
    )


def asked_of(argv: Sequence[str]) -> str:
    """Return what a command prints; nothing where it fails."""
    asked = attempt(argv)
    return asked.stdout if asked.returncode == 0 else ""


def mirror_of(sources: str) -> str | None:
    """Return the address from which Debian comes; None where apt names none: debootstrap has its own."""
    found = [line.split() for line in sources.splitlines()]
    return next((words[0] for words in found if words[1:] == ["Debian", "Debian"]), None)


def install(root: Path, packages: Sequence[str]) -> None:
    """Install packages of the distribution in a root."""
    inside(root, ["apt-get", "update", "-qq"])
    inside(root, ["apt-get", "install", "-qq", "--yes", "--no-install-recommends", *sorted(set(packages))])


def unpack_older_library(root: Path) -> None:
    """Put the database's library of an older release beside the root's own, for slurmdbd alone."""
    sources = root / "etc" / "apt" / "sources.list"
    own = sources.read_text()
    [mirror] = {line.split()[1] for line in own.splitlines() if line.startswith("deb ")}
    try:
        sources.write_text(f"{own}deb {mirror} {OLDER_RELEASE} main\n")
        inside(root, ["apt-get", "update", "-qq"])
        script = 'cd "$(mktemp -d)" && apt-get download -qq "$0/$1" && dpkg -x ./*.deb "$2"'
        inside(root, ["sh", "-c", script, OLDER_LIBRARY, OLDER_RELEASE, str(OLDER_LIBRARY_FOLDER)])
    finally:
        sources.write_text(own)
    inside(root, ["apt-get", "update", "-qq"])


def inside(root: Path, argv: Sequence[str]) -> None:
    """Run a command in a root that is being made."""
    environment = {**environment_in(root), "DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    run(entering(root, argv), env=environment, timeout_s=HALF_AN_HOUR_S)
