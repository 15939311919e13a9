"""A further cluster beside the sandbox's own: one machine, controller and node at once, in the same books.

On that machine the folder of Slurm's files is its own, by the same name: a job finds its own cluster there,
as on a site where each cluster has its /etc/slurm.
"""

import dataclasses
import re
import shutil

import daemons
import machine
import network
from commands import attempt, run, wait_until
from failure import SandboxError
from layout import Layout, State
from slurm_files import hosts, node_line, partition_line, slurm_conf

# The name of a network link has fifteen letters, and a bridge takes ten.
NAME = re.compile("[a-z]{2,5}")


def add_cluster(layout: Layout, name: str) -> None:
    """Start a cluster of this name; return when its node can take jobs."""
    before = layout.load_state()
    if not NAME.fullmatch(name) or name in before.addresses:
        raise SandboxError(f"a cluster is named by two to five letters that no machine has, not {name}")
    if not before.options.has_accounting:
        raise SandboxError("clusters find each other by slurmdbd: sandbox up --accounting slurmdbd")
    state = dataclasses.replace(before, clusters=(*before.clusters, name))
    # In place: the machines have this very file mounted.
    layout.hosts_file.write_text(hosts(state))
    own = layout.dir / f"etc-{name}"
    shutil.copytree(layout.etc, own)
    (own / "slurm.conf").write_text(further_conf(layout, state, name))
    pid = machine.start_machine(layout, name)
    network.plug_in(state, name, pid)
    machine.run_inside(pid, ["mount", "--bind", str(own), str(layout.etc)])
    run(["sacctmgr", "--immediate", "add", "cluster", name], env=daemons.client_env(layout))
    for daemon in ("slurmctld", "slurmd"):
        daemons.start_daemon(layout, name, [daemon])
    wait_until(lambda: is_ready(layout, name), what=f"cluster {name}", timeout_s=daemons.PATIENCE_S)
    layout.save_state(state)


def further_conf(layout: Layout, state: State, name: str) -> str:
    """Write its slurm.conf: that of the sandbox, with a controller, a node and a partition of its own."""
    own = {
        "ClusterName": name,
        "SlurmctldHost": f"{name}({state.address(name)})",
        "StateSaveLocation": f"{layout.run_dir}/slurmctld-{name}",
        "SlurmctldPidFile": f"{layout.run_dir}/slurmctld-{name}.pid",
        "SlurmctldLogFile": f"{layout.log_dir}/slurmctld-{name}.log",
    }
    shared = [
        line
        for line in slurm_conf(layout, state).splitlines()
        if line.partition("=")[0] not in {*own, "NodeName", "PartitionName"}
    ]
    lines = [*(f"{key}={value}" for key, value in own.items()), *shared, node_line(state, name)]
    lines.append(partition_line("only", tier=1, is_default=True, is_shared=False))
    return "\n".join(lines) + "\n"


def is_ready(layout: Layout, name: str) -> bool:
    """Tell whether the books lead to its controller, and that has its node."""
    question = ["sinfo", f"--clusters={name}", "--noheader", "--Node", "--format=%N %T"]
    asked = attempt(question, env=daemons.client_env(layout), timeout_s=daemons.LOOK_S)
    return any(f"{name} {state}" in asked.stdout for state in daemons.NODE_STATES_IN_ORDER)
