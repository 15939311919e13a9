"""One answer of several runs, folds or seeds: the mean of what they say, and how far they disagree."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from mri_hpc.base.errors import UserError
from mri_hpc.intake.labels.images import Rejected
from mri_hpc.results.answers.answer import Answer, Judged, JudgedPatient
from mri_hpc.results.answers.decision import NoDecision
from mri_hpc.results.answers.promised_sets import NoSets
from mri_hpc.results.answers.resemblance import NOT_LIKE, Verdict
from mri_hpc.results.statistics.patients import ValidationPatients

NOT_COMPARED = (
    "How often the mean of these runs is right is not known: no patient was in the validation of all of them"
)
OF_ONE_RUN = "it is one run's, and would promise nothing for the mean of several; ask one run alone for it"
NO_DECISION, NO_SETS = NoDecision(reason=OF_ONE_RUN), NoSets(reason=OF_ONE_RUN)


@dataclass(frozen=True, kw_only=True)
class VerdictOfRuns(Verdict):
    """Tells whether one patient, or one picture, is like what several runs were trained on."""

    verdicts: tuple[Verdict, ...]
    """Of the runs, of which at least half have to call it unlike."""

    @property
    def p(self) -> float | None:
        """Return none: runs that share patients have no p-value together."""
        return None

    @property
    def is_unlike(self) -> bool:
        """Tell whether at least half of the runs that know it call it unlike."""
        return self.is_known and 2 * self._num_unlike >= len(self._known)

    @property
    def words(self) -> str:
        """Say it in one sentence."""
        if not self.is_known:
            return super().words
        of = f"{self._num_unlike} of {len(self._known)} runs call it so"
        start = "This is" if self.is_unlike else "No sign that this is"
        return (
            f"{start} {NOT_LIKE}, by grey values, edges, extent or coarse shape: {of}; each would do so by "
            "mistake for 1 in 10 patients like those of its validation"
        )

    @property
    def _known(self) -> list[Verdict]:
        return [one for one in self.verdicts if one.is_known]

    @property
    def _num_unlike(self) -> int:
        return sum(one.is_unlike for one in self._known)

    def to_dict(self) -> dict[str, Any]:
        """Give plain values for JSON."""
        return {
            "is_unlike": self.is_unlike if self.is_known else None,
            "words": self.words,
            "runs": [one.to_dict() for one in self.verdicts],
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class AnswerOfRuns(Answer):
    """The mean of several runs' answers about the same images."""

    members: tuple[Answer, ...]
    """Of each run, calibrated by its own calibration.json."""

    def renamed(self, rename: Callable[[Judged], Judged], rejected: tuple[Rejected, ...]) -> "AnswerOfRuns":
        """Return the same answer about images of other names."""
        members = tuple(one.renamed(rename, rejected) for one in self.members)
        images = tuple(rename(image) for image in self.images)
        return replace(self, images=images, rejected=rejected, members=members)

    def verdicts(self) -> list[Verdict]:
        """Tell of each image whether its patient is like the training data, or the picture by itself."""
        return [_together(found) for found in zip(*(one.verdicts() for one in self.members), strict=True)]

    def patients(self) -> list[JudgedPatient]:
        """Return all patients that are named: the mean of what the runs say of each, and how far they go."""
        return [
            replace(
                found[0],
                probabilities=_mean([one.probabilities for one in found]),
                of_network=_mean([one.of_network for one in found]),
                spread=_spread([one.probabilities for one in found]),
                verdict=_together([one.verdict for one in found]),
            )
            for found in zip(*(one.patients() for one in self.members), strict=True)
        ]

    def is_compared(self, one: JudgedPatient) -> bool:
        """Tell whether validation patients of like scores show how often it is right."""
        return bool(self.validation) and super().is_compared(one)

    def like_in_words(self, one: JudgedPatient) -> str:
        """Say in one sentence how often validation patients of like scores had it, or why none tells."""
        return super().like_in_words(one) if self.validation else NOT_COMPARED

    def in_words(self) -> str:
        """Say for which clinic the probabilities hold, by run."""
        mean = (
            f"Probabilities are the mean of {len(self.members)} runs, each with its own calibration; lowest "
            "and highest are theirs, and no interval."
        )
        whose = zip((one.model_digest for one in self.members), self.members, strict=True)
        none = [] if self.validation else [f"{NOT_COMPARED}."]
        return " ".join([mean, *none, *(f"Of {digest[:8]}: {one.in_words()}" for digest, one in whose)])

    def pooling_in_words(self, images: str) -> str:
        """Say how each run makes a patient's probabilities of the images', where they do it alike once."""
        return " or ".join(dict.fromkeys(one.pooling_in_words(images) for one in self.members))

    def to_dict(self) -> dict[str, Any]:
        """Return plain values for JSON."""
        return {**super().to_dict(), "model_digests": [one.model_digest for one in self.members]}


