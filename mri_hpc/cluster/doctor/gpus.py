"""GPUs of this machine, and whether the installed torch has code for them."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator

from mri_hpc.cluster.doctor.finding import Check, Finding, Site, fine, note, problem

QUERY = ("nvidia-smi", "--query-gpu=name,compute_cap,driver_version", "--format=csv,noheader")
TIMEOUT_S = 30
# In a process of its own: importing torch takes seconds and memory, and a broken one ends in many ways.
ASK_TORCH = """
import json, torch
works = torch.cuda.is_available()
print(json.dumps([torch.version.cuda, torch.cuda.get_arch_list() if works else [], works]))
"""


def look(_site: Site) -> Iterator[Finding]:
    """Ask the driver, and torch where there is a GPU."""
    if shutil.which(QUERY[0]) is None:
        yield note("no GPU here, as on most login nodes: look on a node", "srun --gpus=1 mri-hpc doctor")
        return
    asked = subprocess.run(QUERY, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    if asked.returncode or not asked.stdout.strip():
        yield note(
            f"nvidia-smi finds no GPU here: {(asked.stdout + asked.stderr).strip().splitlines()[0]}",
            "srun --gpus=1 mri-hpc doctor",
        )
        return
    gpus = [[word.strip() for word in line.split(",")] for line in asked.stdout.strip().splitlines()]
    for name, capability, driver in sorted({tuple(gpu) for gpu in gpus}):
        yield fine(
            f"{name}, {sum(gpu[0] == name for gpu in gpus)} here: compute capability {capability}, "
            f"driver {driver}"
        )
    yield from _of_torch({gpu[1] for gpu in gpus})


def _of_torch(capabilities: set[str]) -> Iterator[Finding]:
    asked = subprocess.run(
        [sys.executable, "-c", ASK_TORCH], capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    if asked.returncode:
        last = (asked.stderr.strip().splitlines() or ["it died"])[-1]
        yield problem(f"torch cannot be imported: {last}", "bash tools/install_cluster.sh")
        return
    cuda, architectures, works = json.loads(asked.stdout)
    if cuda is None:
        yield problem(
            "the installed torch is one without CUDA", "pip install --force-reinstall torch torchvision"
        )
    elif not works:
        yield problem(
            f"torch is made for CUDA {cuda}, which this driver is too old for",
            "an older torch, of 2.8 or newer: see pytorch.org/get-started/previous-versions",
        )
    else:
        lacking = sorted(capabilities - {one for one in capabilities if _serves(architectures, one)})
        if lacking:
            yield problem(
                f"the installed torch has no code for compute capability {', '.join(lacking)}",
                "an older torch, of 2.8 or newer: see pytorch.org/get-started/previous-versions",
            )
        else:
            yield fine(f"torch for CUDA {cuda} has code for them")


def _serves(architectures: list[str], capability: str) -> bool:
    """Tell whether torch's code serves: sm_XY of the same major number, no newer; compute_XY, any older."""
    major, minor = (int(word) for word in capability.split("."))
    for architecture in architectures:
        kind, _, digits = architecture.rstrip("af").partition("_")
        of_major, of_minor = int(digits[:-1]), int(digits[-1])
        if kind == "compute" and (of_major, of_minor) <= (major, minor):
            return True
        if kind == "sm" and of_major == major and of_minor <= minor:
            return True
    return False


CHECK = Check(name="gpus", title="GPUs", look=look)
