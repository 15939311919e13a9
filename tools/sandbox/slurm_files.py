"""The files that Slurm reads, as text."""

import os
import socket
import stat

from layout import CONTROLLER, Layout, State

CLUSTER = "sandbox"
DATABASE_PORT = 3306
MAILER = "mail"
# Slurm takes only character devices for GPUs: each pretended one is another name of /dev/null.
NULL_DEVICE = os.makedev(1, 3)


def write_files(layout: Layout, state: State) -> None:
    """Write everything below DIR/etc, and the pretended GPUs."""
    write_slurm_conf(layout, state)
    files = {
        "gres.conf": gres_conf(layout, state),
        "cgroup.conf": "CgroupPlugin=cgroup/v1\n",
        "slurmdbd.conf": slurmdbd_conf(layout),
        "hosts": hosts(state),
        "empty": "",
    }
    for name, text in files.items():
        (layout.etc / name).write_text(text)
    mailer = layout.etc / MAILER
    mailer.write_text(f'#!/bin/sh\necho "$2|$3" >> {layout.mail_log}\n')
    mailer.chmod(0o755)
    # slurmdbd refuses to start when others may read its file.
    (layout.etc / "slurmdbd.conf").chmod(0o600)
    layout.munge_key.touch(mode=0o600)
    layout.munge_key.write_bytes(os.urandom(1024))
    for number in range(state.options.gpus_per_node):
        os.mknod(layout.gpu_dir / f"gpu{number}", stat.S_IFCHR | 0o666, NULL_DEVICE)


def write_slurm_conf(layout: Layout, state: State) -> None:
    """Write the file that Slurm's daemons and commands read."""
    (layout.etc / "slurm.conf").write_text(slurm_conf(layout, state))


def slurm_conf(layout: Layout, state: State) -> str:
    """Write slurm.conf; every path is absolute because slurmctld changes its directory."""
    options = state.options
    # A requeued job waits until its old credential has expired, and one second more.
    cred_expire_s = options.requeue_delay_s - 1
    gang = options.preempt_mode == "suspend"
    # The older name; newer Slurms know it still.
    wanted = {
        "preempt_send_user_signal": options.send_user_signal,
        "enable_expedited_requeue": options.expedited_requeue,
    }
    parameters = ",".join(name for name, is_wanted in wanted.items() if is_wanted)
    # By looking every second: where there are no cgroups, the kernel does not.
    memory_watch = ["JobAcctGatherFrequency=task=1", "JobAcctGatherParams=OverMemoryKill"]
    memory_watch = memory_watch if options.enforce_memory else []
    lines = [
        f"ClusterName={CLUSTER}",
        f"SlurmctldHost={CONTROLLER}({state.address(CONTROLLER)})",
        "SlurmUser=root",
        "SlurmdUser=root",
        "AuthType=auth/munge",
        f"AuthInfo=socket={layout.munge_socket},cred_expire={cred_expire_s}",
        f"StateSaveLocation={layout.run_dir}/slurmctld",
        f"SlurmdSpoolDir={layout.run_dir}/%n",
        f"SlurmctldPidFile={layout.run_dir}/slurmctld.pid",
        f"SlurmdPidFile={layout.run_dir}/slurmd-%n.pid",
        f"SlurmctldLogFile={layout.log_dir}/slurmctld.log",
        f"SlurmdLogFile={layout.log_dir}/slurmd-%n.log",
        "MpiDefault=none",
        "SwitchType=switch/none",
        f"MailProg={layout.etc}/{MAILER}",
        # No cgroups: they would outlive the sandbox, and a pretended machine may not have them.
        "ProctrackType=proctrack/linuxproc",
        "TaskPlugin=task/none",
        "JobAcctGatherType=jobacct_gather/linux",
        *memory_watch,
        # Without it a node that claims more CPUs than the host has goes to the state "inval".
        "SlurmdParameters=config_overrides",
        "ReturnToService=2",
        f"KillWait={options.kill_wait_s}",
        f"SlurmdTimeout={options.slurmd_timeout_s}",
        "SchedulerType=sched/backfill",
        "SchedulerParameters=sched_interval=2,sched_min_interval=0,bf_interval=5,batch_sched_delay=0",
        "SelectType=select/cons_tres",
        "SelectTypeParameters=CR_Core_Memory",
        f"DefMemPerCPU={max(1, options.memory_per_node_mb // options.cpus_per_node // 4)}",
        *preemption(options.preempt_mode),
        *([f"SlurmctldParameters={parameters}"] if parameters else []),
        *accounting(layout, state),
        *(["GresTypes=gpu"] if options.gpus_per_node else []),
        *(node_line(state, name) for name in options.node_names),
        partition_line("low", tier=1, is_default=True, is_shared=gang) + f" GraceTime={options.grace_time_s}",
        partition_line("high", tier=10, is_default=False, is_shared=gang) + " PreemptMode=OFF",
    ]
    return "\n".join(lines) + "\n"


