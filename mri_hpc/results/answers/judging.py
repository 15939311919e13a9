"""Asking a model about images: each is read, turned into samples, shown, and named."""

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from mri_hpc.base.errors import BadSource
from mri_hpc.intake.decoding.decoders import decode_file
from mri_hpc.intake.decoding.dicom.listing import DUPLICATE, find_series
from mri_hpc.intake.decoding.group_reader import GroupReader
from mri_hpc.intake.decoding.masks import brains_alone, find_masks
from mri_hpc.intake.decoding.pictures import png_bytes
from mri_hpc.intake.decoding.recipe import Recipe
from mri_hpc.intake.decoding.samples import Sample
from mri_hpc.intake.decoding.sequence import choice_in
from mri_hpc.intake.kinds import Kinds
from mri_hpc.intake.labels.images import Image, Rejected, as_text
from mri_hpc.intake.labels.persons import nfc
from mri_hpc.results.answers.answer import UNKNOWN, Answer, Judged
from mri_hpc.results.answers.appearance import appearance_of
from mri_hpc.results.answers.kept_pictures import KeptPictures
from mri_hpc.results.answers.resemblance import NoResemblance, Resemblance
from mri_hpc.results.statistics.patient_model import PatientModel

T = TypeVar("T")

IMAGES_AT_ONCE = 64

Model = Callable[[np.ndarray], np.ndarray]
"""From images, uint8 or uint16 (n, H, W), to probabilities, float64 (n, classes); behind them what attention
says, (n, 1 + classes), where patients are pooled by it."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Asked:
    """One finished run, as it is asked about images."""

    classes: tuple[str, ...]
    model: Model
    patient_model: PatientModel | None
    resemblance: Resemblance | NoResemblance = UNKNOWN


def judge(
    images: Sequence[Image],
    recipe: Recipe,
    runs: Sequence[Asked],
    *,
    keep_pictures: bool = False,
    on_rejected: Callable[[Rejected], None] = lambda rejected: None,
    progress: Callable[[Sequence[Image]], Iterable[Image]] = lambda images: images,
) -> list[Answer]:
    """Ask runs about images, some at a time, each read once for all; return the answer of each run.

    recipe: of all runs. on_rejected: told at once of each image that cannot be read. progress: gives the
    images on, one by one.
    """
    found = _by_series(images, recipe)
    images, refused = found.images, list(found.refused)
    # Masks of lesions say what is asked here.
    recipe = replace(recipe, masks=brains_alone(recipe.masks), without_lesion="")
    for rejected in refused:
        on_rejected(rejected)
    files: dict[tuple[str, str], list[str]] = defaultdict(list)
    for image in images:
        files[_group(image)].append(_below_root(image.path))
    reader = GroupReader(Path("/"), recipe, files.__getitem__)

    def readable() -> Iterator[tuple[Image, str, Sample]]:
        for image in progress(images):
            try:
                samples = _samples(image, reader)
            except BadSource as bad:
                refused.append(Rejected(path=image.path, reason=str(bad)))
                on_rejected(refused[-1])
            else:
                is_own = image.is_own_patient and len(samples) > 1
                patient = as_text(image.path) if is_own else image.patient
                yield from ((image, patient, sample) for sample in samples)

    is_looked_at = any(isinstance(run.resemblance, Resemblance) for run in runs)
    kept = KeptPictures() if keep_pictures else None
    judged: list[list[Judged]] = [[] for _ in runs]
    for batch in _in_batches(readable()):
        pixels = np.stack([sample.pixels for *_whose, sample in batch])
        unasked = [_unasked(*one, kept) for one in batch]
        appearance = appearance_of(pixels) if is_looked_at else np.empty((len(batch), 0))
        for own, run in zip(judged, runs, strict=True):
            own += _answered(unasked, run, pixels, appearance)
    return [
        Answer(
            classes=run.classes,
            images=tuple(own),
            rejected=tuple(refused),
            left_out_series=found.left_out,
            patient_model=run.patient_model,
            resemblance=run.resemblance,
        )
        for own, run in zip(judged, runs, strict=True)
    ]


def _unasked(image: Image, patient: str, sample: Sample, kept: KeptPictures | None) -> Judged:
    """Make what every run's answer about an image shares."""
    return Judged(
        name=_name(image, sample),
        patient=patient,
        probabilities=np.empty(0),
        place=_place(_name(image, sample)),
        kept=kept.keep(png_bytes(_in_8_bits(sample.pixels))) if kept else None,
    )


