"""A cluster as somebody else has set it up, on a sandbox, and a user on it who knows nothing of ours.

Partitions have other names and none is the default, a job must name its account, memory is counted by core,
nodes reach each other on few ports, and a user's home folder is on the login node alone.
"""

import contextlib
import os
import pwd
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.harness import sites
from tests.harness.cluster import Slurm

ROOT = Path(__file__).resolve().parents[2]
USER = "games"
"""A user whom every Debian has, and who is not root."""
ACCOUNT = "chem2041"
PARTITIONS = {"low": "std", "high": "accel"}
PORTS = (50000, 50099)
SANDBOX = ("--gpus-per-node", 0, "--kill-wait", 10, "--accounting", "slurmdbd")
"""Options of the sandbox."""
# As sites write it: whoever names no account is refused, whatever the books would take.
NEEDS_ACCOUNT = """
function slurm_job_submit(job, partitions, uid)
    if job.account == nil then
        slurm.log_user("Please specify your project with --account")
        return slurm.ERROR
    end
    return slurm.SUCCESS
end
function slurm_job_modify(job, record, partitions, uid)
    return slurm.SUCCESS
end
"""


@dataclass(frozen=True, kw_only=True)
class ForeignSite:
    """The site, and its user's shell."""

    folder: Path
    """Of all users: home folders, and projects."""
    slurm: Slurm
    exported: dict[str, str] = field(default_factory=dict)
    """Variables that the user has set so far, as in site.env."""
    for_launch: list[str] = field(default_factory=list)
    """Options of launch that the user was told to type."""

    @property
    def home(self) -> Path:
        """The user's home folder, on the login node."""
        return self.folder / "home" / USER

    @property
    def project(self) -> Path:
        """A folder of the user's that all nodes see."""
        return self.folder / "project" / USER

    @property
    def clone(self) -> Path:
        """The clone."""
        return self.project / "mri_hpc"

    def types(self, *words: object, timeout_s: float = 900) -> subprocess.CompletedProcess[str]:
        """Have the user type a command in the clone."""
        shell = {
            "HOME": str(self.home),
            "USER": USER,
            "OMP_NUM_THREADS": "1",
            "LANG": "C.UTF-8",
            "PATH": f"{self.clone}/.venv/bin:/usr/local/bin:/usr/bin:/bin",
            "SLURM_CONF": self.slurm.env["SLURM_CONF"],
            **self.exported,
        }
        return subprocess.run(
            _as_user(words), env=shell, cwd=self.clone, capture_output=True, text=True, timeout=timeout_s,
            check=False,
        )  # fmt: skip

    def does(self, told: str) -> bool:
        """Do as a line of doctor's says: a variable, or an option of launch; whether it says either."""
        variable = re.match(r"export (\w+)=(\S+?)(?:,|$)", told)
        if variable:
            # The one thing that a reader has to make up: where the project's folder is.
            self.exported[variable[1]] = variable[2].replace("/project/folder", str(self.project))
            return True
        option = re.match(r"launch (--[\w-]+) ([^\s,]+)", told)
        if option and option[1] not in self.for_launch:
            self.for_launch.extend(option.groups())
        return option is not None


@contextlib.contextmanager
def foreign_site(slurm: Slurm, folder: Path) -> Iterator[ForeignSite]:
    """Make a foreign site of a sandbox, with a user who has an account and a clone, and nothing else."""
    site = ForeignSite(folder=folder, slurm=slurm)
    for place in (site.home, site.project):
        place.mkdir(parents=True)
        shutil.chown(place, USER, USER)
    _set_up(slurm)
    slurm.run(["sacctmgr", "--immediate", "add", "account", ACCOUNT, "Cluster=sandbox"])
    slurm.run(["sacctmgr", "--immediate", "add", "user", USER, f"Account={ACCOUNT}"])
    with contextlib.ExitStack() as stack:
        for node in ("n1", "n2", "n3", "n4"):
            stack.enter_context(sites.without_folder(slurm, node, folder / "home"))
            stack.enter_context(sites.few_ports(slurm, node, *PORTS))
        _clone(site)
        yield site


def _set_up(slurm: Slurm) -> None:
    etc = slurm.dir / "etc"
    (etc / "job_submit.lua").write_text(NEEDS_ACCOUNT)
    text = (etc / "slurm.conf").read_text()
    for ours, theirs in PARTITIONS.items():
        text = text.replace(f"PartitionName={ours} ", f"PartitionName={theirs} ")
    text = text.replace("Default=YES", "Default=NO").replace(
        "DefMemPerCPU=", "MaxMemPerCPU=4000\nDefMemPerCPU="
    )
    text += "JobSubmitPlugins=lua\nAccountingStorageEnforce=associations,limits\n"
    text += f"SrunPortRange={PORTS[0]}-{PORTS[1]}\n"
    (etc / "slurm.conf").write_text(text)
    slurm.sandbox("restart-controller")


def _clone(site: ForeignSite) -> None:
    """Clone this repository; its environment has what is installed here: nothing is downloaded."""
    subprocess.run(["git", "clone", "--quiet", f"file://{ROOT}", site.clone], check=True)
    # What is not committed yet counts, too.
    for name in ("mri_hpc", "hpc", "tools"):
        shutil.copytree(ROOT / name, site.clone / name, dirs_exist_ok=True)
    subprocess.run([_python(), "-m", "venv", "--without-pip", site.clone / ".venv"], check=True)
    [packages] = (site.clone / ".venv" / "lib").glob("python*/site-packages")
    installed = [path for path in sys.path if path.endswith("site-packages")]
    (packages / "here.pth").write_text("\n".join([*installed, str(site.clone)]) + "\n")
    command = site.clone / ".venv" / "bin" / "mri-hpc"
    command.write_text(
        f"#!{site.clone}/.venv/bin/python\nimport sys\nfrom mri_hpc.__main__ import main\nsys.exit(main())\n"
    )
    command.chmod(0o755)
    user = pwd.getpwnam(USER)
    for path in [site.clone, *site.clone.rglob("*")]:
        os.chown(path, user.pw_uid, user.pw_gid, follow_symlinks=False)


def _python() -> str:
    """Return a python of this version that the user may run: ours may lie in root's home folder."""
    number = f"{sys.version_info.major}.{sys.version_info.minor}"
    for path in map(Path, (os.path.realpath(sys.executable), f"/usr/bin/python{number}")):
        if path.exists() and all(folder.stat().st_mode & 0o001 for folder in path.parents):
            return str(path)
    raise AssertionError(f"{USER} may run no python {number} here")


def _as_user(words: Sequence[object]) -> list[str]:
    return ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", *map(str, words)]
