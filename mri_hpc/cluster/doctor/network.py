"""The interfaces of this machine, by which ranks on several nodes find one another."""

import socket
from collections.abc import Iterator

from mri_hpc.base import network
from mri_hpc.cluster.doctor.finding import Check, Finding, Site, fine, note

VARIABLES = ("NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME")


def look(site: Site) -> Iterator[Finding]:
    """Look at this machine's interfaces; no message is sent."""
    name = socket.gethostname()
    present = [interface for _number, interface in socket.if_nameindex() if interface != "lo"]
    found = network.interfaces_in_words()
    yield fine(f"{name} has the interfaces {found}; ranks on several nodes meet by such, and need no name")
    for variable in VARIABLES:
        wanted = site.environment.get(variable, "")
        names = [word for word in wanted.lstrip("=^").split(",") if word]
        missing = [word for word in names if not any(one.startswith(word) for one in present)]
        if missing and not wanted.startswith("^"):
            yield note(
                f"{variable}={wanted} names no interface of this machine ({', '.join(present)}): nodes may "
                f"have others",
                f"unset {variable}, or name one that `ip -brief address` shows on a node",
            )


CHECK = Check(name="network", title="Names and network", look=look)
