"""Names of torchvision's classifiers, as its source has them: importing it takes seconds and 0.6 GB.

A login node may give a user 1 GB, and launch needs no more of torch than this.
"""

import importlib.util
import re
from pathlib import Path

REGISTERED = re.compile(r"^@register_model\((?:name=[\"'](\w+)[\"'])?\)\n(?:.*\n)*?def (\w+)\(", re.MULTILINE)
"""Finds a classifier in torchvision's source: its name where it is not the function's, and the function."""


def check_model_name(name: str) -> None:
    """Raise UserError where torchvision has no classifier of that name; imports it only to say so."""
    if name in names_in_source():
        return
    # A newer torchvision may write its names otherwise: it has the last word, and knows the nearest.
    from mri_hpc.training import model

    model.check_model_name(name)


def names_in_source() -> set[str]:
    """Return the names in torchvision's source; empty where it is not installed."""
    found = importlib.util.find_spec("torchvision")
    if found is None or not found.origin:
        return set()
    # Not below: there are detectors and the like.
    texts = [file.read_text(encoding="utf-8") for file in (Path(found.origin).parent / "models").glob("*.py")]
    return {name or function for text in texts for name, function in REGISTERED.findall(text)}
