"""The page of twins: images that are the same slice, side by side."""

import base64
import itertools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from html import escape
from string import Template

import cv2
import numpy as np

from mri_hpc.base.command import counted
from mri_hpc.intake.decoding.pictures import png_bytes

MOST_GROUPS = 100
MOST_IMAGES = 8
"""Of a group."""
SIDE = 224
"""Pixels of the longer side that a picture has at most: the page holds up to 800 of them."""
# Not a template of jinja2: machines that only preprocess and audit need not have it.
PAGE = Template("""\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light">
<title>Twins in $store</title>
<style>
body { font: 15px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2em auto; padding: 0 1em; }
section { border-top: 1px solid #d0d7de; padding: 0.7em 0 1em; }
.images { display: flex; flex-wrap: wrap; gap: 1em; }
figure { margin: 0; width: 224px; }
img { width: 224px; background: #000; }
figcaption { font-size: 13px; overflow-wrap: anywhere; }
.leak { color: #b42318; font-weight: 600; }
</style>
</head>
<body>
<h1>$total stored more than once</h1>
<p>$store, snapshot $snapshot. This page names patients and their files: it is for you alone.</p>
<p>$shown</p>
$sections
</body>
</html>
""")


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
    groups: Sequence[ShownGroup], pictures: Iterable[np.ndarray], *, store: str, snapshot: str, total: int
) -> str:
    """Make the page as HTML. pictures: uint8, (H, W), of all images in their order. total: of all groups.

    No more than one picture is held at a time.
    """
    rest = iter(pictures)
    sections = [
        _section(number, group, itertools.islice(rest, len(group.images)))
        for number, group in enumerate(groups, 1)
    ]
    shown = f"The first {len(groups)} are shown; all are in the table beside this page."
    return PAGE.substitute(
        store=escape(store),
        snapshot=escape(snapshot),
        total=counted(total, "slice"),
        shown=shown if total > len(groups) else "",
        sections="\n".join(sections),
    )


def _section(number: int, group: ShownGroup, pictures: Iterable[np.ndarray]) -> str:
    marks = [("other patient, split or fold", group.is_torn), ("other class", group.has_other_class)]
    shown = "".join(f' · <span class="leak">{text}</span>' for text, is_so in marks if is_so)
    figures = "".join(
        f'<figure><img src="data:image/png;base64,{_as_base64(picture)}" alt="">'
        f"<figcaption>{escape(image.name)}<br>{escape(image.caption)}</figcaption></figure>"
        for image, picture in zip(group.images, pictures, strict=True)
    )
    how = escape(", ".join(group.how))
    return f'<section><p>{number}: {how}{shown}</p><div class="images">{figures}</div></section>'


def _as_base64(picture: np.ndarray) -> str:
    return base64.b64encode(png_bytes(_small(picture))).decode()


def _small(picture: np.ndarray) -> np.ndarray:
    """Return a picture as large as it is shown, unless it is smaller: uint8, (h, w)."""
    scale = SIDE / max(picture.shape)
    if scale >= 1:
        return picture
    shape = max(1, round(picture.shape[1] * scale)), max(1, round(picture.shape[0] * scale))
    return np.asarray(cv2.resize(picture, shape, interpolation=cv2.INTER_AREA))


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
