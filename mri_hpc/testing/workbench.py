"""A folder with pictures, their labels, a site's key, and the store that is made of them."""

import csv
import io
import os
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image as Picture

from mri_hpc.intake.decoding.recipe import Bits, load_recipe, wanted_recipe
from mri_hpc.intake.files.sources import root_name
from mri_hpc.intake.files.units import Share
from mri_hpc.intake.labels.csv_labels import read_csv
from mri_hpc.intake.labels.groups import Group
from mri_hpc.intake.labels.label import Label
from mri_hpc.intake.labels.labelled_files import labelled_paths
from mri_hpc.intake.labels.pseudonyms import Pseudonyms, site_key
from mri_hpc.storage.store import Findings, Name, Origin, Pair, Store
from mri_hpc.testing.model import Image

LARGE_BYTES = 2**28
# Some file systems know times to two seconds only; what is written anew must look newer.
SECONDS_APART = 10
ONE_TASK = Share(index=0, count=1)


def draw(path: str, version: int, side: int, *, is_deep: bool = False) -> bytes:
    """A picture of noise, another for each path and version: a PNG of `side` pixels a side.

    is_deep: it has 16 bits, and each version another range of grey values.
    """
    random = np.random.default_rng([zlib.crc32(path.encode()), version])
    pixels = random.integers(20, 200, (side, side), np.uint8)
    if is_deep:
        pixels = pixels.astype(np.uint16) * random.integers(10, 300, dtype=np.uint16)
    file = io.BytesIO()
    Picture.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


@dataclass(frozen=True, kw_only=True)
class Workbench:
    """Pictures in `root`/raw, their labels, a key, and a store of chunks of a few images each."""

    root: Path
    side: int = 16
    """Of the stored images, in pixels."""
    bits: Bits = 8
    """Of their pixels."""
    unit_images: int = 2
    """Images of a chunk, as they come in."""

    @property
    def raw(self) -> Path:
        """Folder of pictures."""
        return self.root / "raw"

    @property
    def path(self) -> Path:
        """Folder of the store."""
        return self.root / "store"

    @property
    def table(self) -> Path:
        """CSV of labels."""
        return self.root / "labels.csv"

    @property
    def key_file(self) -> Path:
        """The site's key."""
        return self.root / "site.key"

    @property
    def store(self) -> Store:
        """The store; UserError where there is none yet."""
        return Store.open(self.path)

    @property
    def has_store(self) -> bool:
        """There is one, be it empty."""
        return (self.path / "recipe.json").is_file()

    @property
    def pseudonyms(self) -> Pseudonyms:
        """As they name patients and sources in the store."""
        return Pseudonyms(site_key(self.key_file))

    def key_of(self, path: str) -> int:
        """Key of the image that a path becomes."""
        return self.pseudonyms.source_key(root_name(self.raw), path)

    def is_of(self, share: Share, path: str, image: Image) -> bool:
        """Tell whether a picture falls to a share: one of more than 8 bits with all of its group."""
        if not image.is_deep or share.count == 1:
            return self.key_of(path) % share.count == share.index
        group = Group(patient=image.patient, study="", folder="", site="")
        return share.holds_name(self.pseudonyms.group(root_name(self.raw), group))

    def write(self, path: str, source: bytes, version: int = 0) -> None:
        """Write a picture; one of a greater version looks newer."""
        file = self.raw / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(source)
        time_s = 1_600_000_000 + SECONDS_APART * version
        os.utime(file, (time_s, time_s))

    def write_labels(self, rows: Mapping[str, Image]) -> None:
        """Write the table of labels."""
        with self.table.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["path", "label", "patient"])
            writer.writerows([path, row.label, row.patient] for path, row in sorted(rows.items()))

    def add(self, share: Share = ONE_TASK, *, is_replacing: bool = False) -> None:
        """Add a share of the pictures, as preprocess does."""
        store = Store.make(self.path, self.raw)
        labels = read_csv(self.table, self.raw)
        wanted = wanted_recipe(store.recipe, size=self.side, fit=None, ids=None, bits=self.bits)
        paths = labelled_paths(self.raw, labels, ids=wanted.ids, shared=None)
        intake = store.intake(self.raw, labels, wanted, self.key_file, is_replacing=is_replacing)
        store.clean_up()
        store.add(intake, intake.share_of(share, intake.sources(paths)), unit_size=self.unit_images)

    def relabel(self, rows: Mapping[str, Image]) -> None:
        """Give some images other labels and patients."""
        labels = {path: Label(label=row.label, patient=row.patient) for path, row in rows.items()}
        name = root_name(self.raw)
        self.store.relabel(
            self.store.find_relabelling(labels, root_name=name, pseudonyms=self.pseudonyms), "relabelled"
        )

    def retract(self, patient: str) -> None:
        """Take a patient out."""
        store = self.store
        store.retract(store.look_for(store.name_of(patient, self.key_file), given=patient), "retracted")

    def retract_image(self, path: str) -> None:
        """Take one image out."""
        store = self.store
        store.retract(store.look_for_images([str(self.raw / path)], self.pseudonyms), "retracted")

    def join(self, first: str, second: str) -> None:
        """Make one patient of two."""
        one, other = (
            Name(name=self.pseudonyms.patient(patient), patient=patient, where="test")
            for patient in (first, second)
        )
        self.store.join([Pair(first=one, second=other)], "joined")

    def compact(self, *, keep_s: float = 0.0, target_bytes: int = LARGE_BYTES) -> None:
        """Make few chunks of many; superseded ones go once they are `keep_s` seconds old."""
        self.store.compact(target_bytes=target_bytes, keep_s=keep_s)

    def repair(self) -> Findings:
        """Verify, and make again what is damaged; returns what a verification finds then."""
        store = self.store
        origin = Origin(
            root=self.raw,
            recipe=load_recipe(store.recipe),
            labels=read_csv(self.table, self.raw),
            pseudonyms=lambda: self.pseudonyms,
        )
        return store.repair(store.verify(), origin).findings

    def damage(self, path: str) -> None:
        """Change a byte of an image where it lies in its chunk."""
        snapshot = self.store.current()
        row = int(np.searchsorted(snapshot.key, np.uint64(self.key_of(path))))
        name, offset, _images, _bytes = snapshot.chunks[int(snapshot.chunk[row])].tolist()
        with (self.path / "chunks" / f"{name.decode()}.h5").open("r+b") as file:
            file.seek(offset + int(snapshot.row[row]) * snapshot.image_bytes)
            byte = file.read(1)[0]
            file.seek(-1, os.SEEK_CUR)
            file.write(bytes([byte ^ 1]))
