"""Slurm's daemons and what they lean on: start each one, and wait until it answers."""

import shutil
import socket
from collections.abc import Mapping
from pathlib import Path

from commands import CLEAN_ENVIRONMENT, attempt, complaint_of, run, wait_until
from failure import SandboxError
from layout import CONTROLLER, Layout
from machine import entering, init_pid, last_line, run_inside
from slurm_files import CLUSTER, DATABASE_PORT

PACKAGES = {
    "slurmctld": "slurmctld",
    "slurmd": "slurmd",
    "sbatch": "slurm-client",
    "munged": "munge",
    "slurmdbd": "slurmdbd",
    "mariadbd": "mariadb-server-core",
    "ip": "iproute2",
    "unshare": "util-linux",
    "mount": "mount",
}
FOR_ACCOUNTING = ("slurmdbd", "mariadbd")
SYSTEM_TABLES = (
    Path("/usr/share/mysql/mysql_system_tables.sql"),
    # Since MariaDB 11.
    Path("/usr/share/mariadb/mariadb_system_tables.sql"),
)
# Of a root whose own release's library ends slurmdbd at its first query (Debian 13 and later).
OLDER_LIBRARY_FOLDER = Path("/opt/older-libmariadb")
NODE_STATES_IN_ORDER = ("idle", "mixed", "allocated", "completing")
PATIENCE_S = 120
# A client of Slurm asks a silent controller for 18 s before it gives up.
LOOK_S = 5.0


def check_installed(*, has_accounting: bool) -> None:
    """Refuse, with the line to type, where a program is missing."""
    unused = () if has_accounting else FOR_ACCOUNTING
    missing = {
        package
        for program, package in PACKAGES.items()
        if program not in unused and not find_program(program)
    }
    if missing:
        raise SandboxError(f"programs are missing: apt-get install -y {' '.join(sorted(missing))}")


def find_program(name: str) -> str | None:
    """Find a program, also for users whose PATH leaves out the administrator's folders."""
    return shutil.which(name, path=CLEAN_ENVIRONMENT["PATH"])


def start_munged(layout: Layout) -> None:
    """Start the daemon that signs who sends a message. All machines reach its socket by the file system."""
    logs = [f"--log-file={layout.log_dir}/munged.log", f"--pid-file={layout.run_dir}/munged.pid"]
    seed = f"--seed-file={layout.run_dir}/munged.seed"
    keys = [f"--key-file={layout.munge_key}", f"--socket={layout.munge_socket}"]
    run_inside(init_pid(layout, CONTROLLER), ["munged", "--force", *keys, *logs, seed])
    wait_until(lambda: munged_answers(layout), what="munged's answer", timeout_s=PATIENCE_S)


def start_database(layout: Layout) -> None:
    """Start an empty MariaDB on the controller's own 127.0.0.1."""
    pid = init_pid(layout, CONTROLLER)
    socket_path = layout.run_dir / "database.socket"
    settings = [
        "--no-defaults",
        "--user=root",
        f"--datadir={layout.database_dir}",
        # Temporary tables are named by process ids, which repeat from sandbox to sandbox.
        f"--tmpdir={layout.run_dir}",
        "--skip-grant-tables",
        "--innodb-buffer-pool-size=64M",
        "--innodb-log-file-size=16M",
        # What a crash could lose is thrown away anyhow.
        "--innodb-flush-log-at-trx-commit=0",
        f"--log-error={layout.log_dir}/database.log",
    ]
    tables = f"create database mysql;\nuse mysql;\n{system_tables().read_text()}"
    run_inside(pid, ["mariadbd", *settings, "--bootstrap"], stdin=tables)
    addresses = [f"--socket={socket_path}", "--bind-address=127.0.0.1", f"--port={DATABASE_PORT}"]
    daemon = ["setsid", "--fork", "mariadbd", *settings, *addresses]
    # The shell only lets go of our pipes, which the daemon would otherwise hold open.
    run_inside(pid, ["sh", "-c", 'exec "$@" </dev/null >/dev/null 2>&1', "sh", *daemon])
    wait_until(
        lambda: can_connect(socket_path),
        what="the database's answer",
        timeout_s=PATIENCE_S,
    )


def system_tables() -> Path:
    """Find the script that makes a database's own tables; a SandboxError where MariaDB brings none."""
    found = [path for path in SYSTEM_TABLES if path.is_file()]
    if not found:
        places = " or ".join(map(str, SYSTEM_TABLES))
        raise SandboxError(f"MariaDB's tables are not in {places}")
    return found[0]


def start_slurmdbd(layout: Layout) -> None:
    """Start the accounting daemon, with our cluster in its books."""
    library = older_library()
    env = {"LD_LIBRARY_PATH": str(library)} if library else {}
    start_daemon(layout, CONTROLLER, ["slurmdbd"], env=env)
    wait_for(layout, ["sacctmgr", "--noheader", "list", "cluster"], daemon="slurmdbd")
    run(["sacctmgr", "--immediate", "add", "cluster", CLUSTER], env=client_env(layout))


