"""Print what becomes of each DICOM file, or volume, below some folders, as the tables in docs/ have it.

    python tools/table_of_dicom.py NAME=FOLDER...

A series is read as `preprocess` reads it: all its files together. NAME stands in the table for the folder.
"""

import argparse
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from mri_hpc.base.errors import BadSource
from mri_hpc.intake.decoding.decoders import decode
from mri_hpc.intake.decoding.dicom.elements import is_dicom
from mri_hpc.intake.decoding.dicom.listing import DUPLICATE, Series, find_series
from mri_hpc.intake.decoding.recipe import Recipe
from mri_hpc.intake.files.content import read_content
from mri_hpc.intake.files.sources import list_sources

NAMED = (
    ".dcm",
    ".dicom",
    ".ima",
    ".nii",
    ".nii.gz",
    ".hdr",
    ".img",
    ".img.gz",
    ".mgh",
    ".mgz",
    ".nrrd",
    ".nhdr",
    ".mha",
    ".mhd",
)
FIRST_BYTES = 256
MOST_NAMED = 3
"""Files of a series that are named."""


def main() -> int:
    """Print the table."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("folders", nargs="+", metavar="NAME=FOLDER")
    print("| files | what becomes of them |\n|---|---|")
    for given in options.parse_args().folders:
        name, _is, folder = given.partition("=")
        for outcome, sources in sorted(_outcomes(Path(folder)).items()):
            files = ", ".join(sorted(sources))
            print(f"| {name}: {files} | {outcome} |")
    return 0


def _outcomes(root: Path) -> dict[str, list[str]]:
    """Return the sources of each outcome, in words."""
    found: dict[str, list[str]] = {}
    paths = [path for path in list_sources(root) if _is_wanted(root / path)]
    series = find_series(root, paths, kept=None)
    for files in _sources(paths, series):
        outcome = DUPLICATE if series.is_duplicate(files[0]) else _outcome(root, files)
        found.setdefault(outcome, []).append(_named(files))
    return found


def _is_wanted(file: Path) -> bool:
    with file.open("rb") as opened:
        return is_dicom(opened.read(FIRST_BYTES)) or file.name.lower().endswith(NAMED)


def _sources(paths: Sequence[str], series: Series) -> Iterator[tuple[str, ...]]:
    for path in paths:
        files = series.files_of(path)
        if files:
            yield files


def _outcome(root: Path, files: tuple[str, ...]) -> str:
    try:
        images = list(decode(read_content(root, files), Recipe()))
    except BadSource as error:
        return str(error)
    notes = "".join(f"; {note}" for note in images[0].notes)
    return f"stored{notes}"


def _named(files: Sequence[str]) -> str:
    if len(files) <= MOST_NAMED:
        return ", ".join(f"`{file}`" for file in sorted(files))
    return f"`{min(files)}` to `{max(files)}` ({len(files)})"


if __name__ == "__main__":
    sys.exit(main())
