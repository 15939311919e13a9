"""The version of this code, which stands in setup.cfg alone."""

import importlib.util
from pathlib import Path

NAME = "mri_hpc"
CHECKOUT = Path(__file__).parents[2]


def version(checkout: Path = CHECKOUT) -> str:
    """Return the version of the checkout that this runs from, installed or not; else of the installed one."""
    # Only who asks for it waits for the parser.
    import configparser

    setup = configparser.ConfigParser()
    setup.read(checkout / "setup.cfg", encoding="utf-8")
    # What was installed from a checkout in place says the version of that day.
    if setup.get("metadata", "name", fallback="") == NAME:
        return setup["metadata"]["version"]
    from importlib import metadata

    return metadata.version(NAME)


def version_of(package: str, module: str = "") -> str:
    """Return the version of an installed package. module: its own name where that is another one."""
    found = importlib.util.find_spec(module or package)
    # Its folder says so, too; the library that reads its metadata takes 40 ms to import.
    if found and found.origin:
        beside = Path(found.origin).parents[1].glob(f"{package}-*.dist-info")
        versions = [folder.name.removesuffix(".dist-info").removeprefix(f"{package}-") for folder in beside]
        if len(versions) == 1:
            return versions[0]
    from importlib import metadata

    return metadata.version(package)
