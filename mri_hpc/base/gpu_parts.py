"""Parts of GPUs (MIG), of which CUDA shows a process the first alone."""

from collections.abc import Mapping


def parts_of_gpus(environment: Mapping[str, str]) -> list[str]:
    """Return the names of the parts of GPUs that a process is given; none of whole ones."""
    names = environment.get("CUDA_VISIBLE_DEVICES", "").split(",")
    return [name.strip() for name in names if name.strip().startswith("MIG-")]
