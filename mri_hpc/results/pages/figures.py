"""Figures of the report, as SVG that stands alone in a page and is the same for the same run.

No figure holds a word of the user's (class and patient names stand in the page around it), so that nothing
in a name can break a drawing, and no font of this machine decides how a name looks.
"""

import io
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure as Drawing
from matplotlib.ticker import MaxNLocator, PercentFormatter

from mri_hpc.results.statistics.scores import Bin

CLASS_COLOURS = ("#2563a8", "#c2571a", "#2f7d4f", "#8a4fa3", "#9a7b0a", "#b3405f", "#3b8491", "#6b6f76")
"""Told apart with colour blindness."""
CLASS_DASHES: tuple[tuple[float, ...], ...] = (
    (), (6, 2), (1.5, 1.5), (6, 1.5, 1.5, 1.5), (3, 1.5), (9, 2, 3, 2), (6, 1.5, 1.5, 1.5, 1.5, 1.5), (1, 3)
)  # fmt: skip
"""Lines, told apart without colour: lengths of strokes and gaps, in widths of the line."""
INK, MUTED, FAINT = "#1d2733", "#667384", "#dde2e8"
TRAINING_COLOUR, VALIDATION_COLOUR = "#6f8fb3", "#1f4e86"

STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "mri_hpc",
    "text.parse_math": False,
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": MUTED,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.7,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0.0,
    "ytick.major.size": 0.0,
    "lines.solid_capstyle": "round",
}
MOST_POINTS = 400
"""Points of a curve; more cannot be told apart at this size and only make the page heavy."""


def loss_curves(
    metrics: Sequence[dict[str, Any]], resumed_steps: Sequence[int], model_epoch: int | None
) -> str:
    """Draw training loss, smoothed, and validation loss over steps; empty where nothing was logged.

    model_epoch: from 0; its validation is ringed.
    """
    training = [(line["step"], line["loss"]) for line in metrics if "loss" in line]
    validated = [line for line in metrics if "validation_loss" in line]
    validation = [(line["step"], line["validation_loss"]) for line in validated]
    if not training and not validation:
        return ""
    with rc_context(STYLE):
        drawing, axes = canvas()
        if training:
            steps, losses = _smoothed(*np.array(training, dtype=float).T)
            axes.plot(steps, losses, color=TRAINING_COLOUR, linewidth=1.6)
        if validation:
            steps, losses = np.array(validation, dtype=float).T
            axes.plot(steps, losses, color=VALIDATION_COLOUR, linewidth=1.8, marker="o", markersize=3.2)
            of_model = [line["epoch"] == model_epoch for line in validated]
            _ring(axes, steps[of_model], losses[of_model])
        axes.set_ylim(bottom=0)
        _finish_curve(axes, resumed_steps, ylabel="loss")
        return svg_of(
            drawing, "loss", "Training loss and validation loss over optimizer steps",
            f"{_ends('Training loss', training)} {_ends('Validation loss', validation)}",
        )  # fmt: skip


def accuracy_curve(metrics: Sequence[dict[str, Any]], resumed_steps: Sequence[int], chance: float) -> str:
    """Draw balanced accuracy on validation images over steps; empty where it was not logged.

    chance: 0 where it is not known.
    """
    points = [(line["step"], line["balanced_accuracy"]) for line in metrics if "balanced_accuracy" in line]
    if not points:
        return ""
    with rc_context(STYLE):
        drawing, axes = canvas()
        steps, values = np.array(points, dtype=float).T
        if chance:
            axes.axhline(chance, color=MUTED, linewidth=0.9, linestyle=(0, (1, 2)))
        axes.plot(steps, values, color=VALIDATION_COLOUR, linewidth=1.8, marker="o", markersize=3.2)
        axes.set_ylim(0, 1.02)
        axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
        _finish_curve(axes, resumed_steps, ylabel="balanced accuracy")
        return svg_of(
            drawing, "accuracy", "Balanced accuracy on validation images over optimizer steps",
            _ends("Balanced accuracy", points),
        )  # fmt: skip


