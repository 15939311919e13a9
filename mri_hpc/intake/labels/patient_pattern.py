"""Patients whose ids stand in the names of files alone: a regular expression finds them, or is suggested."""

import functools
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from mri_hpc.base.errors import BadSource, UserError
from mri_hpc.intake.labels.doubts import Doubt
from mri_hpc.intake.labels.folder_words import is_of_images
from mri_hpc.intake.labels.label import Label, at_site
from mri_hpc.intake.labels.persons import nfc

GROUPS = ("patient", "study", "site")
MOST_LETTERS = 1024
"""Of the end of a path: all in which is searched, whatever the name."""
FITS = 0.95
"""Fraction of the images without a patient that a suggestion must fit."""
FEWEST_IMAGES = 1.5
"""On average of a patient in a folder: names that are numbered through are those of images."""
FORMS = ("{}", "{}[^/]*$", "(?:^|/){}[^/]*$")
"""Of a pattern that is to fit names of files, and is searched in paths: the first that does is suggested."""
SHAPED = 10_000
"""Names, evenly spread, by which patterns are made; all are tried on them."""
MOST_NUMBERS = 3
"""In a patient's id, such as BraTS20_Training_017."""


@dataclass(frozen=True)
class PatientPattern:
    """A regular expression with a group named patient, and perhaps study and site; searched in paths."""

    text: str

    def __post_init__(self) -> None:
        example = "--patient-pattern takes a regular expression such as '(?P<patient>P[0-9]+)_'"
        try:
            groups = re.compile(self.text).groupindex
        except (re.error, OverflowError, RecursionError) as error:
            raise UserError(f"{example}, found {self.text!r}: {error}") from None
        if "patient" not in groups or set(groups) - {*GROUPS}:
            found = ", ".join(groups) or "none"
            raise UserError(
                f"{example}, with a group named patient, and perhaps study and site; found {found} "
                f"in {self.text!r}"
            )
        if repeats_a_repeat(self.text):
            raise UserError(
                f"{example}; {self.text!r} repeats a group that itself repeats or chooses, which can take "
                "for ever: write the letters that may follow each other as [...]"
            )

    def named(self, path: str) -> dict[str, str]:
        """Return what the groups find in a path, by name; empty where none is a patient."""
        found = re.search(self.text, path[-MOST_LETTERS:])
        groups = {name: text for name, text in found.groupdict().items() if text} if found else {}
        return groups if "patient" in groups else {}

    def onto(self, label: Label, path: str) -> Label:
        """Return the label with the patient, study and site that the path names; as it is where none fits.

        BadSource where they cannot be stored.
        """
        named = self.named(path)
        if not named:
            return label
        if not "".join(named.values()).isprintable():
            raise BadSource("name of a patient with characters that cannot be printed")
        site = "/".join(filter(None, [label.site, named.get("site", "")]))
        study = at_site(site, named["study"]) if "study" in named else label.study
        return replace(label, patient=at_site(site, named["patient"]), study=study)

    def refuse_idle(self, paths: Sequence[str]) -> None:
        """Raise UserError where no path names a patient, with a pattern that would fit, if one is found.

        paths: of all files, below the root.
        """
        if not paths or any(self.named(path) or self.named(nfc(path)) for path in paths):
            return
        better = suggestion(paths)
        what = better.text if better else "write one that fits, such as '(?P<patient>[^/_]+)_[^/]*$'"
        raise UserError(
            f"--patient-pattern {self.text!r} fits none of {len(paths)} files; paths below --source are as "
            f"{_likeness(paths[0])!r}, with a, A and 0 for letters and digits: {what}"
        )


def _likeness(path: str) -> str:
    """Return a path without what may name a person."""
    name, dot, ending = path.rpartition(".")
    letters = "".join(
        "0" if one.isdecimal() else ("A" if one.isupper() else "a") if one.isalpha() else one for one in name
    )
    return f"{letters}{dot}{ending}"