def older_library() -> Path | None:
    """Find the database's library of an older release, which a root has beside its own."""
    return next((file.parent for file in OLDER_LIBRARY_FOLDER.glob("usr/lib/*/libmariadb.so.3")), None)


def start_slurmctld(layout: Layout) -> None:
    """Start the controller."""
    start_daemon(layout, CONTROLLER, ["slurmctld"])
    wait_for(layout, ["scontrol", "ping"], daemon="slurmctld")


def stop_slurmctld(layout: Layout) -> None:
    """Let the controller save its state and go, if it runs."""
    pid_file = layout.run_dir / "slurmctld.pid"
    if not pid_file.exists():
        return
    controller = init_pid(layout, CONTROLLER)
    number = pid_file.read_text().strip()
    run_inside(controller, ["kill", number])
    is_gone = [*entering(controller), "test", "!", "-e", f"/proc/{number}"]
    wait_until(lambda: attempt(is_gone).returncode == 0, what="the controller's end", timeout_s=PATIENCE_S)
    # The next one is not to be taken for gone before it has written its own.
    pid_file.unlink(missing_ok=True)


def start_slurmd(layout: Layout, node: str) -> None:
    """Start a node's daemon. The machine's own host name tells it which node it is."""
    start_daemon(layout, node, ["slurmd"])


def start_daemon(
    layout: Layout, machine: str, argv: list[str], *, env: Mapping[str, str] | None = None
) -> None:
    """Start a daemon of Slurm that puts itself into the background."""
    run_inside(init_pid(layout, machine), argv, env={**layout.client_environment, **(env or {})})


def has_ended(layout: Layout, daemon: str) -> bool:
    """Tell whether a daemon of Slurm that was started on the controller is gone."""
    try:
        number = (layout.run_dir / f"{daemon}.pid").read_text().strip()
    except FileNotFoundError:
        return False
    is_gone = [*entering(init_pid(layout, CONTROLLER)), "test", "!", "-e", f"/proc/{number}"]
    return attempt(is_gone).returncode == 0


def wait_for_nodes(layout: Layout, names: list[str]) -> None:
    """Return when these nodes can take jobs; a SandboxError with a silent one's last words otherwise."""

    def not_in_order() -> list[str]:
        states = node_states(layout)
        return [name for name in names if states.get(name) not in NODE_STATES_IN_ORDER]

    try:
        wait_until(lambda: not not_in_order(), what="the nodes' registration", timeout_s=PATIENCE_S)
    except SandboxError as error:
        name = (not_in_order() or names)[0]
        raise SandboxError(
            f"{error}; {name} said: {last_line(layout.log_dir / f'slurmd-{name}.log')}"
        ) from None


def wait_for(layout: Layout, question: list[str], *, daemon: str) -> None:
    """Ask a daemon of Slurm until it answers; a SandboxError with both sides' last words if it never will."""
    complaint, answered = "", False

    def is_settled() -> bool:
        nonlocal complaint, answered
        result = attempt(question, env=client_env(layout))
        complaint, answered = complaint_of(result), result.returncode == 0
        return answered or has_ended(layout, daemon)

    try:
        wait_until(is_settled, what=f"{daemon}'s answer", timeout_s=PATIENCE_S)
        found = f"{daemon} has ended"
    except SandboxError as error:
        found = str(error)
    if not answered:
        log = last_line(layout.log_dir / f"{daemon}.log")
        raise SandboxError(f"{found}; `{' '.join(question)}` said: {complaint}; {daemon} said: {log}")


def client_env(layout: Layout) -> dict[str, str]:
    """Return the environment in which Slurm's commands speak to this sandbox."""
    return {**CLEAN_ENVIRONMENT, **layout.client_environment}


def munged_answers(layout: Layout) -> bool:
    return attempt(["munge", f"--socket={layout.munge_socket}", "--no-input"]).returncode == 0


def database_answers(layout: Layout) -> bool:
    return can_connect(layout.run_dir / "database.socket")


def slurmdbd_answers(layout: Layout) -> bool:
    return attempt(["sacct", "--noheader"], env=client_env(layout), timeout_s=LOOK_S).returncode == 0


def slurmctld_answers(layout: Layout) -> bool:
    return attempt(["scontrol", "ping"], env=client_env(layout), timeout_s=LOOK_S).returncode == 0


def node_states(layout: Layout) -> dict[str, str]:
    """Map node to state as sinfo names it (idle, mixed, down*, ...); empty while the controller is silent."""
    return pairs(layout, ["sinfo", "--noheader", "--Node", "--format=%N %T"])


def partitions(layout: Layout) -> dict[str, str]:
    """Map partition to up or down."""
    return pairs(layout, ["sinfo", "--noheader", "--format=%R %a"])


def pairs(layout: Layout, question: list[str]) -> dict[str, str]:
    """Return an answer of two columns; empty when none comes."""
    answer = attempt(question, env=client_env(layout), timeout_s=LOOK_S)
    return dict(line.split() for line in answer.stdout.splitlines())


def can_connect(path: Path) -> bool:
    """Tell whether something listens on a Unix socket."""
    with socket.socket(socket.AF_UNIX) as client:
        try:
            client.connect(str(path))
        except OSError:
            return False
    return True
