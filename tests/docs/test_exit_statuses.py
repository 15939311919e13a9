"""docs/exit-statuses.md says what the code does."""

import ast
import importlib
import re
from pathlib import Path

import mri_hpc
from mri_hpc.__main__ import COMMANDS
from mri_hpc.base import exit_status
from mri_hpc.base.errors import UserError, Verdict
from mri_hpc.store import ACTIONS

ROOT = Path(mri_hpc.__file__).parent
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
    table = PAGE.partition("| kind | meaning |")[2]
    assert set(re.findall(r"^\| `([\w-]+)` \|", table, re.MULTILINE)) == kinds


ROWS = {
    name: [cell.strip() for cell in cells]
    for name, *cells in re.findall(
        r"^\| `([a-z -]+)` \|([^|\n]*)\|([^|\n]*)\|([^|\n]*)\|$", PAGE, re.MULTILINE
    )
}
"""Command, and what its 0, 2 and 75 mean."""
# Modules that decide on a status of others' commands.
OF_COMMANDS = {
    "looking": "preprocess", "store_actions.privacy": "store verify", "training.rank": "train",
    "cluster.watching": "launch",
}  # fmt: skip


def test_every_command_has_a_row_and_every_row_is_a_command():
    alone = {name for name in COMMANDS if name != "store"}
    assert set(ROWS) == alone | {f"store {action}" for action in ACTIONS}
    assert all(cells[0] for cells in ROWS.values())


def test_two_is_explained_for_commands_that_look_and_find_and_for_no_other():
    found = commands_whose_code(raises_a_verdict)
    assert {name for name, cells in ROWS.items() if cells[1]} == found


def test_75_is_of_commands_that_save_when_told_to_stop_and_of_no_other():
    found = commands_whose_code(returns_again)
    assert {name for name, cells in ROWS.items() if cells[2]} == found


def commands_whose_code(does):
    """The commands in whose modules, or those that decide for them, something is done."""
    found = set()
    for path in ROOT.rglob("*.py"):
        module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        # These decide about jobs, whose statuses have a line of their own.
        is_of_jobs = module.startswith(("base.", "cluster.")) and module not in OF_COMMANDS
        if not is_of_jobs and does(ast.parse(path.read_text(encoding="utf-8"))):
            action = module.removeprefix("store_actions.")
            own = f"store {action}" if action != module else module
            found.add(OF_COMMANDS.get(module, own.replace("_", "-")))
    return found


def raises_a_verdict(tree):
    imported = {
        name.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom)
        and node.module in ("mri_hpc.base.errors", "mri_hpc.base.exit_status")
        for name in node.names
    }
    called = {
        node.func.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    return "Verdict" in imported & called or returns(tree, "USER_CAN_FIX")


def returns_again(tree):
    return returns(tree, "AGAIN")


def returns(tree, status):
    """Tell whether some function returns this status, also as one of two."""
    values = [node.value for node in ast.walk(tree) if isinstance(node, ast.Return) and node.value]
    return any(isinstance(one, ast.Name) and one.id == status for value in values for one in ast.walk(value))


def kinds_of(error):
    """A class and all below it, in all modules that define any."""
    defines = re.compile(r"^class \w+\((UserError|StoreDamage)\):", re.MULTILINE)
    for path in ROOT.rglob("*.py"):
        if defines.search(path.read_text(encoding="utf-8")):
            importlib.import_module(".".join(path.relative_to(ROOT.parent).with_suffix("").parts))
    found = [error]
    for one in found:
        found += one.__subclasses__()
    return found