def accounting(layout: Layout, state: State) -> list[str]:
    """Write the lines on what is kept of jobs that are over."""
    if not state.options.has_accounting:
        return ["AccountingStorageType=accounting_storage/none"]
    return [
        "AccountingStorageType=accounting_storage/slurmdbd",
        f"AccountingStorageHost={state.address(CONTROLLER)}",
        f"AccountingStoragePass={layout.munge_socket}",
        *(["AccountingStorageTRES=gres/gpu"] if state.options.gpus_per_node else []),
    ]


def preemption(mode: str) -> list[str]:
    """Write the lines on preemption: a partition of a higher tier pushes out jobs of a lower one."""
    if mode == "off":
        return []
    modes = "SUSPEND,GANG" if mode == "suspend" else mode.upper()
    return ["PreemptType=preempt/partition_prio", f"PreemptMode={modes}"]


def node_line(state: State, name: str) -> str:
    """Write one node of slurm.conf."""
    options = state.options
    gpus = f" Gres=gpu:{options.gpus_per_node}" if options.gpus_per_node else ""
    size = f"CPUs={options.cpus_per_node} RealMemory={options.memory_per_node_mb}"
    return f"NodeName={name} NodeAddr={state.address(name)} {size}{gpus} State=UNKNOWN"


def partition_line(name: str, *, tier: int, is_default: bool, is_shared: bool) -> str:
    """Write one partition over all nodes; running jobs share nodes with suspended ones only where forced."""
    sharing = "FORCE:1" if is_shared else "NO"
    default = "YES" if is_default else "NO"
    limits = "DefaultTime=01:00:00 MaxTime=1-00:00:00"
    rank = f"Default={default} PriorityTier={tier} OverSubscribe={sharing}"
    return f"PartitionName={name} Nodes=ALL {rank} {limits}"


def gres_conf(layout: Layout, state: State) -> str:
    """Write the pretended GPUs: devices whose last digits become the indices in CUDA_VISIBLE_DEVICES."""
    count = state.options.gpus_per_node
    if count == 0:
        return "AutoDetect=off\n"
    files = f"{layout.gpu_dir}/gpu[0-{count - 1}]" if count > 1 else f"{layout.gpu_dir}/gpu0"
    return f"AutoDetect=off\nName=gpu Count={count} File={files}\n"


def slurmdbd_conf(layout: Layout) -> str:
    """Write the settings of the accounting daemon, with its database beside it on the controller."""
    lines = [
        f"DbdHost={CONTROLLER}",
        "SlurmUser=root",
        "AuthType=auth/munge",
        f"AuthInfo=socket={layout.munge_socket}",
        f"PidFile={layout.run_dir}/slurmdbd.pid",
        f"LogFile={layout.log_dir}/slurmdbd.log",
        "StorageType=accounting_storage/mysql",
        "StorageHost=127.0.0.1",
        f"StoragePort={DATABASE_PORT}",
        "StorageUser=root",
    ]
    return "\n".join(lines) + "\n"


def hosts(state: State) -> str:
    """Write /etc/hosts of every machine: all machines, and the host under its own name."""
    entries = ["127.0.0.1 localhost", "::1 localhost", f"{state.host_address} {socket.gethostname()}"]
    entries += [f"{address} {name}" for name, address in state.addresses.items()]
    return "\n".join(entries) + "\n"
