"""The folder of published weights."""

from collections.abc import Iterator
from pathlib import Path

from mri_hpc.cluster.doctor.finding import Check, Finding, Site, fine, note

FETCH = "mri-hpc weights fetch resnet18, where there is internet access"


def look(site: Site) -> Iterator[Finding]:
    """Look into torch's folder of weights."""
    cache = Path(site.environment.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser())
    folder = Path(site.environment.get("TORCH_HOME") or cache / "torch") / "hub" / "checkpoints"
    found = sorted(path.name for path in folder.glob("*.pth"))
    if found:
        yield fine(f"published weights in {folder}: {', '.join(found[:5])}{', ...' if found[5:] else ''}")
    else:
        yield note(f"no published weights in {folder}; training from random weights needs none", FETCH)


CHECK = Check(name="weights", title="Published weights", look=look)
