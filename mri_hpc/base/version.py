"""The version of this code, which stands in setup.cfg alone."""

import configparser
import importlib.metadata
from pathlib import Path

NAME = "mri_hpc"
CHECKOUT = Path(__file__).parents[2]


def version(checkout: Path = CHECKOUT) -> str:
    """Return the version of the checkout that this runs from, installed or not; else of the installed one."""
    setup = configparser.ConfigParser()
    setup.read(checkout / "setup.cfg", encoding="utf-8")
    # What was installed from a checkout in place says the version of that day.
    if setup.get("metadata", "name", fallback="") == NAME:
        return setup["metadata"]["version"]
    return importlib.metadata.version(NAME)