def join_answers(runs: Sequence[Path], answers: Sequence[Answer]) -> AnswerOfRuns:
    """Join what runs say about the same images; UserError where the runs do not fit each other.

    answers: of each run, calibrated.
    """
    first = answers[0]
    for run, other in zip(runs[1:], answers[1:], strict=True):
        _refuse_other_images(runs[0], first, run, other)
    images = [
        replace(
            found[0],
            probabilities=_mean([one.probabilities for one in found]),
            spread=_spread([one.probabilities for one in found]),
        )
        for found in zip(*(one.images for one in answers), strict=True)
    ]
    whole = {
        **vars(first),
        "images": tuple(images),
        "decision": NO_DECISION,
        "sets": NO_SETS,
        "validation": _seen_by_none(answers),
        "model_digest": " ".join(one.model_digest or "unknown" for one in answers),
    }
    return AnswerOfRuns(**whole, members=tuple(answers))


def _seen_by_none(answers: Sequence[Answer]) -> ValidationPatients:
    """Return patients who are in validation for every run, with the mean of what the runs say of each.

    None of different snapshots, where one name may mean two people. Of every run they may have chosen the
    model: the mean is one of all ways to choose one of each.
    """
    if len({one.snapshot for one in answers}) > 1 or not answers[0].snapshot:
        return ValidationPatients()
    by_name = [{one.patient: one for one in answer.validation.patients} for answer in answers]
    shared = [name for name in by_name[0] if all(name in named for named in by_name)]
    patients = [
        replace(
            by_name[0][name],
            probabilities=tuple(_mean([np.array(named[name].probabilities) for named in by_name]).tolist()),
        )
        for name in shared
    ]
    choices = math.prod(answer.validation.choices for answer in answers)
    return ValidationPatients(patients=tuple(patients), choices=choices)


def refuse_other_classes(runs: Sequence[tuple[Path, Sequence[str]]]) -> None:
    """Raise UserError where runs answer other classes than the first. runs: each with its classes."""
    (first, wanted), *others = runs
    for name, found in others:
        if tuple(found) != tuple(wanted):
            raise UserError(
                f"{first} answers {', '.join(wanted)}, and {name} answers {', '.join(found)}: "
                "only runs of the same classes can be asked together"
            )


def _refuse_other_images(first_run: Path, first: Answer, run: Path, other: Answer) -> None:
    def judged(answer: Answer) -> list[tuple[str, str]]:
        return [(image.name, image.patient) for image in answer.images]

    if judged(first) != judged(other):
        raise UserError(
            f"{first_run} takes {len(first.images)} images of what was given, and {run} other ones, "
            f"{len(other.images)}: the recipes of their stores differ; ask them one by one"
        )
    if (first.patient_model is None) != (other.patient_model is None):
        raise UserError(f"of {first_run} and {run} only one judges patients: ask them one by one")


def _together(verdicts: Sequence[Verdict]) -> Verdict:
    known = [one for one in verdicts if one.is_known]
    reason = "" if known else verdicts[0].reason
    return VerdictOfRuns(num=0, num_as_far=0, reason=reason, verdicts=tuple(verdicts))


def _mean(of_runs: Sequence[np.ndarray]) -> np.ndarray:
    return np.asarray(np.mean(of_runs, axis=0))


def _spread(of_runs: Sequence[np.ndarray]) -> np.ndarray:
    return np.stack([np.min(of_runs, axis=0), np.max(of_runs, axis=0)])
