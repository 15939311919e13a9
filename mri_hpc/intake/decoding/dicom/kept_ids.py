"""Kept ids: a table of what was read of the files below a root, so that each is opened once.

It is the sha256 of what follows it, then a line with its format, then, for each file that was opened, ten
texts that each end in a zero byte: path, size, time, series, instance (a digest of its id), study, patient,
accession number, kind of sequence and scanner. The series is empty where the file is no DICOM or names none.
Of a series that is below the root no more, one file stays in the table, of size -1: by it is known what is
missing.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from mri_hpc.intake.decoding.dicom.named import Named

GONE = -1
"""Size of a file of a series that is not there any more."""
FIELDS = 10
HEADING = b"2\n"
"""Format of the table: one of another is as none."""
DIGEST_BYTES = 32


@dataclass(frozen=True, kw_only=True)
class KeptIds:
    """The ids in one file, and how that looked."""

    size: int
    mtime_ns: int
    named: Named


def packed(rows: Mapping[str, KeptIds]) -> bytes:
    """Write a table. rows: by path below the root."""
    texts = [
        text
        for path, row in rows.items()
        for text in (
            path, str(row.size), str(row.mtime_ns),
            row.named.series, row.named.instance, row.named.study, row.named.patient, row.named.accession,
            row.named.kind, row.named.scanner,
        )
    ]  # fmt: skip
    data = HEADING + "".join(f"{text}\0" for text in texts).encode("utf-8", "surrogateescape")
    return hashlib.sha256(data).digest() + data


def read_table(file: Path) -> dict[str, KeptIds] | None:
    """Read a table; None where there is none, or a damaged or newer one: it only saves looking."""
    try:
        data = file.read_bytes()
        heading = data[DIGEST_BYTES : DIGEST_BYTES + len(HEADING)]
        if heading == HEADING and hashlib.sha256(data[DIGEST_BYTES:]).digest() == data[:DIGEST_BYTES]:
            return _unpacked(data[DIGEST_BYTES + len(HEADING) :])
    except (OSError, ValueError):
        pass
    return None


def _unpacked(data: bytes) -> dict[str, KeptIds]:
    """Read the rows of a table; ValueError where they are no such rows."""
    texts = data.decode("utf-8", "surrogateescape").split("\0")
    rows = zip(*(texts[start::FIELDS] for start in range(FIELDS)), strict=False)
    return {
        path: KeptIds(
            size=int(size), mtime_ns=int(time_ns),
            named=Named(
                series=series, instance=instance, study=study, patient=patient, accession=accession,
                kind=kind, scanner=scanner,
            ),
        )
        for path, size, time_ns, series, instance, study, patient, accession, kind, scanner in rows
    }  # fmt: skip
