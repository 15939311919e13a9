"""Masks that lie beside volumes: which files they are. None is computed.

A pattern leads from a volume to its mask. Without a slash it is a name in the same folder; with one it is a
path from that folder, else from the source root. ``{stem}`` is the volume's name without its ending,
``{name}`` the name, ``{folder}`` the folder that it lies in, ``{subject}`` and ``{session}`` those of BIDS.
In the last part ``*`` is any text, so that one file fits; a folder ``*`` is that of the volume's own path:

    {stem}_mask.nii.gz        p1/t1.nii.gz       p1/t1_mask.nii.gz
    *-seg.nii.gz              p1/p1-t1c.nii.gz   p1/p1-seg.nii.gz
    */seg/{name}              p1/img/t1.nii.gz   p1/seg/t1.nii.gz

Brain masks say where grey levels are taken from, and which slices show a head. Lesion masks say which slices
show what the label of the volume is about.
"""

import fnmatch
import functools
import glob
import re
import string
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from mri_hpc.base.errors import BadSource, UserError
from mri_hpc.intake.decoding.volumes.names import is_volume_name, stem_of
from mri_hpc.intake.files.content import names_in
from mri_hpc.intake.labels.bids import session_of, subject_of

BRAIN, LESION = "brain", "lesion"
KINDS = (BRAIN, LESION)
WORDS = {
    BRAIN: re.compile(r"brain|skull|bet(?![a-z])", re.IGNORECASE),
    LESION: re.compile(r"seg|lesion|tumou?r|roi|stroke", re.IGNORECASE),
}
"""Words in a pattern that tell the kind of its masks."""
FIELDS = ("stem", "name", "folder", "subject", "session")
NO_MASK = "no mask beside it"
SEVERAL = "several files that could be its mask"


def read_patterns(given: Sequence[str]) -> tuple[str, ...]:
    """Return patterns as a recipe has them, KIND:PATTERN, one of each kind; UserError where one is none."""
    found: dict[str, str] = {}
    for text in given:
        kind, pattern = _kind_and_pattern(text)
        _check(pattern, text)
        if found.setdefault(kind, pattern) != pattern:
            raise UserError(f"--masks takes one pattern of {kind} masks, got {found[kind]!r} and {pattern!r}")
    return tuple(f"{kind}:{found[kind]}" for kind in KINDS if kind in found)


def _kind_and_pattern(text: str) -> tuple[str, str]:
    kind, colon, pattern = text.partition(":")
    if colon and kind in KINDS:
        return kind, pattern
    meant = [kind for kind in KINDS if WORDS[kind].search(text)]
    if len(meant) != 1:
        raise UserError(
            f"--masks {text!r}: are these of brains or of lesions? Type brain:{text} or lesion:{text}"
        )
    return meant[0], text


def _check(pattern: str, text: str) -> None:
    filled = pattern.format(**dict.fromkeys(FIELDS, "x")) if _has_plain_fields(pattern) else ""
    parts = filled.split("/")
    is_same_for_all = filled == pattern and "*" not in pattern
    if (
        is_same_for_all
        or "" in parts
        or ".." in parts
        or any("*" in part and part != "*" for part in parts[:-1])
    ):
        raise UserError(
            f"--masks {text!r} leads to no mask: a name, or a path from the volume's folder or the source, "
            "with "
            f"{', '.join(f'{{{field}}}' for field in FIELDS)} or '*', such as '{{stem}}_mask.nii.gz'"
        )


def _has_plain_fields(pattern: str) -> bool:
    """Tell whether all fields of a pattern are FIELDS, as they are: no part of one, and not padded."""
    try:
        parts = list(string.Formatter().parse(pattern))
    except ValueError:
        return False
    fields = [part[1:] for part in parts if part[1] is not None]
    return all(name in FIELDS and not form and not conversion for name, form, conversion in fields)


class Masks:
    """The masks of the volumes below a root."""

    def __init__(self, patterns: Sequence[str], found: Mapping[str, Sequence[Sequence[str]]]) -> None:
        """patterns: as read_patterns gives them; found: of each volume the files that fit each of them."""
        self._kinds = [pattern.partition(":")[0] for pattern in patterns]
        self._found = found
        self._files = frozenset(file for fits in found.values() for files in fits for file in files)

    def __len__(self) -> int:
        return len(self._files)

    def is_mask(self, path: str) -> bool:
        """Tell whether a file is a mask of another one."""
        return path in self._files

    def files_of(self, path: str) -> tuple[str, ...]:
        """Return the masks of a volume, in the order of KINDS; of each kind that one file fits."""
        return tuple(files[0] for files in self._found.get(path, ()) if len(files) == 1)

    def check(self, path: str, label: str, without_lesion: str) -> None:
        """Raise BadSource where a volume lacks a mask. label: its class; without_lesion: that has none."""
        for kind, files in zip(self._kinds, self._found.get(path, ()), strict=False):
            if len(files) > 1:
                raise BadSource(f"{SEVERAL} ({kind})")
            is_needed = kind == BRAIN or not without_lesion or label != without_lesion
            if not files and is_needed:
                raise BadSource(f"{NO_MASK} ({kind})")


NO_MASKS = Masks((), {})


def find_masks(
    root: Path, paths: Iterable[str], patterns: Sequence[str], *, is_any_root: bool = False
) -> Masks:
    """Find the masks of volumes.

    paths: of all files, below the root; patterns: as of read_patterns; is_any_root: True where any folder
    above a volume may be the source root that patterns were written for.
    """
    if not patterns:
        return NO_MASKS
    names = functools.cache(lambda folder: names_in(root / folder))
    rules = [pattern.partition(":")[2] for pattern in patterns]
    found = {}
    for path in paths:
        if is_volume_name(path):
            above = path.count("/") if is_any_root else 0
            found[path] = [_fitting(path, rule, range(above, -1, -1), names) for rule in rules]
    return Masks(patterns, found)


def brains_alone(patterns: Sequence[str]) -> tuple[str, ...]:
    """Return the patterns that say something of an image whose class is not known."""
    return tuple(pattern for pattern in patterns if pattern.startswith(f"{BRAIN}:"))


def _fitting(
    path: str, rule: str, roots: Iterable[int], names: Callable[[str], Sequence[str]]
) -> Sequence[str]:
    """Return the files to which a rule leads from a volume. roots: numbers of folders above the source."""
    folder, _slash, name = path.rpartition("/")
    own = folder.split("/") if folder else []
    fields = {
        "stem": stem_of(path), "name": name, "folder": own[-1] if own else "",
        "subject": subject_of(path), "session": session_of(path),
    }  # fmt: skip
    *folders, last = rule.split("/")
    below = [part.format(**fields) for part in folders]
    plain = {field: glob.escape(text) for field, text in fields.items()}
    fits = re.compile(fnmatch.translate(last.format(**plain)))
    for start in _starts(own, below, roots):
        where = "/".join(part for part in start if part)
        found = [f"{where}/{one}" if where else one for one in names(where) if fits.match(one)]
        if found:
            return found
    return ()


def _starts(own: Sequence[str], below: Sequence[str], roots: Iterable[int]) -> Iterator[Sequence[str]]:
    """Yield the folders in which a mask may lie. own: that of the volume; below: those of the rule."""
    if "*" not in below:
        yield [*own, *below]
    for root in roots if below else ():
        # A folder "*" is the volume's own: that of another patient never fits.
        ours = dict(enumerate(own[root:]))
        yield [*own[:root], *(ours.get(at, part) if part == "*" else part for at, part in enumerate(below))]
