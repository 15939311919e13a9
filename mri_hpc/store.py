"""``mri-hpc store``: look into a store, and look after it."""

import functools
import importlib
import sys
from collections.abc import Sequence

from mri_hpc.base.command import Action, run_action


def _action(module: str) -> Action:
    """Import the action that a module owns, when it is asked for: some need what is slow to start."""
    action = importlib.import_module(f"mri_hpc.store_actions.{module}").ACTION
    assert isinstance(action, Action)
    return action


ACTIONS = {
    module.replace("_", "-"): functools.partial(_action, module)
    for module in (
        "info",
        "verify",
        "export",
        "sheet",
        "compact",
        "audit",
        "relabel",
        "retract",
        "same_patient",
        "who_used",
        "prove",
    )
}
"""Each is a module of ``store_actions``; in the order in which help lists them."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    outcome = "Look into a store and look after it."
    return run_action("mri-hpc store", outcome, ACTIONS, argv, example="mri-hpc store info data/store")


if __name__ == "__main__":
    sys.exit(main())
