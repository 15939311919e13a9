"""Pictures of patients on a page: which are shown, and how they are drawn. For whoever may see patients."""

import base64
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import cv2
import numpy as np

from mri_hpc.intake.decoding.pictures import png_bytes
from mri_hpc.rundir.predictions import Prediction

EXAMPLES = 4
"""Images shown of each class, of as many patients."""
MOST_WRONG = 12
"""Wrong answers shown, of as many patients."""
MOST_LOOKED_AT = 8
"""Right answers whose heat maps are shown, of as many patients."""
SIDE = 224
"""Of a picture on the page, in pixels."""
HOT = (255, 120, 0)
HALF = 0.5
"""Of the greatest heat: where the line is drawn."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Shown:
    """One image on the page, and what is said of it."""

    prediction: Prediction
    answered: str
    probability: float
    """Of the class that was answered."""
    picture: str
    """The image, as a URL that holds it."""
    heat: str = ""
    """The image with the heat map over it; empty where that is not to be shown."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Pictures:
    """All pictures of a page."""

    examples: Mapping[str, Sequence[Shown]]
    """By class."""
    wrong: Sequence[Shown]
    """Most probable first."""
    looked_at: Sequence[Shown]
    """Right ones, with their heat maps."""
    num_gone: int
    """Test images that the store no longer holds, or holds otherwise: they are left out."""

    @property
    def keys(self) -> set[int]:
        """Keys of all images that are shown."""
        shown = [*chain.from_iterable(self.examples.values()), *self.wrong, *self.looked_at]
        return {int(one.prediction.key, 16) for one in shown}


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Predictions that are shown."""

    examples: Mapping[str, Sequence[Prediction]]
    wrong: Sequence[Prediction]
    looked_at: Sequence[Prediction]

    def all(self) -> list[Prediction]:
        """List each once, by key."""
        shown = (*(row for rows in self.examples.values() for row in rows), *self.wrong, *self.looked_at)
        return sorted({row.key: row for row in shown}.values(), key=lambda row: row.key)


def select(classes: Sequence[str], rows: Iterable[Prediction], has_box: set[str]) -> Selection:
    """Choose images by rules that no one's eye has a part in; one a patient. has_box: keys with a box."""
    rows = sorted((row for row in rows if row.label), key=lambda row: row.key)
    wrong = sorted((row for row in rows if answer_of(classes, row) != row.label), key=_by_probability)
    right = [row for row in rows if answer_of(classes, row) == row.label and row.key in has_box]
    return Selection(
        examples={
            name: _spread(_one_a_patient(row for row in rows if row.label == name), EXAMPLES)
            for name in classes
        },
        wrong=_one_a_patient(wrong)[:MOST_WRONG],
        looked_at=_spread(_one_a_patient(right), MOST_LOOKED_AT),
    )


def answer_of(classes: Sequence[str], row: Prediction) -> str:
    """Return the most probable class, of equals the first."""
    return classes[row.probabilities.index(max(row.probabilities))]


def show(
    classes: Sequence[str], row: Prediction, image: np.ndarray, heat: np.ndarray | None, box: np.ndarray
) -> Shown:
    """Draw one image, uint8, (H, W), and its heat map, (H, W), where that may be shown.

    box: around its finding, as the store has it, (4,); NaN none. It is drawn with the heat map.
    """
    large = _enlarged(image)
    hot = None if heat is None else _with_heat(large, heat)
    if hot is not None and np.isfinite(box).all():
        _draw_box(hot, box)
    return Shown(
        prediction=row,
        answered=answer_of(classes, row),
        probability=max(row.probabilities),
        picture=_url(large),
        heat="" if hot is None else _url(hot),
    )


def _with_heat(grey: np.ndarray, heat: np.ndarray) -> np.ndarray:
    """Colour an image, uint8, (H, W), by a map, float32, with a line at half its greatest heat: (H, W, 3).

    The line is light within dark, so that it shows on any grey, and on paper.
    """
    # Last bits, which may hang on the number of threads, are not to reach the picture.
    heat = cv2.resize(np.round(heat, 3), grey.shape[::-1], interpolation=cv2.INTER_LINEAR)
    part = 0.45 * heat[..., None]
    coloured = np.ascontiguousarray(
        np.rint((1 - part) * grey[..., None] + part * np.array(HOT)).astype(np.uint8)
    )
    lines, _nesting = cv2.findContours((heat >= HALF).astype(np.uint8), cv2.RETR_LIST, cv2.CHAIN_APPROX_NONE)
    for colour, thickness in (((0, 0, 0), 3), ((255, 255, 255), 1)):
        cv2.drawContours(coloured, lines, -1, colour, thickness)
    return coloured


def _draw_box(image: np.ndarray, box: np.ndarray) -> None:
    """Draw the corners of a box, cx, cy, w, h as fractions, upon a picture of three colours."""
    height, width = image.shape[:2]
    cx, cy, w, h = np.asarray(box, float)
    left, right = round((cx - w / 2) * width), round((cx + w / 2) * width)
    top, bottom = round((cy - h / 2) * height), round((cy + h / 2) * height)
    arm = max(4, min(right - left, bottom - top) // 4)
    for colour, thickness in (((0, 0, 0), 4), ((255, 255, 255), 2)):
        for x, inward in ((left, arm), (right, -arm)):
            for y, down in ((top, arm), (bottom, -arm)):
                cv2.line(image, (x, y), (x + inward, y), colour, thickness)
                cv2.line(image, (x, y), (x, y + down), colour, thickness)


def _enlarged(image: np.ndarray) -> np.ndarray:
    how = cv2.INTER_CUBIC if len(image) < SIDE else cv2.INTER_AREA
    return np.asarray(cv2.resize(image, (SIDE, SIDE), interpolation=how))


def _url(picture: np.ndarray) -> str:
    return f"data:image/png;base64,{base64.b64encode(png_bytes(picture)).decode()}"


def _by_probability(row: Prediction) -> tuple[float, str]:
    return -max(row.probabilities), row.key


def _one_a_patient(rows: Iterable[Prediction]) -> list[Prediction]:
    """Keep the first of each patient; images that name none count as one patient each."""
    first: dict[str, Prediction] = {}
    for row in rows:
        # A pseudonym may look like a key.
        first.setdefault(f"patient {row.patient}" if row.patient else row.key, row)
    return list(first.values())


def _spread(rows: Sequence[Prediction], most: int) -> list[Prediction]:
    numbers = np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(int)
    return [rows[number] for number in numbers.tolist()]
