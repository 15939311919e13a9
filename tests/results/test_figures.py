"""Curves mark what they say they mark."""

import re

from mri_hpc.results.figures import VALIDATION_COLOUR, accuracy_curve, loss_curves
from mri_hpc.results.page import _model_epoch, _validation_chance
from mri_hpc.rundir.settings import TrainingSettings

LOSSES = (0.9, 0.5, 0.49, 0.6)
METRICS = [{"step": 10 * n, "epoch": n, "validation_loss": loss} for n, loss in enumerate(LOSSES)]


def marks(svg, *, edge):
    """Places of the marks whose edge has a colour."""
    found = re.findall(r'<use [^>]*x="([\d.]+)" y="([\d.]+)" style="([^"]*)"', svg)
    return [(x, y) for x, y, style in found if f"stroke: {edge}" in style]


def test_the_epoch_of_the_model_is_ringed_and_not_the_one_of_the_lowest_loss():
    svg = loss_curves(METRICS, [], 1)
    curve, ring = marks(svg, edge=VALIDATION_COLOUR), marks(svg, edge="#1d2733")
    assert len(curve) == len(LOSSES)
    assert ring == [curve[1]]
    assert marks(loss_curves(METRICS, [], -1), edge="#1d2733") == []


def test_the_epoch_of_the_model_is_that_of_early_stopping():
    training = TrainingSettings(min_improvement=0.1)
    assert _model_epoch({}, METRICS, training) == 1
    assert _model_epoch({}, METRICS, TrainingSettings()) == 2
    assert _model_epoch({"best_epoch": 4}, METRICS, training) == 3
    assert _model_epoch({}, [], training) == -1


def test_chance_on_validation_images_counts_the_classes_that_occur_there():
    of_classes = {"a": {"images": 3}, "b": {"images": 5}, "c": {"images": 0}}
    stated = {"split_counts": {"validation": {"classes": of_classes}}}
    assert _validation_chance(("a", "b", "c"), stated) == 1 / 2
    assert _validation_chance(("a", "b", "c"), {}) == 1 / 3
    assert _validation_chance((), {}) == 0


def test_chance_that_is_not_known_is_not_drawn():
    metrics = [{"step": 10, "epoch": 0, "balanced_accuracy": 0.6}]
    dotted = [accuracy_curve(metrics, [], chance).count("stroke-dasharray") for chance in (0.0, 0.5)]
    assert dotted == [0, 1]
