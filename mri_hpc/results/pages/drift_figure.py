"""The figure of drift: patients before and since, by each measure, in one drawing."""

from collections.abc import Sequence

from matplotlib import rc_context

from mri_hpc.results.pages.figures import MUTED, STYLE, TRAINING_COLOUR, VALIDATION_COLOUR, canvas, svg_of
from mri_hpc.rundir.drift import Group, Measure

ROW = 0.5
"""Inches."""
APART = 0.17
"""Of a row, from its middle to either group."""
NAMES = {
    "brightness": "brightness",
    "contrast": "contrast",
    "extent": "size of head",
    "slices": "slices a patient",
    "confidence": "confidence",
}


def drift_figure(measures: Sequence[Measure]) -> str:
    """Draw the patients of both sides by each measure, each on its own scale; empty where there are none."""
    shown = [one for one in measures if one.name in NAMES and one.before.quantiles and one.since.quantiles]
    if not shown:
        return ""
    with rc_context(STYLE):
        drawing, axes = canvas(width=4.6, height=0.4 + ROW * len(shown))
        for place, one in enumerate(shown):
            lowest = min(one.before.quantiles[0], one.since.quantiles[0])
            width = max(one.before.quantiles[-1], one.since.quantiles[-1]) - lowest
            for group, y in ((one.before, place - APART), (one.since, place + APART)):
                colour = TRAINING_COLOUR if group is one.before else VALIDATION_COLOUR
                low, quarter, middle, third, high = (
                    (value - lowest) / width if width > 0 else 0.5 for value in group.quantiles
                )
                axes.plot([low, high], [y, y], color=colour, linewidth=1.2)
                axes.plot([quarter, third], [y, y], color=colour, linewidth=5, solid_capstyle="butt")
                fill = colour if one.is_drifted else "white"
                axes.plot(
                    middle, y, marker="o", markersize=6, markerfacecolor=fill, markeredgecolor=colour,
                    markeredgewidth=1.4,
                )  # fmt: skip
            for at, value in ((0, lowest), (1, lowest + width)):
                axes.annotate(
                    f"{value:.3g}", (at, place), xytext=(-4 if at == 0 else 4, 0), textcoords="offset points",
                    ha="right" if at == 0 else "left", va="center", color=MUTED, fontsize=8,
                )  # fmt: skip
        axes.set_yticks(range(len(shown)), [NAMES[one.name] for one in shown])
        axes.set(xlim=(-0.16, 1.16), ylim=(len(shown) - 0.5, -0.5))
        axes.xaxis.set_visible(False)
        axes.grid(visible=False)
        axes.spines["bottom"].set_visible(False)
        axes.spines["left"].set_visible(False)
        heard = "; ".join(
            f"{NAMES[one.name]}: {_heard(one.before)} before, {_heard(one.since)} since" for one in shown
        )
        return svg_of(
            drawing,
            "drift",
            "Patients before and since, by what is measured of their images",
            f"Middle patient, {heard}.",
        )


def _heard(group: Group) -> str:
    return f"{group.quantiles[len(group.quantiles) // 2]:.3g}"
