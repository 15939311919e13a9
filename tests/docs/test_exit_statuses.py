"""docs/exit-statuses.md says what the code does."""

import importlib
import pkgutil
import re
from pathlib import Path

import mri_hpc
from mri_hpc.base import exit_status
from mri_hpc.base.errors import UserError, Verdict

PAGE = (Path(__file__).parents[2] / "docs" / "exit-statuses.md").read_text(encoding="utf-8")


def test_the_table_has_every_status_of_the_module_and_no_other():
    rows = re.findall(r"^\| (\d+) \| `(\w+)` \|", PAGE, re.MULTILINE)
    names = [name for name in vars(exit_status) if name.isupper()]
    assert {name: int(number) for number, name in rows} == {
        name: getattr(exit_status, name) for name in names
    }


def test_the_table_has_every_kind_of_error_that_a_script_can_read():
    # A verdict is never printed: what was found stands in its place.
    kinds = {"system", *(error.kind for error in kinds_of(UserError))} - {Verdict.kind}
    assert set(re.findall(r"^\| `([\w-]+)` \|", PAGE, re.MULTILINE)) == kinds


def kinds_of(error):
    """A class and all below it, in all modules that define any."""
    for module in pkgutil.walk_packages(mri_hpc.__path__, "mri_hpc."):
        if module.name.split(".")[1] in ("base", "storage"):
            importlib.import_module(module.name)
    found = [error]
    for one in found:
        found += one.__subclasses__()
    return found
