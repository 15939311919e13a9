"""Names of classes that look like one: ``glioma`` and ``Glioma_tumor``, ``metastasis`` and ``metastases``."""

import re
from collections import defaultdict
from collections.abc import Iterable

from mri_hpc.intake.labels.doubts import Doubt

TUMOUR = re.compile(r"tumou?rs?")
ENDING = re.compile(r"(?<=\w{4})(es|is|s)$")
MOST_SHOWN = 4


def look_alike(names: Iterable[str]) -> list[list[str]]:
    """Return the names that differ only in case, in what parts words, in plural, or by the word tumour."""
    groups = defaultdict(list)
    for name in sorted(set(names)):
        groups[_stem(name)].append(name)
    return [group for stem, group in sorted(groups.items()) if stem and len(group) > 1]


def doubts_of_classes(names: Iterable[str], stored: Iterable[str] = ()) -> list[Doubt]:
    """Return a doubt where names of classes look like one. stored: those that are classes for good."""
    new = {*names} - {*stored}
    groups = [group for group in look_alike({*new, *stored}) if new & {*group}]
    if not groups:
        return []
    shown = ", ".join(" and ".join(map(repr, group)) for group in groups[:MOST_SHOWN])
    more = f" and {len(groups) - MOST_SHOWN} more" if len(groups) > MOST_SHOWN else ""
    count = len({*new, *stored})
    return [
        Doubt(
            kind="classes-look-alike",
            count=len(groups),
            text=f"{count} classes, of which some look like one: {shown}{more}. Give each one name, in the "
            "folders or in a CSV (--labels); stored images by store relabel",
            accept="classes",
        )
    ]


def _stem(name: str) -> str:
    words = re.sub(r"[\W_]+", "", name.casefold())
    without = TUMOUR.sub("", words)
    return ENDING.sub("", without or words)