def _answered(
    unasked: Sequence[Judged], run: Asked, pixels: np.ndarray, appearance: np.ndarray
) -> Iterator[Judged]:
    """Yield images with what one run says of them."""
    num = len(run.classes)
    known = run.resemblance.space.distances(appearance) if isinstance(run.resemblance, Resemblance) else None
    distances = np.zeros(len(unasked)) if known is None else known
    for image, answered, distance in zip(unasked, run.model(pixels), distances.tolist(), strict=True):
        attention = answered[num:] if len(answered) > num else None
        yield replace(image, probabilities=answered[:num], attention=attention, distance=distance)


@dataclass(frozen=True, kw_only=True)
class _BySeries:
    """Images to be judged, the files of each series as one."""

    images: Sequence[Image]
    refused: Sequence[Rejected] = ()
    """Files that hold an instance once more."""
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Series that the run does not take, by kind."""


def _by_series(images: Sequence[Image], recipe: Recipe) -> _BySeries:
    """Join the files of each series that the recipe takes, and volumes and their masks, into one image."""
    root = Path("/")
    by_path = {_below_root(image.path): image for image in images}
    masks = find_masks(root, by_path, recipe.masks, is_any_root=True)
    brains = find_masks(root, by_path, brains_alone(recipe.masks), is_any_root=True)
    series = find_series(root, by_path, kept=None).beside(brains)
    chosen = Kinds(root, series).chosen([*by_path], choice_in(recipe.series))
    if series.are_single_files and not masks:
        return _BySeries(images=[by_path[path] for path in chosen.paths], left_out=chosen.left_out)
    joined = [
        replace(
            by_path[path],
            others=tuple(root / other for other in series.files_of(path)[1:]),
            **_patient_in(by_path[path], series.named(path).patient),
        )
        for path in chosen.paths
        if series.files_of(path) and not series.is_duplicate(path) and not masks.is_mask(path)
    ]
    again = [
        Rejected(path=by_path[path].path, reason=DUPLICATE)
        for path in chosen.paths
        if series.is_duplicate(path)
    ]
    return _BySeries(images=joined, refused=again, left_out=chosen.left_out)


def _patient_in(image: Image, named: str) -> dict[str, Any]:
    """Return the patient of a series, where its header names one and nothing else was asked for."""
    return {"patient": nfc(named), "is_own_patient": False} if named and image.may_name_patient else {}


def _below_root(path: Path) -> str:
    """Return a path from / on: files that are named by users lie below no other root."""
    return str(path.absolute().relative_to("/"))


def _group(image: Image) -> tuple[str, str]:
    """Return whose window an image has: its patient's, else its folder's. As in groups.py."""
    return image.patient, "" if image.patient else str(image.path.parent)


def _samples(image: Image, reader: GroupReader[tuple[str, str]]) -> list[Sample]:
    """Decode one file in the window of its group; BadSource says why it cannot be."""
    kept = reader.kept(_below_root(image.path), _group(image))
    images = kept.images if kept else decode_file(image.path, reader.recipe, image.others)
    return [sample for sample, _image in reader.samples(images, _group(image))]


def _place(name: str) -> tuple[tuple[int, str], ...]:
    """Return what sorts slice 2 before slice 10."""
    parts = re.split(r"([0-9]+)", name)
    return tuple((int(part), "") if part.isdecimal() else (-1, part) for part in parts)


def _in_8_bits(pixels: np.ndarray) -> np.ndarray:
    """Return pixels as a screen shows them: uint8, (H, W)."""
    return pixels if pixels.dtype == np.uint8 else (pixels >> 8).astype(np.uint8)


def _in_batches(items: Iterable[T]) -> Iterator[list[T]]:
    batch: list[T] = []
    for item in items:
        batch.append(item)
        if len(batch) == IMAGES_AT_ONCE:
            yield batch
            batch = []
    if batch:
        yield batch


def _name(image: Image, sample: Sample) -> str:
    return f"{as_text(image.path)}#{sample.frame}" if sample.frame else as_text(image.path)
