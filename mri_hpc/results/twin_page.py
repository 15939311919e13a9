"""The page of twins: images that are the same slice, side by side."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from mri_hpc.intake.pictures import png_bytes

TEMPLATE = "twins.html.j2"
MOST_GROUPS = 100
MOST_IMAGES = 8
"""Of a group."""


@dataclass(frozen=True, kw_only=True)
class ShownImage:
    """One image on the page."""

    name: str
    """Its path, or its key."""
    caption: str
    """Class, patient, split and fold."""
    row: int
    """Row of the snapshot."""


@dataclass(frozen=True, kw_only=True)
class ShownGroup:
    """Images that are the same slice."""

    how: tuple[str, ...]
    """By what they differ."""
    is_torn: bool
    """True where they are of several patients, splits or folds."""
    has_other_class: bool
    """True where they are of several classes."""
    images: tuple[ShownImage, ...]
    """All of them."""


def make_twin_page(
    groups: Sequence[ShownGroup], pictures: Sequence[np.ndarray], *, store: str, snapshot: str, total: int
) -> str:
    """Make the page as HTML. pictures: uint8, (H, W), of all images in their order. total: of all groups."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
    )
    encoded = (base64.b64encode(png_bytes(picture)).decode() for picture in pictures)
    shown = [
        {
            "how": group.how,
            "is_torn": group.is_torn,
            "has_other_class": group.has_other_class,
            "images": [
                {"name": image.name, "caption": image.caption, "picture": next(encoded)}
                for image in group.images
            ],
        }
        for group in groups
    ]
    template = environment.get_template(TEMPLATE)
    return template.render(groups=shown, store=store, snapshot=snapshot, total=total)


def shortened(groups: Sequence[ShownGroup]) -> list[ShownGroup]:
    """Return as much as a page holds: leaks first, then labels that differ."""
    first = sorted(groups, key=lambda group: (not group.is_torn, not group.has_other_class))[:MOST_GROUPS]
    return [
        ShownGroup(
            how=group.how, is_torn=group.is_torn, has_other_class=group.has_other_class,
            images=group.images[:MOST_IMAGES],
        )
        for group in first
    ]  # fmt: skip
