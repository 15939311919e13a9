"""A sandbox's life: up, status, events, down."""

import dataclasses
import os
import signal
import sys
from pathlib import Path
from typing import Any

import daemons
import machine
import network
from failure import SandboxError
from layout import Layout, State
from options import Options
from slurm_files import write_files, write_slurm_conf


def check_host(options: Options) -> None:
    """Refuse, with the reason, where no sandbox can run."""
    if os.geteuid() != 0:
        raise SandboxError("namespaces and bridges need root: run it again with sudo")
    daemons.check_installed(has_accounting=options.has_accounting)
    machine.check_permitted()


def bring_up(layout: Layout, options: Options, *, root: str = "/") -> State:
    """Start a cluster, or nothing at all and the reason. root: what `/` is called by those outside of it."""
    check_host(options)
    layout.claim()
    try:
        bridge, subnet = network.make_bridge(layout)
        state = State(bridge=bridge, subnet=subnet, options=options, root=root)
        write_files(layout, state)
        for name in state.addresses:
            switch_on(layout, state, name)
        daemons.start_munged(layout)
        state = start_accounting(layout, state)
        daemons.start_slurmctld(layout)
        for node in options.node_names:
            daemons.start_slurmd(layout, node)
        daemons.wait_for_nodes(layout, options.node_names)
        layout.save_state(state)
    except BaseException:
        # A second Ctrl-C must not leave half of it behind.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        clear_away(layout)
        raise
    return state


def start_accounting(layout: Layout, state: State) -> State:
    """Start what keeps the books, and return the state with what came of it: slurmdbd, or none."""
    if not state.options.has_accounting:
        return state
    accounting = "slurmdbd"
    try:
        daemons.start_database(layout)
        daemons.start_slurmdbd(layout)
    except SandboxError as error:
        if state.options.accounting == accounting:
            raise SandboxError(
                f"{error}; without accounting it comes up: sandbox up --accounting none"
            ) from None
        print(f"sandbox: without accounting, for slurmdbd cannot start: {error}", file=sys.stderr)
        accounting = "none"
    state = dataclasses.replace(state, options=dataclasses.replace(state.options, accounting=accounting))
    write_slurm_conf(layout, state)
    return state


def switch_on(layout: Layout, state: State, name: str) -> None:
    """Start a machine with its network."""
    network.plug_in(state, name, machine.start_machine(layout, name))


def take_down(layout: Layout) -> bool:
    """Leave nothing of the sandbox; False when there was nothing."""
    if os.geteuid() != 0:
        raise SandboxError("a sandbox belongs to root: run it again with sudo")
    starter = layout.unfinished_starter()
    if starter:
        raise SandboxError(f"process {starter} is bringing it up just now: wait for it, or kill {starter}")
    was_there = layout.dir.exists() or any(machine.processes_of(layout))
    clear_away(layout)
    return was_there


def clear_away(layout: Layout) -> None:
    """Remove processes first, so that nothing writes into what is deleted after them."""
    machine.kill_machines(layout)
    network.remove_links(layout)
    layout.remove()


@dataclasses.dataclass(frozen=True, kw_only=True)
class Status:
    """The daemons that answer, and those that do not."""

    dir: Path
    daemons: dict[str, bool]
    nodes: dict[str, dict[str, Any]]
    partitions: dict[str, str]
    accounting: str
    """slurmdbd or none."""

    @property
    def is_healthy(self) -> bool:
        nodes = all(node["in_order"] for node in self.nodes.values())
        partitions = bool(self.partitions) and all(state == "up" for state in self.partitions.values())
        return all(self.daemons.values()) and nodes and partitions

    def to_json(self) -> dict[str, Any]:
        return {**dataclasses.asdict(self), "dir": str(self.dir), "healthy": self.is_healthy}


def look(layout: Layout) -> Status:
    """Ask every daemon for the sandbox's state."""
    state = layout.load_state()
    states = daemons.node_states(layout)
    answers = {"munged": daemons.munged_answers(layout), "slurmctld": daemons.slurmctld_answers(layout)}
    if state.options.has_accounting:
        answers["database"] = daemons.database_answers(layout)
        answers["slurmdbd"] = daemons.slurmdbd_answers(layout)
    nodes = {
        name: {
            "state": states.get(name, "unknown"),
            "address": state.address(name),
            "on": machine.is_on(layout, name),
            "linked": network.is_plugged_in(state, name),
            "in_order": states.get(name) in daemons.NODE_STATES_IN_ORDER,
        }
        for name in state.options.node_names
    }
    return Status(
        dir=layout.dir,
        daemons=answers,
        nodes=nodes,
        partitions=daemons.partitions(layout),
        accounting=state.options.accounting,
    )


def kill_node(layout: Layout, name: str) -> None:
    """Cut the power: everything on the node is gone at once, without a word to anyone."""
    state = node_of(layout, name)
    machine.kill_machines(layout, name)
    network.unplug(state, name)


def start_node(layout: Layout, name: str) -> None:
    """Switch a killed node on again; Slurm takes it back by itself."""
    state = node_of(layout, name)
    if machine.is_on(layout, name):
        raise SandboxError(f"{name} is on already")
    switch_on(layout, state, name)
    daemons.start_slurmd(layout, name)


def node_of(layout: Layout, name: str) -> State:
    """Load the state of a sandbox that has this node."""
    state = layout.load_state()
    state.address(name)
    if name not in state.options.node_names:
        raise SandboxError(f"{name} is a controller, not a node: try restart-controller or cut-link")
    return state


def restart_controller(layout: Layout) -> None:
    """Stop slurmctld and start it again with the state it saved; return when every living node is back."""
    state = layout.load_state()
    daemons.stop_slurmctld(layout)
    daemons.start_slurmctld(layout)
    daemons.wait_for_nodes(
        layout,
        [
            name
            for name in state.options.node_names
            if machine.is_on(layout, name) and network.is_plugged_in(state, name)
        ],
    )
