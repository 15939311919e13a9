"""Curves mark what they say they mark."""

import re
from dataclasses import replace
from pathlib import Path

from mri_hpc.results.pages import figures
from mri_hpc.results.pages.figures import VALIDATION_COLOUR, accuracy_curve, loss_curves
from mri_hpc.results.pages.page import _model_epoch, _validation_chance
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
    assert _model_epoch({"best_epoch": 2, "model_epoch": 4}, METRICS, training) == 3
    assert _model_epoch({}, METRICS, replace(training, published_epoch="last", decay_epochs=1)) == -1
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


def luminance(colour):
    """Relative luminance of a colour, (red, green, blue) from 0 to 255, as WCAG 2 defines it."""
    parts = [part / 255 for part in colour]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    """Contrast of two colours, 1 to 21."""
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def rgb(text):
    return tuple(int(text[at : at + 2], 16) for at in (1, 3, 5))


def test_words_and_lines_stand_out_from_what_they_stand_on():
    folder = Path(figures.__file__).parent
    css, page = (folder / "report.css").read_text(), (folder / "report.html.j2").read_text()
    named = {name: rgb(colour) for name, colour in re.findall(r"--(\w+):(#[0-9a-f]{6})", css)}
    for name in ("ink", "muted", "blue", "red"):
        assert contrast(named[name], named["wash"]) >= 4.5
    # The fullest cells of the table of confusions.
    least, more = map(float, re.search(r"format\(([\d.]+) \+ ([\d.]+) \* part\)", page).groups())
    for full in re.findall(r'"(\d+,\d+,\d+)" (?:if|else)|else "(\d+,\d+,\d+)"', page):
        colour = [int(part) for part in "".join(full).split(",")]
        cell = [255 + (least + more) * (part - 255) for part in colour]
        assert contrast(named["ink"], cell) >= 4.5
    lines = (*figures.CLASS_COLOURS, figures.TRAINING_COLOUR, figures.VALIDATION_COLOUR, figures.MUTED)
    for line in lines:
        assert contrast(rgb(line), (255, 255, 255)) >= 3
