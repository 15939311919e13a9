"""The promises of a store, for tests: a plain model of it, invariants, and kills at any file operation.

- `Workbench`: a folder with pictures, their labels, and the store that is made of them.
- `StoreModel`, `Image`: what that store must hold, as plain dictionaries.
- `problems`: every way in which a store is not as its model says.
- `Trial`: changes a store and its model alike, whole, killed at a moment, or two at once.

It needs no test runner. `mri-hpc store prove` plays it on a file system of yours.
"""

from mri_hpc.testing.invariants import problems
from mri_hpc.testing.model import Image, StoreModel
from mri_hpc.testing.trial import Trial
from mri_hpc.testing.workbench import Workbench

__all__ = ["Image", "StoreModel", "Trial", "Workbench", "problems"]
