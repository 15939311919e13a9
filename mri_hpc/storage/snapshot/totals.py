"""Totals of a snapshot: what is said of it in a few numbers, kept in its folder and read without its columns.

They say what folding the same commits says, whenever it is folded. `verify` counts them again.
"""

import functools
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

from mri_hpc.base.documents import convert, plain, with_format, without_format
from mri_hpc.base.errors import StoreDamage
from mri_hpc.base.sealed_json import seal, unseal
from mri_hpc.storage.disk.commits import ADD, Addition, Commit, Deidentified
from mri_hpc.storage.disk.damage import advice, is_damage

FORMAT = 2
"""In the first, slices of several planes were twins, and those of one volume had to be of one class."""
FILE = "totals.json"


@dataclass(frozen=True, kw_only=True)
class Added:
    """Additions, a value a commit; copies and images that were replaced or retracted since are among them."""

    created: tuple[float, ...]
    """Unix time, ascending."""
    images: tuple[int, ...]
    bytes: tuple[int, ...]
    """Of the chunk file in which they came."""
    deidentified: Deidentified | None = None
    """Of all sources of DICOM among them; None where none was added since it is written down."""
    commits: int = field(default=0, compare=False)
    """Add commits that were read for it, those without images too; 0 where an earlier version counted."""


@dataclass(frozen=True, kw_only=True)
class Several:
    """Numbers of what has several values of something of which it should have one."""

    patients_of_classes: int
    """Patients with images of several classes."""
    patients_of_splits: int
    bytes_of_classes: int
    """Sources of the same bytes that are stored under several classes; slices of one volume may differ."""
    bytes_of_patients: int


@dataclass(frozen=True, kw_only=True)
class Counts:
    """A snapshot in a few numbers, as its images tell them."""

    images: int
    patients: int
    images_without_patient: int
    classes: dict[str, int]
    """Images of each class."""
    images_without_label: int
    twins: int
    """Images whose source has the same bytes as another one's."""
    several: Several


@dataclass(frozen=True, kw_only=True)
class Totals:
    """A snapshot in a few numbers."""

    digest: str
    """Names exactly its set of commits."""
    content_digest: str
    """Names what is stored, however it is cut into files."""
    images: int
    patients: int
    images_without_patient: int
    classes: dict[str, int]
    """Images of each class."""
    images_without_label: int
    chunks: int
    bytes: int
    """Of the chunks' files."""
    shadowed: int
    """Stored copies that no row points to."""
    twins: int
    """Images whose source has the same bytes as another one's."""
    several: Several
    reasons: dict[str, int]
    """Rejections that stand, by reason."""
    commits: int
    added: Added

    @property
    def counts(self) -> Counts:
        """Counts of its images."""
        return Counts(
            images=self.images,
            patients=self.patients,
            images_without_patient=self.images_without_patient,
            classes=self.classes,
            images_without_label=self.images_without_label,
            twins=self.twins,
            several=self.several,
        )


def added_by(commits: Iterable[Addition | Commit], *, besides: Added | None = None) -> Added:
    """Return what add commits brought. besides: what others brought, which are not among them."""
    read = [one for one in commits if isinstance(one, Addition) or one.kind == ADD]
    adding = [one for one in read if one.images]
    rows = [(one.created, one.images, one.chunk_bytes) for one in adding]
    if besides is not None:
        rows += zip(besides.created, besides.images, besides.bytes, strict=True)
    created, images, sizes = zip(*sorted(rows), strict=True) if rows else ((), (), ())
    statements = [one.deidentified for one in (*adding, besides) if one and one.deidentified]
    deidentified = functools.reduce(Deidentified.joined, statements) if statements else None
    return Added(
        created=created,
        images=images,
        bytes=sizes,
        deidentified=deidentified,
        commits=len(read) + (besides.commits if besides else 0),
    )


def to_json(totals: Totals) -> bytes:
    """Write totals as they lie on disk."""
    values = plain(totals)
    # As it was before there was such.
    if totals.added.deidentified is None:
        del values["added"]["deidentified"]
    # A number of each addition: a line each would take ten times as long.
    return seal(with_format(FORMAT, values), in_lines=False)


def kept(folder: Path) -> Totals | None:
    """Read the totals of the published snapshot in a folder; None where it has none, or older ones.

    StoreDamage where they are damaged, NewerFormat where they are too new.
    """
    path = folder / FILE
    try:
        there = unseal(path.read_bytes())
        values = without_format(there, of=path, reads=FORMAT)
        if there.get("format") != FORMAT:
            return None
        totals = convert(values, Totals)
        if totals.digest != folder.name:
            raise ValueError(f"it is of {totals.digest}")
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and not is_damage(error):
            raise
        raise StoreDamage(f"{path} is damaged ({error}): {advice(folder)}") from None
    return totals
