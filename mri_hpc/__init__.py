"""From labelled brain MRI to an honestly evaluated classifier, on nodes that can be taken away.

What Python users need, loaded when it is first asked for:

- `Store`: a store of images; add to it, look into it, look after it.
- `Dataset`, `Loader`: its images for a training loop of your own, one by one or in batches.
- `Run`: a run's settings, state, figures, model and predictions.
"""

import importlib
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mri_hpc.loading.dataset import Dataset
    from mri_hpc.loading.loader import Loader
    from mri_hpc.run import Run
    from mri_hpc.storage.store import Store

    __version__: str

__all__ = ["Dataset", "Loader", "Run", "Store", "__version__"]

HOMES = {
    "Dataset": "mri_hpc.loading.dataset",
    "Loader": "mri_hpc.loading.loader",
    "Run": "mri_hpc.run",
    "Store": "mri_hpc.storage.store",
}


if sys.argv[:1] == ["-m"]:
    # So it is while Python looks for the module that it was told to run: here is the first of ours that it
    # comes to, ahead of what a command imports.
    from mri_hpc.base.interruption import command_of, say_interruptions

    if command := command_of(sys.orig_argv):
        say_interruptions(command)


def __getattr__(name: str) -> Any:
    """Load a public name at its first use: commands that need no torch start without it."""
    if name == "__version__":
        # Looking at what is installed takes longer than starting.
        from mri_hpc.base.version import version

        return version()
    if name not in HOMES:
        raise AttributeError(f"module 'mri_hpc' has no attribute {name!r}; it has: {', '.join(__all__)}")
    return getattr(importlib.import_module(HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
