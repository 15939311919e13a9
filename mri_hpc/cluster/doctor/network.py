"""The name and interfaces of this machine, by which ranks on several nodes find one another."""

import socket
from collections.abc import Iterator

from mri_hpc.cluster.doctor.finding import Check, Finding, Site, fine, note
from mri_hpc.cluster.slurm import own_job_id

VARIABLES = ("NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME")


def look(site: Site) -> Iterator[Finding]:
    """Look at this machine's name and interfaces; no message is sent."""
    name = socket.gethostname()
    present = [interface for _number, interface in socket.if_nameindex() if interface != "lo"]
    try:
        address = str(socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)[0][4][0])
    except OSError as error:
        yield note(
            f"this machine's own name, {name}, does not resolve ({error.strerror}): on nodes like it, ranks "
            f"on several nodes would not meet",
            "ask your cluster's help desk; one node needs no name",
        )
    else:
        if address.startswith("127.") and own_job_id(site.environment):
            yield note(
                f"on this node its own name, {name}, is {address}: ranks of other nodes would not find it",
                "ask your cluster's help desk; one node needs no name",
            )
        yield fine(f"{name} is {address}; interfaces: {', '.join(present) or 'none but loopback'}")
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
