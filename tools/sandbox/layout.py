"""Folders and files of a sandbox, and what identifies it."""

import dataclasses
import hashlib
import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

from failure import SandboxError
from options import Options

CONTROLLER = "ctl"
# A Unix socket's path holds 107 bytes, and slurmd adds run/NODE/NODE_JOB.STEP to the directory's.
MAX_DIR_BYTES = 70
# In Slurm's files a blank or comma ends a value, # begins a remark, % is a name to fill in, [1-3] a range.
NOT_PLAIN = re.compile(r"[\s,#%\"'\\\[\]]")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Layout:
    """The state directory of one sandbox."""

    dir: Path

    @property
    def tag(self) -> str:
        """Ten hexadecimal digits that mark what belongs to this directory: processes and network links."""
        return hashlib.sha256(str(self.dir).encode()).hexdigest()[:10]

    @property
    def state_file(self) -> Path:
        return self.dir / "state.json"

    @property
    def etc(self) -> Path:
        return self.dir / "etc"

    @property
    def slurm_conf(self) -> Path:
        return self.etc / "slurm.conf"

    @property
    def hosts_file(self) -> Path:
        return self.etc / "hosts"

    @property
    def mail_log(self) -> Path:
        """What Slurm would have mailed, a line each: subject and user."""
        return self.log_dir / "mail.log"

    @property
    def munge_key(self) -> Path:
        return self.etc / "munge.key"

    @property
    def munge_socket(self) -> Path:
        return self.dir / "munge.socket"

    @property
    def log_dir(self) -> Path:
        return self.dir / "log"

    @property
    def run_dir(self) -> Path:
        return self.dir / "run"

    @property
    def database_dir(self) -> Path:
        return self.dir / "database"

    @property
    def gpu_dir(self) -> Path:
        return self.dir / "gpus"

    @property
    def client_environment(self) -> dict[str, str]:
        """Lines that a shell needs so that Slurm's commands speak to this sandbox."""
        return {"SLURM_CONF": str(self.slurm_conf), "MRI_SANDBOX_DIR": str(self.dir)}

    def claim(self) -> None:
        """Make the directory ours; of two starts at once, one gets it."""
        if found := NOT_PLAIN.search(str(self.dir)):
            raise SandboxError(
                f"{self.dir} cannot be named in Slurm's files for its {found[0]!r}: choose another --dir"
            )
        if len(os.fsencode(self.dir)) > MAX_DIR_BYTES:
            raise SandboxError(f"{self.dir} is too long for sockets: --dir may have {MAX_DIR_BYTES} bytes")
        self.dir.mkdir(mode=0o755, parents=True, exist_ok=True)
        if not self.state_file.exists() and any(self.dir.iterdir()):
            raise SandboxError(f"{self.dir} holds other files: choose a new or empty directory with --dir")
        try:
            with self.state_file.open("x") as file:
                json.dump({"starter": os.getpid(), "began": process_began(os.getpid())}, file)
        except FileExistsError:
            raise SandboxError(f"{self.dir} holds a sandbox already: sandbox down takes it away") from None
        for folder in (self.etc, self.log_dir, self.run_dir, self.database_dir, self.gpu_dir):
            folder.mkdir()

    def remove(self) -> None:
        """Delete the directory, if it is a sandbox's or empty."""
        if not self.dir.exists():
            return
        if not self.state_file.exists() and any(self.dir.iterdir()):
            raise SandboxError(f"{self.dir} is not a sandbox's directory (no state.json): left as it is")
        shutil.rmtree(self.dir)

    def save_state(self, state: "State") -> None:
        """Publish the facts of a sandbox that is up."""
        partial = self.state_file.with_suffix(".partial")
        partial.write_text(json.dumps(state.to_json(), indent=2) + "\n")
        partial.replace(self.state_file)

    def unfinished_starter(self) -> int | None:
        """Find the process that claimed the directory and is still at work on it."""
        try:
            facts = json.loads(self.state_file.read_text())
        except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError):
            return None
        if "began" not in facts or process_began(facts["starter"]) != facts["began"]:
            return None
        return int(facts["starter"])

    @property
    def root(self) -> Path | None:
        """The root of the sandbox in this directory, where it is not the machine's own."""
        try:
            root = json.loads(self.state_file.read_text()).get("root", "/")
        except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError):
            return None
        return None if root == "/" else Path(root)

    def load_state(self) -> "State":
        """Load the facts of the sandbox in this directory; a SandboxError when there is none."""
        try:
            facts = json.loads(self.state_file.read_text())
        except (FileNotFoundError, NotADirectoryError, json.JSONDecodeError):
            raise SandboxError(f"no sandbox in {self.dir}: start one with sandbox up") from None
        if "bridge" not in facts:
            raise SandboxError(f"the sandbox in {self.dir} did not come up: clear it with sandbox down")
        return State.from_json(facts)


@dataclasses.dataclass(frozen=True, kw_only=True)
class State:
    """Facts that a sandbox chose when it came up."""

    bridge: str
    """The bridge that joins the machines; its number is the subnet's."""
    subnet: str
    """The first three numbers of every address."""
    options: Options
    root: str = "/"
    """The folder whose programs it runs: those of this machine, or another distribution's."""
    clusters: tuple[str, ...] = ()
    """Further clusters in the same books, each of one machine of that name: its controller, and its node."""

    @property
    def has_own_root(self) -> bool:
        return self.root != "/"

    @property
    def host_address(self) -> str:
        return f"{self.subnet}.1"

    @property
    def addresses(self) -> dict[str, str]:
        """Machine name -> address: the controller and every node."""
        nodes = {name: f"{self.subnet}.{10 + i}" for i, name in enumerate(self.options.node_names, start=1)}
        others = {name: f"{self.subnet}.{100 + i}" for i, name in enumerate(self.clusters, start=1)}
        return {CONTROLLER: f"{self.subnet}.2", **nodes, **others}

    def address(self, machine: str) -> str:
        """Return a machine's address; a SandboxError naming the choices when it is unknown."""
        if machine not in self.addresses:
            raise SandboxError(f"no machine named {machine}: choose from {', '.join(self.addresses)}")
        return self.addresses[machine]

    def to_json(self) -> dict[str, Any]:
        return {**dataclasses.asdict(self), "addresses": self.addresses}

    @classmethod
    def from_json(cls, facts: dict[str, Any]) -> "State":
        return cls(
            bridge=facts["bridge"],
            subnet=facts["subnet"],
            options=Options(**facts["options"]),
            root=facts["root"],
            clusters=tuple(facts["clusters"]),
        )


def process_began(pid: int) -> str | None:
    """Return a process's start, in ticks since boot; with its id, that names it for good. None: gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return stat.rpartition(")")[2].split()[19]
