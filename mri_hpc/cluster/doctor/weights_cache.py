"""The folder of published weights."""

import os
from collections.abc import Iterator
from pathlib import Path

from mri_hpc.cluster.doctor.finding import Check, Finding, Site, fine, note
from mri_hpc.cluster.doctor.fixes import line_in_site_env

OWN = Path("data/torch")
FETCH = "mri-hpc weights fetch resnet18, where there is internet access"


def look(site: Site) -> Iterator[Finding]:
    """Look into torch's folder of weights."""
    cache = Path(site.environment.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    folder = Path(site.environment.get("TORCH_HOME") or cache / "torch") / "hub" / "checkpoints"
    found = sorted(path.name for path in folder.glob("*.pth"))
    if not site.environment.get("TORCH_HOME") and not _can_be_made(folder):
        yield note(
            f"published weights could not be kept: {folder} cannot be made or written",
            "export TORCH_HOME=/project/torch, in site.env",
            fix=line_in_site_env(site.clone, "TORCH_HOME", str(site.clone / OWN)) if site.clone else None,
        )
    elif found:
        yield fine(f"published weights in {folder}: {', '.join(found[:5])}{', ...' if found[5:] else ''}")
    else:
        yield note(f"no published weights in {folder}; training from random weights needs none", FETCH)


def _can_be_made(folder: Path) -> bool:
    nearest = next(one for one in (folder, *folder.parents) if one.exists())
    return nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)


CHECK = Check(name="weights", title="Published weights", look=look)
