"""The network of a sandbox: one bridge, one virtual cable to each machine."""

import ipaddress
import json
from typing import Any

from commands import attempt, complaint_of, run
from failure import SandboxError
from layout import Layout, State

BRIDGE_PREFIX = "mribox"
SUBNETS = 256


def make_bridge(layout: Layout) -> tuple[str, str]:
    """Make a bridge with the host's address on it; returns its name, and the subnet it stands for.

    The kernel refuses a second link of the same name, so a name claims its subnet among starts at once. The
    hardware address carries the sandbox's tag: `remove_links` needs no notes to find the bridge.
    """
    first = int(layout.tag[:4], 16)
    for number in ((first + step) % SUBNETS for step in range(SUBNETS)):
        name, subnet = f"{BRIDGE_PREFIX}{number}", f"10.213.{number}"
        if is_in_use(subnet):
            continue
        made = attempt(["ip", "link", "add", name, "address", hardware_address(layout), "type", "bridge"])
        if made.returncode == 0:
            run(["ip", "address", "add", f"{subnet}.1/24", "dev", name])
            run(["ip", "link", "set", name, "up"])
            return name, subnet
        if "File exists" not in made.stderr:
            raise SandboxError(f"this system permits no network bridge: {complaint_of(made)}")
    raise SandboxError("no free subnet in 10.213.0.0/16: take another sandbox down")


def is_in_use(subnet: str) -> bool:
    """Tell whether the host has an address or a route inside the subnet."""
    wanted = ipaddress.ip_network(f"{subnet}.0/24")
    routes = [route["dst"] for route in json.loads(run(["ip", "-json", "-4", "route", "show"]))]
    taken = [ipaddress.ip_network(destination) for destination in routes if destination != "default"]
    return any(wanted.overlaps(network) for network in taken)


def hardware_address(layout: Layout) -> str:
    """Make a locally administered address of the sandbox's tag."""
    return ":".join(["02", *(layout.tag[i : i + 2] for i in range(0, 10, 2))])


def cable_name(state: State, machine: str) -> str:
    """Name the host's end of a machine's cable."""
    return f"{state.bridge}-{machine}"


def plug_in(state: State, machine: str, init_pid: int) -> None:
    """Give a machine its eth0, joined to the bridge; both ends appear in one step."""
    host_end = cable_name(state, machine)
    peer = ["peer", "name", "eth0", "netns", str(init_pid)]
    run(["ip", "link", "add", host_end, "up", "master", state.bridge, "type", "veth", *peer])
    inside = f"link set lo up\naddress add {state.address(machine)}/24 dev eth0\nlink set eth0 up\n"
    run(["nsenter", "--target", str(init_pid), "--net", "ip", "-batch", "-"], stdin=inside)


def unplug(state: State, machine: str) -> None:
    """Remove a machine's cable, if it is there."""
    attempt(["ip", "link", "delete", cable_name(state, machine)])


def cut_link(state: State, machine: str) -> None:
    """Cut the machine off from the others; its processes run on."""
    state.address(machine)
    run(["ip", "link", "set", cable_name(state, machine), "down"])


def heal_link(state: State, machine: str) -> None:
    """Undo `cut_link`."""
    state.address(machine)
    run(["ip", "link", "set", cable_name(state, machine), "up"])


def is_plugged_in(state: State, machine: str) -> bool:
    """Tell whether the machine's cable is there and not cut."""
    return any(link["ifname"] == cable_name(state, machine) and "UP" in link["flags"] for link in all_links())


def remove_links(layout: Layout) -> None:
    """Delete the bridges of this sandbox and every cable in them."""
    links = all_links()
    ours = [
        link["ifname"]
        for link in links
        if link["ifname"].startswith(BRIDGE_PREFIX) and link.get("address") == hardware_address(layout)
    ]
    cables = [link["ifname"] for link in links if link.get("master") in ours]
    for name in [*cables, *ours]:
        attempt(["ip", "link", "delete", name])


def all_links() -> list[dict[str, Any]]:
    """List the host's network links, as `ip` describes them."""
    return list(json.loads(run(["ip", "-json", "link", "show"])))
