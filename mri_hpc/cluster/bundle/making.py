"""The making of an archive for a help desk: gathered, listed, and written where that is wanted."""

import shlex
from collections.abc import Sequence
from pathlib import Path

from mri_hpc.base.command import print_json
from mri_hpc.cluster.bundle.archive import write_archive
from mri_hpc.cluster.bundle.contents import Piece, pieces_of
from mri_hpc.cluster.bundle.masking import masks_of
from mri_hpc.cluster.doctor.checks import examine
from mri_hpc.cluster.doctor.finding import Check, Site
from mri_hpc.rundir.layout import open_run


def make_bundle(path: Path, site: Site, checks: Sequence[Check], *, is_written: bool, as_json: bool) -> None:
    """Gather what a help desk needs of the run at `path`, print the list, and write it if wanted."""
    run = open_run(path.absolute())
    masks = masks_of(run, site.environment)
    pieces = pieces_of(run, list(examine(site, checks)), masks, site.environment)
    archive = Path(f"{masks.masked(run.path.name)}-bundle.zip")
    num_bytes = write_archive(archive, pieces) if is_written else None
    if as_json:
        files = [{"name": one.name, "bytes": _size(one), "holds": one.holds} for one in pieces]
        print_json({"archive": str(archive), "bytes": num_bytes, "files": files, "unseen": masks.unseen})
        return
    widest = max(len(piece.name) for piece in pieces)
    for piece in pieces:
        print(f"  {piece.name:<{widest}} {_size(piece) / 1e3:8.1f} kB  {piece.holds}")
    print(
        "Names, ids and pseudonyms of patients, keys, files of images and names of users are taken out of it."
    )
    if masks.unseen:
        print(f"note: {masks.unseen}: pseudonyms are known by their form, a name that a log holds would stay")
    if num_bytes is None:
        words = shlex.join(["mri-hpc", "doctor", "--bundle", str(path), "--yes"])
        print(f"Nothing is written so far. To write {archive}: {words}")
    else:
        print(f"{archive} is written, {num_bytes / 1e3:.1f} kB: look into it, then send it to your help desk")


def _size(piece: Piece) -> int:
    return len(piece.text.encode())
