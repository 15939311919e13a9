"""From the bytes of a source to canonical samples. Content tells what a file is, never its name."""

import hashlib
import os
import stat
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mri_hpc.base.errors import BadSource
from mri_hpc.intake.pictures import Placed, decode_picture
from mri_hpc.intake.recipe import Recipe

MAX_BYTES = 96 * 2**20
HEAD_BYTES = 1024
NIFTI_HEADER_BYTES = 348
# To zlib: a gzip header comes first.
GZIP = 31

NOT_READ_YET = "format not read"
WHAT_IS_READ = "JPEG, PNG, BMP and TIFF are"
CANNOT_OPEN = "file cannot be opened"
LINK_TO_NOTHING = "link to a file that is not there (git-annex: get it first)"

PICTURES = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
}
FOREIGN = {
    b"GIF8": "GIF", b"RIFF": "WebP", b"PK\x03\x04": "ZIP", b"%PDF": "PDF", b"\x89HDF": "HDF5",
    b"MATLAB 5.0": "MATLAB", b"\0\0\0\x0cjP  ": "JPEG 2000", b"\xff\x4f\xff\x51": "JPEG 2000",
    b"BZh": "bzip2", b"7z\xbc\xaf": "7-Zip", b"\x93NUMPY": "NumPy", b"SIMPLE  =": "FITS", b"NRRD": "NRRD",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True, eq=False)
class Sample:
    """One image, and what the source itself says about it."""

    pixels: np.ndarray
    """uint8, (H, W)."""
    frame: str = ""
    """Which image of the source; empty where it holds only one."""
    slice_index: int = -1
    """Place within the volume; -1 none."""
    position: float = float("nan")
    """Place along the volume's axis in millimetres; NaN none."""
    plane: int = -1
    """Index into labels.PLANES; -1 unknown."""
    plane_inferred: bool = False
    """Whether the plane was guessed."""
    placed: Placed = (0.0, 0.0, 1.0, 1.0)
    """Where in the image the source picture lies."""


@dataclass(frozen=True, kw_only=True)
class Content:
    """The bytes of a source as they were at one moment."""

    data: bytes
    size: int
    mtime_ns: int

    def digest(self) -> int:
        """First 8 bytes of the sha256, as an unsigned integer."""
        return int.from_bytes(hashlib.sha256(self.data).digest()[:8], "big")


def mtime_ns(status: os.stat_result) -> int:
    """Time of a file's last change in ns, as far as int64 holds it: some disks keep times of any year."""
    return max(min(status.st_mtime_ns, 2**63 - 1), -(2**63))


def read_content(path: Path) -> Content:
    """Read a source. BadSource: no regular file, no permission, being written. FileNotFoundError: gone."""
    try:
        # Without O_NONBLOCK, opening a pipe would wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        if path.is_symlink():
            raise BadSource(LINK_TO_NOTHING) from None
        raise
    except OSError as error:
        raise BadSource(f"{CANNOT_OPEN}: {error.strerror}") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise BadSource("not a regular file")
        if status.st_size > MAX_BYTES:
            raise BadSource(f"file larger than {MAX_BYTES // 2**20} MiB")
        with open(descriptor, "rb", closefd=False) as file:
            data = file.read(MAX_BYTES)
        after = os.fstat(descriptor)
    except OSError:
        raise BadSource("file cannot be read") from None
    finally:
        os.close(descriptor)
    # The time of the last change, too: some copiers give a file that they overwrite its old mtime back.
    if (len(data), after.st_mtime_ns, after.st_ctime_ns) != (
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    ):
        raise BadSource("file is being written")
    return Content(data=data, size=status.st_size, mtime_ns=mtime_ns(status))


def decode(data: bytes, recipe: Recipe) -> list[Sample]:
    """The samples that the bytes of one source hold; BadSource says why there are none."""
    reason = why_not_a_picture(data[:HEAD_BYTES])
    if reason:
        raise BadSource(reason)
    pixels, placed = decode_picture(data, recipe)
    return [Sample(pixels=pixels, placed=placed)]


def decode_source(path: Path, recipe: Recipe) -> list[Sample]:
    """The samples that one file holds; BadSource says why there are none."""
    try:
        return decode(read_content(path).data, recipe)
    except FileNotFoundError:
        raise BadSource("file is gone") from None


def why_not_a_picture(head: bytes) -> str:
    """Why bytes that begin so cannot be decoded; empty where they can. head: the first HEAD_BYTES."""
    if not head:
        return "empty file"
    if any(head.startswith(magic) for magic in PICTURES):
        return ""
    if head.startswith(b"version https://git-lfs"):
        return "Git LFS pointer in place of the file (run: git lfs pull)"
    if head[128:132] == b"DICM":
        return f"{NOT_READ_YET} yet: DICOM"
    if _is_nifti(head):
        return f"{NOT_READ_YET} yet: NIfTI"
    for magic, name in FOREIGN.items():
        if head.startswith(magic):
            return f"{NOT_READ_YET}: {name} ({WHAT_IS_READ})"
    if head.startswith(b"\x1f\x8b"):
        return f"{NOT_READ_YET}: gzip ({WHAT_IS_READ})"
    if not head.strip(b"\0"):
        return "file of zeros"
    return _text_reason(head) or "not a picture"


def _is_nifti(head: bytes) -> bool:
    if head.startswith(b"\x1f\x8b"):
        try:
            head = zlib.decompressobj(wbits=GZIP).decompress(head, NIFTI_HEADER_BYTES)
        except zlib.error:
            return False
    return head[344:348] in (b"n+1\0", b"ni1\0") or head[4:12] == b"n+2\0\r\n\x1a\n"


def _text_reason(head: bytes) -> str:
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        if error.start < len(head) - 4:
            return ""
        text = head[: error.start].decode()
    if any(ord(letter) < 32 and letter not in "\t\n\r\f" for letter in text):
        return ""
    start = text.lstrip().lower()
    return (
        "web page in place of a picture"
        if start.startswith(("<!doctype html", "<html"))
        else "text, not a picture"
    )
