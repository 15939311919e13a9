"""Settings of NCCL that --deterministic pins, as a set: sums over ranks are then taken in one way.

Left to itself, NCCL chooses among algorithms, protocols, numbers of channels and paths by the size of a
message, by its version, and by how the GPUs of these nodes are wired. What is pinned holds for the exchange
of gradients; the order of ranks in its tree still follows the wiring, and so does which GPU is which rank.
"""

import logging
from collections.abc import Mapping, MutableMapping

from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.manifests import newest_manifest

PINNED = {
    "NCCL_ALGO": "allreduce:tree",
    "NCCL_PROTO": "Simple",
    # Several channels cut a message into parts, and the parts are summed up along other paths.
    "NCCL_MIN_NCHANNELS": "1",
    "NCCL_MAX_NCHANNELS": "1",
    # Switches of NVLink and of InfiniBand that sum up by themselves.
    "NCCL_NVLS_ENABLE": "0",
    "NCCL_COLLNET_ENABLE": "0",
    # Of this name in NCCL: NCCL_P2P_NET_DISABLE, which others set, is known to AMD's RCCL alone.
    "NCCL_P2P_DISABLE": "1",
}
NCCL = "nccl"
COLLECTIVES = "collectives"
"""Name of the condition."""

log = logging.getLogger(__name__)


def pin_collectives(environment: MutableMapping[str, str]) -> None:
    """Set all of the set, before NCCL starts, but for what the user has set: that stays, and is said."""
    for name, value in PINNED.items():
        own = environment.setdefault(name, value)
        if own != value:
            log.warning(
                "%s=%s was set here and stays, where --deterministic pins %s: weights are equal to the bit "
                "only where it is the same in each attempt",
                name, own, value,
            )  # fmt: skip


def may_pin(run: RunDir) -> bool:
    """Tell whether a run's sums may be pinned: not of one that goes on from steps that were done without."""
    manifest = newest_manifest(run)
    return manifest is None or are_pinned(manifest.conditions)


def are_pinned(conditions: Mapping[str, object]) -> bool:
    """Tell whether sums were pinned under these conditions, or there were none over GPUs."""
    words = str(conditions.get(COLLECTIVES, "")).split()
    return words[:1] != [NCCL] or {word.partition("=")[0] for word in words[1:]} >= {*PINNED}


def described(backend: str, environment: Mapping[str, str]) -> str:
    """Name what sums are taken by, and what of the set holds, whoever has set it."""
    if backend != NCCL:
        return backend
    return " ".join([backend, *(f"{name}={environment[name]}" for name in PINNED if name in environment)])
