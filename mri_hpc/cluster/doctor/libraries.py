"""Python and the libraries that this project asks for."""

import importlib.metadata
import re
import sys
from collections.abc import Iterator

from mri_hpc.cluster.doctor.finding import Check, Finding, Site, fine, problem

INSTALL = "bash tools/install_cluster.sh"
ONLY_TO_TRAIN = {"torch", "torchvision", "submitit", "safetensors", "tensorboard", "matplotlib", "jinja2"}
"""Libraries that neither preprocess nor store imports."""


def look(_site: Site) -> Iterator[Finding]:
    """Hold what is installed against what setup.cfg asks for."""
    yield fine(f"Python {sys.version.split()[0]} at {sys.executable}")
    try:
        requirements = importlib.metadata.requires("mri_hpc") or []
    except importlib.metadata.PackageNotFoundError:
        yield problem("mri_hpc is not installed here: what it needs is not known", INSTALL)
        return
    wanted = [one for one in requirements if "extra ==" not in one]
    missing, old = [], []
    for requirement in wanted:
        # As setup.cfg writes them: a name alone, or with the least version.
        name, _, least = requirement.replace(" ", "").partition(">=")
        try:
            found = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
            continue
        if least and _numbers(found) < _numbers(least):
            old.append(f"{name} {found} (at least {least} is needed)")
    if set(missing) == ONLY_TO_TRAIN:
        yield fine(
            "this environment is for preprocess and store alone: without torch nothing is trained here"
        )
    elif missing:
        yield problem(f"not installed: {', '.join(sorted(missing))}", INSTALL)
    if old:
        yield problem(f"too old: {', '.join(old)}", INSTALL)
    if not missing and not old:
        torch, numpy = (importlib.metadata.version(name) for name in ("torch", "numpy"))
        yield fine(f"all {len(wanted)} libraries are there and new enough: torch {torch}, numpy {numpy}, ...")


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version.partition("+")[0])[:3])


CHECK = Check(name="libraries", title="Python and libraries", look=look)