def repeats_a_repeat(pattern: str) -> bool:
    """Tell whether a group that repeats, or has alternatives, is itself repeated without a bound in sight.

    ``(a+)+``, ``(a|aa)*`` and ``((ab)?c*){9}`` are; ``(a+)?`` and ``[ab]+`` are not.
    """
    plain = re.sub(r"\\.", "x", pattern)
    plain = re.sub(r"\[\^?\]?[^\]]*\]", "x", plain)
    holds = [False]
    for place, letter in enumerate(plain):
        if letter == "(":
            holds.append(False)
        elif letter == ")" and len(holds) > 1:
            inner = holds.pop()
            is_repeated = plain[place + 1 : place + 2] in ("+", "*", "{")
            if inner and is_repeated:
                return True
            holds[-1] |= inner
        elif letter in "+*{|":
            holds[-1] = True
    return False


def suggestion(paths: Sequence[str]) -> Doubt | None:
    """Return a pattern that would name patients, with what it would make of them; None where none fits.

    paths: of images of which nothing names a patient.
    """
    names = [path.rpartition("/")[2] for path in paths]
    tried = set[tuple[str, str]]()
    for person, end in _beginnings(names[:: 1 + len(names) // SHAPED]):
        if (person, end) in tried:
            continue
        tried.add((person, end))
        wanted = _named(rf"^(?P<patient>{person}){end}", names)
        fits, patients = sum(map(bool, wanted)), set(wanted) - {""}
        # Each folder may count its images from 1 on.
        groups = {(path.rpartition("/")[0], name) for path, name in zip(paths, wanted, strict=True) if name}
        is_telling = len(patients) >= 2 and fits >= FEWEST_IMAGES * len(groups)
        if fits < FITS * len(paths) or not is_telling:
            continue
        if any(map(is_of_images, patients)):
            continue
        for form in FORMS:
            text = form.format(rf"(?P<patient>{person}){end}")
            if _named(text, paths) == wanted:
                made = f"--patient-pattern '{text}' would make {len(patients)} patients of them"
                fit = f"{fits} of {len(paths)} file names fit '{person}'"
                return Doubt(kind="patient-pattern", count=fits, text=f"{fit}: {made}")
    return None


def _beginnings(names: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield patterns of how most names begin, up to the first number, the second and so on; and what follows.

    Of ``TCGA_CS_4941_7.tif``: ``TCGA_CS_\\d+`` and ``_``, then ``[A-Za-z]+_[A-Za-z]+_\\d+`` and ``_``.
    """
    for count in range(1, MOST_NUMBERS + 1):
        begin = re.compile(rf"((?:\D*+\d++){{{count}}})([^0-9A-Za-z'])").match
        found = [one.groups() for one in map(begin, names) if one and "'" not in one[1]]
        # Thousands of names have a few beginnings but for their numbers.
        without_numbers = functools.partial(re.compile(r"\d+").sub, "0")
        alike = Counter((without_numbers(start), end) for start, end in found)
        for letters in (_escaped, _any_letters):
            shapes = Counter[tuple[str, str]]()
            for (start, end), count_alike in alike.items():
                shapes[_shape(start, letters), _escaped(end)] += count_alike
            yield from (shape for shape, _count in shapes.most_common(1))


def _shape(start: str, letters: Callable[[str], str]) -> str:
    return "".join(r"\d+" if part.isdecimal() else letters(part) for part in re.split(r"(\d+)", start))


def _any_letters(text: str) -> str:
    return re.sub("[A-Za-z]+", "[A-Za-z]+", _escaped(text))


def _named(pattern: str, texts: Sequence[str]) -> list[str]:
    return [one["patient"] if one else "" for one in map(re.compile(pattern).search, texts)]


def _escaped(text: str) -> str:
    # Not re.escape, which makes "\ " and "\-" of what needs none.
    return re.sub(r"([.^$*+?{}\[\]\\|()])", r"\\\1", text)
