"""Recipes of training: named sets of defaults, chosen on validation patients; docs/models.md says how."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from mri_hpc.rundir.settings import TrainingSettings

DEFAULT = "default"
OF_0_1_0 = "0.1.0"
"""That of runs of before there were others."""
_LEARNS: Mapping[str, Any] = {
    "lr": 5e-4, "batch_size": 32, "ema_decay": 0.99, "label_smoothing": 0.1, "mixup": 0.4,
    "flip": "auto", "mirror_answers": True, "distort": True, "matrix_unit": True,
    "published_epoch": "last", "checkpoint_interval_s": "auto",
}  # fmt: skip
_ENLARGED: Mapping[str, Any] = {**_LEARNS, "enlarge": 1.5, "pooling": "auto"}
RECIPES: Mapping[str, Mapping[str, Any]] = {
    "fast": {**_LEARNS, "epochs": 12, "decay_epochs": 4, "patience": 4},
    DEFAULT: {**_ENLARGED, "epochs": 36, "decay_epochs": 10, "patience": 8},
    "thorough": {**_ENLARGED, "epochs": 60, "decay_epochs": 12, "patience": 12},
    OF_0_1_0: {},
}
"""Settings of each that are not as TrainingSettings has them by itself."""


def with_recipe(settings: TrainingSettings, name: str) -> TrainingSettings:
    """Return the settings with all that a recipe sets, in place of what they had for it."""
    plain = TrainingSettings()
    back = {key: getattr(plain, key) for values in RECIPES.values() for key in values}
    values: dict[str, Any] = {"recipe": name, **back, **RECIPES[name]}
    return replace(settings, **values)


def default_of(recipe: str, name: str) -> Any:
    """Return the value that a setting has by a recipe, where nothing is typed."""
    return getattr(with_recipe(TrainingSettings(), recipe), name)
