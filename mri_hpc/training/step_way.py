"""The way in which a processor computes steps: found when a run is made, and kept with its conditions.

No way changes what is computed, but each rounds otherwise: a run keeps the one that it has begun with.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from mri_hpc.base.errors import UserError

STEPS = "steps"
"""Name of the condition."""


class StepWay(StrEnum):
    """Ways to compute a step."""

    PLAIN = "plain"  # as before there were others: the optimizer moves one tensor after another
    FUSED = "fused optimizer"  # moves a tensor in one pass over its numbers
    CHANNELS_LAST = "fused optimizer, channels last"  # which is how images and weights lie


def way_of(conditions: Mapping[str, Any]) -> StepWay:
    """Return the way of steps that were done under these conditions; those of before were plain.

    Raises UserError where it is one of a newer version.
    """
    word = conditions.get(STEPS, StepWay.PLAIN)
    try:
        return StepWay(word)
    except ValueError:
        raise UserError(
            f"the run computes its steps in a way that this version does not know ({word}): go on with the "
            f"newer version that it has begun with"
        ) from None
