"""A page for each patient of a prediction: what is said, how surely, and the slices; for this user alone."""

import base64
import re
from collections.abc import Iterator
from pathlib import Path

from mri_hpc.base.atomic import replace_bytes
from mri_hpc.results.answers.answer import Answer, Judged, JudgedPatient
from mri_hpc.results.answers.resemblance import NOT_LIKE
from mri_hpc.results.pages.templates import environment

TEMPLATE = "patient.html.j2"
FOLDER = "pages"
MOST_SLICES = 200
"""On a page; the rest is counted."""
OF_IMAGES = "images"
"""Page of the images that name no patient."""


def write_pages(out: Path, answer: Answer) -> list[Path]:
    """Write a page for each patient, and one for all images without; those of earlier predictions go."""
    folder = out / FOLDER
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    written = []
    for name, one, images in _pages(answer):
        path = folder / f"{name}.html"
        replace_bytes(path, make_page(answer, one, images).encode(), is_private=True)
        written.append(path)
    for before in set(folder.glob("*.html")) - set(written):
        # Another prediction into the same folder may have been faster.
        before.unlink(missing_ok=True)
    return written


def pages_of(out: Path, answer: Answer) -> list[tuple[Path, list[Judged]]]:
    """List the pages that `write_pages` writes of an answer, each with the images that it shows."""
    return [(out / FOLDER / f"{name}.html", images[:MOST_SLICES]) for name, _one, images in _pages(answer)]


def make_page(answer: Answer, one: JudgedPatient | None, images: list[Judged]) -> str:
    """Make one page as HTML. one: None for images that are not judged by patient."""
    is_unlike = {
        id(image): verdict.is_unlike for image, verdict in zip(answer.images, answer.verdicts(), strict=True)
    }
    return environment().get_template(TEMPLATE).render(
        answer=answer,
        one=one,
        predicted=answer.predicted(one.probabilities) if one else "",
        decided=answer.decided_in_words(one) if one else "",
        promised=answer.set_in_words(one) if one else "",
        like=answer.like_in_words(one) if one else "",
        before=answer.model_before(one.patient) if one else None,
        likeness=one.verdict.words if one else answer.likeness_in_words().removesuffix("."),
        is_unlike=one.verdict.is_unlike if one else False,
        pooling=answer.pooling_in_words("slices"),
        by_class=_by_class(answer, one) if one else [],
        slices=[
            _slice(answer, number, image, is_unlike=not one and is_unlike[id(image)])
            for number, image in enumerate(images[:MOST_SLICES], 1)
        ],
        num_slices=len(images),
    )  # fmt: skip


def _by_class(answer: Answer, one: JudgedPatient) -> list[tuple[str, float, str]]:
    """Return name, probability, and in words the lowest and highest of several runs, of each class."""
    spread = one.spread.T.tolist() if one.spread is not None else [()] * len(answer.classes)
    words = ["–".join(f"{100 * chance:.1f}" for chance in ends) for ends in spread]
    return list(zip(answer.classes, one.probabilities.tolist(), words, strict=True))


def _pages(answer: Answer) -> Iterator[tuple[str, JudgedPatient | None, list[Judged]]]:
    images: dict[str, list[Judged]] = {}
    for image in answer.images:
        images.setdefault(image.patient, []).append(image)
    taken: set[str] = set()
    for number, one in enumerate(answer.patients(), 1):
        is_plain = re.fullmatch(r"[\w-]{1,80}", one.patient, re.ASCII) and one.patient.lower() not in taken
        name = one.patient if is_plain and one.patient != OF_IMAGES else f"patient {number}"
        taken.add(name.lower())
        yield name, one, _in_order(images.pop(one.patient))
    if rest := [image for of_patient in images.values() for image in of_patient]:
        yield OF_IMAGES, None, _in_order(rest)


def _in_order(images: list[Judged]) -> list[Judged]:
    """Sort slices as people count: 2 before 10."""
    return sorted(images, key=lambda image: image.place)


def _slice(answer: Answer, number: int, image: Judged, *, is_unlike: bool) -> dict[str, object]:
    unlike = f"; {NOT_LIKE}" if is_unlike else ""
    chance = 100 * float(image.probabilities.max())
    return {
        "number": number,
        "name": image.name,
        "says": f"{answer.predicted(image.probabilities)} {chance:.1f} %{unlike}",
        "picture": base64.b64encode(image.picture).decode(),
    }
