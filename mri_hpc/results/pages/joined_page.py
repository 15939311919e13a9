"""The page of joined runs: the same runs give the same bytes, and no path is in it, as of the report."""

from markupsafe import Markup

from mri_hpc.results.pages.figures import learning_curve
from mri_hpc.results.pages.page import heading
from mri_hpc.results.pages.templates import environment
from mri_hpc.results.runs.joining import Joined, pooled_metrics
from mri_hpc.results.runs.learning_curve import Curve

TEMPLATE = "joined.html.j2"
CURVE_TEMPLATE = "learning_curve.html.j2"


def make_joined_page(joined: Joined, name: str) -> str:
    """Make the page as HTML. name: of what was joined, such as that of the folder of folds."""
    metrics = [spread.metric for spread in joined.spreads]
    return environment().get_template(TEMPLATE).render(
        name=name,
        joined=joined,
        model=joined.parts[0].training.model,
        snapshot=joined.parts[0].training.snapshot,
        headings=[heading(metric) for metric in metrics],
        spreads=[(heading(spread.metric), spread) for spread in joined.spreads],
        parts=[
            (part, [part.evaluation.headline.figures[metric] for metric in metrics]) for part in joined.parts
        ],
        pooled_headings=[heading(metric) for metric in pooled_metrics()],
        pooled=[
            (seed, found.num, [found.figures[metric] for metric in pooled_metrics()])
            for seed, found in joined.pooled.items()
        ],
        classes=joined.parts[0].evaluation.classes,
        confusions=[(seed, found.confusion) for seed, found in joined.pooled.items()],
        notes=_notes(joined),
    )  # fmt: skip


def make_curve_page(curve: Curve, name: str) -> str:
    """Make the page of a learning curve as HTML. name: as of `make_joined_page`."""
    heights = [point.figure.value or 0.0 for point in curve.points]
    counts = [point.num_patients for point in curve.points]
    return environment().get_template(CURVE_TEMPLATE).render(
        name=name,
        curve=curve,
        drawing=Markup(learning_curve(counts, heights, curve.per_doubling.value or 0.0)),
    )  # fmt: skip


def _notes(joined: Joined) -> list[str]:
    """Collect what belongs beside the figures, each sentence once, with the runs of which it holds."""
    runs: dict[str, list[str]] = {}
    for part in joined.parts:
        for note in part.evaluation.notes:
            runs.setdefault(note, []).append(part.run.path.name)
    return [
        f"{note[:1].upper()}{note[1:]}"
        + ("" if len(names) == len(joined.parts) else f" ({', '.join(names)})")
        for note, names in runs.items()
    ]
