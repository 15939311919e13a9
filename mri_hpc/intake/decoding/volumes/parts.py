"""Parts: files that hold one volume together, a header and the voxels beside it. Headers tell, by name.

Of a pair the voxels lie in the file of the same name (``.hdr`` and ``.img``). Other headers name the file, or
one file a slice; only files in the folder of the header, or below it, are ever looked at.
"""

from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from mri_hpc.base.errors import BadSource
from mri_hpc.intake.decoding.volumes import meta_image, nrrd
from mri_hpc.intake.decoding.volumes.headers import is_pair, unzipped
from mri_hpc.intake.decoding.volumes.layout import TEXT_BYTES
from mri_hpc.intake.files.content import START_BYTES, opened_file
from mri_hpc.intake.files.fingerprint import size_and_time

OF_PAIRS = (".hdr", ".hdr.gz")
TEXTS = (".nhdr", ".nrrd", ".mhd", ".mha")
VOXELS = (".img", ".img.gz")
MOST_NAME = 255


def parts_among(root: Path, paths: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """Find the headers among files below a root; return the files of each such volume, the header first.

    Headers without their voxels are left out.
    """
    found = {}
    for path in paths:
        ending = path[-8:].lower()
        if ending.endswith((*OF_PAIRS, *TEXTS)) and (others := _others(root, path, ending)):
            found[path] = (path, *others)
    return found


def _others(root: Path, path: str, ending: str) -> tuple[str, ...]:
    """Return the files of voxels that belong to a header; none where one of them is not there."""
    try:
        with opened_file(root / path) as file:
            if ending.endswith(OF_PAIRS):
                return _beside(root, path, file.read(START_BYTES))
            named = _named_in(file.read(TEXT_BYTES))
    except (OSError, BadSource):
        return ()
    folder = path.rpartition("/")[0]
    others = tuple(str(PurePosixPath(folder, name)) for name in named)
    is_here = all(map(_is_below, named)) and all(size_and_time(root, other) for other in others)
    return others if is_here else ()


def _named_in(text: bytes) -> tuple[str, ...]:
    if nrrd.is_nrrd(text):
        return nrrd.data_files(text)
    return meta_image.data_files(text) if meta_image.is_meta_image(text) else ()


def _is_below(name: str) -> bool:
    """Tell whether a name that a header gives leads nowhere but below its own folder."""
    parts = PurePosixPath(name).parts
    return (
        not name.startswith("/") and ".." not in parts and all(0 < len(part) <= MOST_NAME for part in parts)
    )


def _beside(root: Path, path: str, start: bytes) -> tuple[str, ...]:
    if not is_pair(unzipped(start)):
        return ()
    stem = path[: path.lower().rindex(".hdr")]
    endings = (variant for ending in VOXELS for variant in (ending, ending.upper()))
    beside = next((stem + ending for ending in endings if size_and_time(root, stem + ending)), None)
    return (beside,) if beside else ()
