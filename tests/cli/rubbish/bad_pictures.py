"""Files that are no pictures, or none that can be used."""

import gzip
import io
import os
import struct
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import tifffile
from PIL import Image

from tests.cli.rubbish.case import Case, Rejected, holds
from tests.cli.rubbish.desk import GOOD, Desk

SMOOTH = (128 + 100 * np.sin(np.mgrid[0:96, 0:96].sum(0) / 25)).astype(np.uint8)


DEEP = SMOOTH.astype(np.uint16) * 16


def picture(kind: str = "PNG", mode: str = "L", **options: object) -> bytes:
    """A good picture in this format and mode."""
    return saved(Image.fromarray(SMOOTH).convert(mode), kind, **options)


def saved(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    """The bytes of a picture."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def frames(kind: str) -> bytes:
    """A picture of three frames."""
    others = [Image.fromarray(np.roll(SMOOTH, 9 * n)) for n in (1, 2)]
    return saved(Image.fromarray(SMOOTH), kind, save_all=True, append_images=others)


def tiff(pixels: np.ndarray, **options: object) -> bytes:
    """A TIFF as tifffile writes it."""
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, **options)
    return file.getvalue()


def in_colour(count: int = 3) -> bytes:
    """Slices as tifffile writes them where it is told nothing: one page of planes, called colours."""
    slices = np.stack([np.roll(SMOOTH, 9 * number) for number in range(count)])
    return tiff(slices, photometric="rgb", planarconfig="separate")


def nifti(*shape: int) -> bytes:
    """A volume of 9 x 9 x 9 voxels, of which the header says another shape."""
    voxels = np.random.default_rng(0).integers(0, 99, (9, 9, 9), dtype=np.int16)
    data = bytearray(nib.Nifti1Image(voxels, np.eye(4)).to_bytes())
    if shape:
        struct.pack_into("<3h", data, 42, *shape)
    return bytes(data)


def mask_beside(desk: Desk) -> list[str]:
    """A mask beside its picture."""
    (desk.raw / "glioma" / "P00" / "0_mask.png").write_bytes(
        saved(Image.fromarray(SMOOTH).point(lambda v: 255 * (v > 99)))
    )
    return desk.preprocess()


def wrapped() -> bytes:
    """A head of 12 bits, of which an earlier program has kept the lower 8."""
    y, x = np.mgrid[-1:1:200j, -1:1:200j]
    head = 1500 * np.clip(1.2 - x**2 - 1.5 * y**2, 0, 1) * (1 + 0.3 * np.sin(6 * x) * np.cos(5 * y))
    return saved(Image.fromarray((head.astype(np.uint16) & 255).astype(np.uint8)))


def bomb() -> bytes:
    """A PNG of some kilobytes that says it is of 40,000 x 40,000 pixels."""

    def part(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", head) + part(b"IDAT", zlib.compress(bytes(9999))) + part(
        b"IEND", b""
    )  # fmt: skip


def beside(name: str, content: bytes):
    """Lays one file among good ones."""
    return lambda desk: desk.beside(name, content)


def odd_file(make):
    """Lays one thing that is no plain file among good ones."""

    def lay(desk: Desk) -> list[str]:
        folder = desk.raw / "glioma" / "P99"
        folder.mkdir()
        make(folder)
        return desk.preprocess()

    return lay


def _looped(folder: Path) -> None:
    (folder / "loop").symlink_to(folder.parent)


def _socket(folder: Path) -> None:
    import socket

    with socket.socket(socket.AF_UNIX) as one, _inside(folder):
        one.bind("scan.png")


def _inside(folder: Path):
    import contextlib

    # The name of a socket has at most 108 letters.
    return contextlib.chdir(folder)


def _unreadable(folder: Path) -> None:
    (folder / "scan.png").write_bytes(picture())
    (folder / "scan.png").chmod(0)


def _closed(folder: Path) -> None:
    (folder / "scans").mkdir()
    (folder / "scans" / "1.png").write_bytes(picture())
    (folder / "scans").chmod(0)


def stored(name: str, content: bytes) -> Case:
    """A file that only looks odd, and is stored with the others: of those that fail nothing is to be seen."""
    return Case(
        name=f"{name} is stored",
        make=beside(f"{name}.jpg", content),
        status=0,
        says=(),
        after=holds(GOOD + 1),
    )


CASES = (
    Rejected(
        name="an empty file",
        make=beside("scan.jpg", b""),
        says=("rejected 1: empty file",),
    ),
    Rejected(
        name="a compressed volume cut short",
        make=beside("t1.nii.gz", gzip.compress(nifti())[:-40]),
        says=("rejected 1: truncated",),
    ),
    Rejected(
        name="a volume whose header says more voxels than there are",
        make=beside("t1.nii", nifti(700, 700, 400)),
        says=("rejected 1: truncated",),
    ),
    Rejected(
        name="a volume of a negative length",
        make=beside("t1.nii", nifti(-9, 9, 9)),
        says=("rejected 1: damaged header of a volume",),
    ),
    Rejected(
        name="a file of zeros, as left by a full disk",
        make=beside("scan.jpg", bytes(4096)),
        says=("rejected 1: file of zeros",),
    ),
    Rejected(
        name="a JPEG cut short",
        make=beside("scan.jpg", picture("JPEG")[:-400]),
        says=("rejected 1: truncated picture (copy it again)",),
    ),
    Rejected(
        name="a PNG cut short",
        make=beside("scan.png", picture()[:-40]),
        says=("rejected 1: truncated picture (copy it again)",),
    ),
    Rejected(
        name="a PNG with a flipped bit",
        make=beside("scan.png", picture()[:200] + b"?" + picture()[201:]),
        says=("rejected 1: damaged picture (copy it again)",),
    ),
    Rejected(
        name="a text named .jpg",
        make=beside("scan.jpg", b"see the other folder\n"),
        says=("rejected 1: text, not a picture",),
    ),
    Rejected(
        name="a web page named .jpg, as a download leaves it",
        make=beside("scan.jpg", b"<!DOCTYPE html><html>Please log in</html>"),
        says=("rejected 1: web page in place of a picture",),
    ),
    Rejected(
        name="a Git LFS pointer",
        make=beside("scan.jpg", b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 9\n"),
        says=("rejected 1: Git LFS pointer", "(run: git lfs pull)"),
    ),
    Rejected(
        name="a link to nothing, as git-annex leaves it",
        make=odd_file(lambda folder: (folder / "scan.jpg").symlink_to("nowhere")),
        says=("rejected 1: link to a file that is not there (git-annex: get it first)",),
    ),
    Rejected(
        name="a damaged archive",
        make=beside("scans.zip", b"PK\x03\x04" + bytes(99)),
        says=("rejected 1: damaged archive (copy it again)",),
    ),
    Rejected(
        name="an animated PNG",
        make=beside("scan.png", frames("PNG")),
        says=("rejected 1: several frames in one picture file (save each as a file of its own)",),
    ),
    Rejected(
        name="three slices that look like the colours of one picture",
        make=beside("scan.tif", in_colour()),
        says=("rejected 1: planes that may be slices or colours", "save each slice as a page or a file"),
    ),
    Rejected(
        name="a BigTIFF cut short",
        make=beside("scan.tif", tiff(DEEP, bigtiff=True)[:-400]),
        says=("rejected 1: truncated picture (copy it again)",),
    ),
    Rejected(
        name="a sound TIFF in the colours of printing, of 16 bits",
        make=beside("scan.tif", tiff(np.dstack([DEEP] * 4), photometric="separated")),
        says=("rejected 1: format not read: sound, but TIFF of this kind is not read (convert it",),
    ),
    Rejected(
        name="a MATLAB file without a slice",
        make=beside("cvind.mat", b"MATLAB 7.3 MAT-file".ljust(512) + bytes(99)),
        says=("rejected 1: damaged picture",),
    ),
    Rejected(
        name="a mask beside its picture",
        make=mask_beside,
        says=("1 mask left out: named like a picture beside it, and of two values",),
    ),
    Rejected(
        name="a picture of 1 x 1 pixel",
        make=beside("scan.png", saved(Image.new("L", (1, 1)))),
        says=("rejected 1: picture smaller than 8 pixels on a side",),
    ),
    Rejected(
        name="a decompression bomb",
        make=beside("scan.png", bomb()),
        says=("rejected 1: picture larger than 40 million pixels",),
    ),
    Rejected(
        name="16-bit pixels that were wrapped into 8",
        make=beside("scan.png", wrapped()),
        says=("rejected 1: more than 8 bits wrapped into 8", "export it again"),
    ),
    Rejected(
        name="pixels that are not numbers",
        make=beside("scan.tif", saved(Image.fromarray(np.full((40, 40), np.nan, np.float32)), "TIFF")),
        says=("rejected 1: pixels that are not finite numbers",),
    ),
    Rejected(
        name="a pipe, which would wait for a writer for ever",
        make=odd_file(lambda folder: os.mkfifo(folder / "scan.png")),
        says=("rejected 1: not a regular file",),
    ),
    Rejected(
        name="a socket",
        make=odd_file(_socket),
        says=("rejected 1: file cannot be opened: No such device or address",),
    ),
    Rejected(
        name="a link to a device without an end",
        make=odd_file(lambda folder: (folder / "scan.png").symlink_to("/dev/zero")),
        says=("rejected 1: not a regular file",),
    ),
    Rejected(
        name="a file that may not be read",
        make=odd_file(_unreadable),
        says=("rejected 1: file cannot be opened: Permission denied",),
        needs_permission=True,
    ),
    Rejected(
        name="a folder that may not be listed",
        make=odd_file(_closed),
        says=("rejected 1: file cannot be opened: Permission denied",),
        needs_permission=True,
    ),
    Case(
        name="a loop of links between folders ends",
        make=odd_file(_looped),
        status=0,
        says=(),
        after=holds(GOOD),
    ),
    Case(
        name="a link to itself",
        make=odd_file(lambda folder: (folder / "scan.png").symlink_to("scan.png")),
        status=0,
        says=("rejected 1: file cannot be opened: Too many levels of symbolic links",),
        after=holds(GOOD),
    ),
    Case(
        name="what notebooks and systems leave behind is passed over",
        make=lambda desk: (
            [
                desk.file(f"raw/glioma/{name}", picture())
                for name in (".ipynb_checkpoints/1-checkpoint.png", "._1.png", ".DS_Store", "Thumbs.db")
                if desk.raw
            ]
            and desk.preprocess()
        ),
        status=0,
        says=(),
        after=holds(GOOD),
    ),
    Rejected(
        name="a source whose bytes have changed since",
        make=lambda desk: (
            (desk.raw / "glioma" / "P00" / "0.png").write_bytes(picture()) and desk.preprocess()
        ),
        says=("rejected 1: changed: other bytes",),
    ),
    stored("a PNG named .jpg", picture()),
    stored("a picture in the colours of printing (CMYK)", picture("JPEG", "CMYK")),
    stored("a picture with a palette", picture("PNG", "P")),
    stored("a picture of 16 bits", saved(Image.fromarray(SMOOTH.astype(np.uint16) * 16))),
    stored("a picture of 16 bits in three equal colours", tiff(np.dstack([DEEP] * 3), photometric="rgb")),
    stored(
        "a picture of 16 bits in three equal planes",
        tiff(np.stack([DEEP] * 3), photometric="rgb", planarconfig="separate"),
    ),
    stored("a picture of which white is the least number", tiff(65535 - DEEP, photometric="miniswhite")),
    stored("a picture of float64", tiff(DEEP.astype(float))),
    stored("a BigTIFF", tiff(DEEP, bigtiff=True)),
    stored("a JPEG 2000", picture("JPEG2000")),
    stored("an AVIF", picture("AVIF")),
    stored("a GIF", picture("GIF")),
    stored("a name with spaces and 'both' \"quotes\"", picture()),
    stored("a name with\na new line", picture()),
    stored(os.fsdecode(b"a name in Latin-1, \xe9t\xe9"), picture()),
)
