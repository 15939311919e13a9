"""Formats that are known and not read: why a source that no decoder takes is rejected."""

from collections.abc import Sequence

NOT_READ_YET = "format not read"
NOT_A_PICTURE = "not a picture"

OF_VOXELS = (".img", ".img.gz", ".raw", ".raw.gz", ".zraw")
"""Ends of names of files that hold voxels, and no header."""
NO_HEADER = f"{NOT_READ_YET}: voxels without their header (.hdr, .nhdr or .mhd), which is not beside them"

FOREIGN = {
    b"RIFF": "WebP", b"PK\x03\x04": "ZIP", b"%PDF": "PDF", b"\x89HDF": "HDF5",
    b"MATLAB 5.0": "MATLAB of before 7.3", b"\xff\x0a": "JPEG XL", b"\0\0\0\x0cJXL ": "JPEG XL",
    b"BZh": "bzip2", b"7z\xbc\xaf": "7-Zip", b"\x93NUMPY": "NumPy", b"SIMPLE  =": "FITS",
    b"NRRD": "NRRD of a later version (convert it to NIfTI)", b"MATRIX7": "ECAT", b"TRACK\0": "TrackVis",
    b"CDF\x01": "MINC or netCDF", b"CDF\x02": "MINC or netCDF",
}  # fmt: skip
FOREIGN_TEXTS = {
    "# === data description file": "PAR/REC (convert it to NIfTI, by dcm2niix)", "mrtrix": "MRtrix",
}  # fmt: skip


def why_not_read(start: bytes, formats: Sequence[str], name: str = "") -> str:
    """Name the reason why a source is not read.

    start: its first bytes; formats: those that are read; name: of its file; empty where it is not known.
    """
    if not start:
        return "empty file"
    if name.lower().endswith(OF_VOXELS):
        return NO_HEADER
    if start.startswith(b"version https://git-lfs"):
        return "Git LFS pointer in place of the file (run: git lfs pull)"
    are_read = f"{', '.join(formats[:-1])} and {formats[-1]} are"
    for magic, name in FOREIGN.items():
        if start.startswith(magic):
            return f"{NOT_READ_YET}: {name} ({are_read})"
    if start.startswith(b"\x1f\x8b"):
        return f"{NOT_READ_YET}: gzip ({are_read})"
    if not start.strip(b"\0"):
        return "file of zeros"
    return _text_reason(start) or NOT_A_PICTURE


def _text_reason(start: bytes) -> str:
    try:
        text = start.decode()
    except UnicodeDecodeError as error:
        if error.start < len(start) - 4:
            return ""
        text = start[: error.start].decode()
    if any(ord(letter) < 32 and letter not in "\t\n\r\f" for letter in text):
        return ""
    opening = text.lstrip().lower()
    for word, name in FOREIGN_TEXTS.items():
        if opening.startswith(word):
            return f"{NOT_READ_YET}: {name}"
    return (
        "web page in place of a picture"
        if opening.startswith(("<!doctype html", "<html"))
        else "text, not a picture"
    )
