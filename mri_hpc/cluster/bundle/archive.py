"""The archive: a zip of a few texts, for its owner alone until it is sent."""

import io
import zipfile
from collections.abc import Sequence
from pathlib import Path

from mri_hpc.base.atomic import replace_bytes
from mri_hpc.cluster.bundle.contents import Piece

FIRST_DAY = (1980, 1, 1, 0, 0, 0)


def write_archive(path: Path, pieces: Sequence[Piece]) -> int:
    """Publish the pieces below a folder of the archive's name; return its size. It replaces one of before."""
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as archive:
        for piece in pieces:
            # Times would tell nothing that the ledger does not.
            entry = zipfile.ZipInfo(f"{path.stem}/{piece.name}", FIRST_DAY)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o600 << 16
            archive.writestr(entry, piece.text)
    replace_bytes(path, written.getvalue(), is_private=True)
    return len(written.getvalue())