def roc_curves(curves: Sequence[tuple[np.ndarray, np.ndarray] | None], *, name: str) -> str:
    """Draw one curve a class, in the order and the colours of the classes; empty where there is none."""
    if not any(curves):
        return ""
    with rc_context(STYLE):
        drawing, axes = canvas(width=3.9, height=3.7)
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.9, linestyle=(0, (1, 2)))
        for number, curve in enumerate(curves):
            if curve:
                dashes = (0, CLASS_DASHES[class_pattern(number)] or None)
                axes.plot(*_thinned(*curve), color=class_colour(number), linewidth=1.7, linestyle=dashes)
        axes.set(xlim=(-0.01, 1), ylim=(0, 1.01), xlabel="1 − specificity", ylabel="sensitivity")
        axes.set_aspect("equal")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(PercentFormatter(1, symbol=" %"))
        return svg_of(
            drawing, f"roc-{name}", f"ROC curves by {name}, each class against the others",
            f"Sensitivity over 1 − specificity, {sum(map(bool, curves))} curves from 0 to 100 %, each with "
            "dashes of its own. The dotted diagonal is chance. Areas below the curves stand in the caption.",
        )  # fmt: skip


def reliability_diagram(bins: Sequence[Bin], *, name: str) -> str:
    """Draw which fraction was right of the answers of each bin, over what was stated, with intervals."""
    with rc_context(STYLE):
        drawing, axes = canvas(width=3.9, height=3.7)
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=0.9, linestyle=(0, (1, 2)))
        largest = max(part.num for part in bins)
        for part in bins:
            low, high = max(part.right.low, 0.0), min(part.right.high, 1.0)
            axes.plot([part.stated] * 2, [low, high], color=TRAINING_COLOUR, linewidth=1.4)
            size = 3 + 6 * (part.num / largest) ** 0.5
            axes.plot(part.stated, part.right.value, color=VALIDATION_COLOUR, marker="o", markersize=size)
        axes.set(
            xlim=(0, 1.01), ylim=(-0.01, 1.01), xlabel="stated probability", ylabel="answers that are right"
        )
        axes.set_aspect("equal")
        for axis in (axes.xaxis, axes.yaxis):
            axis.set_major_formatter(PercentFormatter(1, symbol=" %"))
        heard = "; ".join(
            f"stated {100 * part.stated:.0f} %, right {100 * part.right.value:.0f} % of {part.num}"
            for part in bins
        )
        title = f"Answers that are right over their stated probability, by {name}"
        return svg_of(drawing, f"reliability-{name}", title, f"{heard[:1].upper()}{heard[1:]}.")


def learning_curve(counts: Sequence[int], heights: Sequence[float], per_doubling: float) -> str:
    """Draw balanced accuracy over the number of training patients, with the fitted line up to the last."""
    with rc_context(STYLE):
        drawing, axes = canvas()
        x, y = np.log2(counts), np.asarray(heights)
        ends = np.array([x.min(), x.max()])
        line = y.mean() + per_doubling * (ends - x.mean())
        axes.plot(2**ends, line, color=MUTED, linewidth=1.2, linestyle=(0, (4, 3)))
        axes.plot(counts, heights, color=VALIDATION_COLOUR, linestyle="none", marker="o", markersize=5)
        axes.set_xscale("log", base=2)
        axes.set(xlabel="training patients", ylabel="balanced accuracy")
        axes.set_ylim(0, 1.02)
        axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
        axes.xaxis.set_major_formatter("{x:.0f}")
        axes.xaxis.set_minor_formatter("")
        axes.set_xticks(counts)
        heard = "; ".join(f"{num}: {100 * y:.0f} %" for num, y in zip(counts, heights, strict=True))
        title = "Balanced accuracy over the number of training patients"
        return svg_of(drawing, "learning-curve", title, f"By number of training patients, {heard}.")


def class_colour(number: int) -> str:
    """Return the colour of a class, by its position among the classes."""
    return CLASS_COLOURS[number % len(CLASS_COLOURS)]


