"""BIDS: what the names of files in such a tree say, and which files of it are pictures.

A tree has ``dataset_description.json`` and folders ``sub-X/[ses-Y/]anat``. Names of files are entities and a
suffix, ``sub-01_ses-2_acq-fast_T1w.nii.gz``: the suffix tells the kind.
"""

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

DESCRIPTION, IGNORED = "dataset_description.json", ".bidsignore"
SUBJECT, SESSION, PICTURES = "sub-", "ses-", "anat"
NAME = re.compile(r"(?:[A-Za-z]+-[A-Za-z0-9+]+_)+(?P<suffix>[A-Za-z0-9]+)\.")
PICTURE = re.compile(rf"{SUBJECT}[^/]+/(?:{SESSION}[^/]+/)?{PICTURES}/.+")
SEGMENTED = re.compile(r"(?:.*mask|.*seg)", re.IGNORECASE)
"""Suffixes of masks and segmentations: mask, defacemask, dseg, probseg."""
SIDECARS = (".json", ".tsv", ".tsv.gz", ".bval", ".bvec", ".txt", ".md", ".rst", ".csv")
TEXTS = ("README", "CHANGES", "LICENSE", "CITATION.cff")


def is_bids(root: Path) -> bool:
    """Tell whether a folder is the root of a BIDS tree."""
    return (root / DESCRIPTION).is_file() and any(folder.is_dir() for folder in root.glob(f"{SUBJECT}*"))


def suffix_of(path: str) -> str:
    """Return the suffix of a file, such as T1w or FLAIR; empty where its name is none of BIDS."""
    found = NAME.match(path.rpartition("/")[2])
    return found["suffix"] if found else ""


def subject_of(path: str) -> str:
    """Return the folder of the subject, such as sub-01; empty where there is none."""
    return next((name for name in path.split("/")[:-1] if name.startswith(SUBJECT)), "")


def session_of(path: str) -> str:
    """Return the folder of the session, such as ses-2; empty where there is none."""
    return next((name for name in path.split("/")[:-1] if name.startswith(SESSION)), "")


@dataclass(frozen=True, kw_only=True)
class Tree:
    """The rules by which files of one BIDS tree are left out."""

    is_derivative: bool
    """True of what a program made of another tree, whose pictures all have a description."""
    ignored: Sequence[tuple[re.Pattern[str], bool]]
    """Patterns of .bidsignore, each with whether it is to ignore; the last one that fits counts."""

    def left_out_as(self, path: str) -> str:
        """Return as what a file is left out; empty of a picture. path: below the root."""
        name = path.rpartition("/")[2]
        if self._is_ignored(path):
            return f"ignored by {IGNORED}"
        if not path.startswith(SUBJECT) and "/" in path:
            return f"in {path.partition('/')[0]}"
        if name.lower().endswith(SIDECARS) or name in TEXTS:
            return "sidecars and tables"
        if not PICTURE.fullmatch(path):
            return f"not in {PICTURES}"
        if SEGMENTED.fullmatch(suffix_of(path)):
            return "masks and segmentations"
        return "" if self.is_derivative or "_desc-" not in name else "derived from others (desc-)"

    def kept(self, paths: Iterable[str]) -> tuple[list[str], Counter[str]]:
        """Return the pictures among files, and the number of all others by as what they are left out."""
        kept, left_out = [], Counter[str]()
        for path in paths:
            why = self.left_out_as(path)
            if why:
                left_out[why] += 1
            else:
                kept.append(path)
        return kept, left_out

    def _is_ignored(self, path: str) -> bool:
        return next((ignores for fits, ignores in reversed(self.ignored) if fits.fullmatch(path)), False)


def tree_at(root: Path) -> Tree:
    """Read the rules of a tree. What cannot be read says nothing."""
    try:
        described = json.loads((root / DESCRIPTION).read_bytes())
        is_derivative = isinstance(described, dict) and described.get("DatasetType") == "derivative"
    except (OSError, ValueError):
        is_derivative = False
    try:
        lines = (root / IGNORED).read_text(encoding="utf-8-sig", errors="replace").splitlines()
    except OSError:
        lines = []
    return Tree(
        is_derivative=is_derivative,
        ignored=[_ignoring(line) for line in map(str.strip, lines) if _is_rule(line)],
    )


def _is_rule(line: str) -> bool:
    return bool(line) and not line.startswith("#")


def _ignoring(line: str) -> tuple[re.Pattern[str], bool]:
    """Read a line of .bidsignore, which is as one of .gitignore: of a path, or of a folder on the way to it.

    A pattern with a slash but at its end begins at the root; ``*`` and ``?`` stand for no slash, ``**`` does.
    """
    given = line.removeprefix("!")
    anchored = "/" in given.rstrip("/")
    parts = re.split(r"(\*\*/|\*\*|\*|\?)", given.strip("/"))
    meant = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    text = "".join(meant.get(part, re.escape(part)) for part in parts)
    below = "/.*" if given.endswith("/") else "(?:/.*)?"
    return re.compile(f"{'' if anchored else '(?:.*/)?'}{text}{below}"), not line.startswith("!")