def class_pattern(number: int) -> int:
    """Return the number of the dashes of a class's line and of the hatching of its area, from 0.

    With more classes than colours, these start again, each with another pattern than before.
    """
    return (number + number // len(CLASS_COLOURS)) % len(CLASS_DASHES)


def canvas(width: float = 4.6, height: float = 2.9) -> tuple[Drawing, Axes]:
    """Make an empty drawing of so many inches."""
    drawing = Drawing(figsize=(width, height), layout="constrained")
    FigureCanvasSVG(drawing)
    return drawing, drawing.subplots()


def _finish_curve(axes: Axes, resumed_steps: Sequence[int], *, ylabel: str) -> None:
    for step in resumed_steps:
        axes.axvline(step, color="#b4462b", linewidth=1.0, linestyle=(0, (4, 3)))
    axes.set(xlabel="optimizer step", ylabel=ylabel)
    axes.set_xlim(left=0)
    axes.grid(axis="x", visible=False)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6, integer=True, steps=[1, 2, 5, 10]))


def _ring(axes: Axes, x: np.ndarray, y: np.ndarray) -> None:
    """Ring points of a curve."""
    axes.plot(
        x, y, linestyle="none", marker="o", markersize=8.5, markerfacecolor="none",
        markeredgecolor=INK, markeredgewidth=1.2,
    )  # fmt: skip


def _smoothed(steps: np.ndarray, losses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Average over equal stretches of steps, no more than there are points to draw."""
    parts = min(len(steps), MOST_POINTS // 4)
    edges = np.linspace(0, len(steps), parts + 1).astype(int)[:-1]
    sizes = np.diff(np.append(edges, len(steps)))
    means = np.add.reduceat(losses, edges) / sizes
    window = np.ones(min(5, parts))
    # Divided by what the window holds, so that the ends are not drawn towards 0.
    smooth = np.convolve(means, window, "same") / np.convolve(np.ones(parts), window, "same")
    return np.add.reduceat(steps, edges) / sizes, smooth


def _thinned(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if len(x) <= MOST_POINTS:
        return x, y
    chosen = np.unique(np.linspace(0, len(x) - 1, MOST_POINTS).astype(int))
    return x[chosen], y[chosen]


def _ends(name: str, points: Sequence[tuple[float, float]]) -> str:
    """Say in words how a curve goes; empty where there is none."""
    if not points:
        return ""
    values = [value for _step, value in points]
    return (
        f"{name}: {values[0]:.3f} at step {points[0][0]}, {values[-1]:.3f} at step {points[-1][0]}; least "
        f"{min(values):.3f}, largest {max(values):.3f}."
    )


def svg_of(drawing: Drawing, name: str, title: str, described: str) -> str:
    """Write the drawing as an element of a page: its ids made unique to it, its size left to the page.

    described: to those who do not see it.
    """
    text = io.StringIO()
    nothing = {key: None for key in ("Date", "Creator", "Format", "Type")}
    drawing.savefig(text, format="svg", transparent=True, metadata=nothing)
    svg = text.getvalue()
    svg = svg[svg.index("<svg") :]
    opening, body = svg.split(">", 1)
    box = re.search(r'viewBox="([^"]+)"', opening)
    assert box
    body = re.sub(r'\bid="', f'id="{name}-', body)
    body = body.replace('xlink:href="#', f'href="#{name}-').replace("url(#", f"url(#{name}-")
    # Ids that nothing refers to, as matplotlib gives every group, only make the page heavy.
    used = set(re.findall(r'(?:href="|url\()#([^")]+)', body))
    body = re.sub(r' id="([^"]+)"', lambda found: found[0] if found[1] in used else "", body)
    heard = f'role="img" aria-labelledby="{name}-title" aria-describedby="{name}-desc"'
    words = f'<title id="{name}-title">{title}</title><desc id="{name}-desc">{described.strip()}</desc>'
    return f'<svg viewBox="{box[1]}" {heard}>{words}{body}'
