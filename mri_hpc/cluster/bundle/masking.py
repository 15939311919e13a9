"""Texts without what a help desk must not read: patients, images, keys, and people.

Names of nodes stay: which one it was is what a help desk asks first, and they name no patient. Where a
machine is called by its user, as in smith-laptop, that part goes with the name of the user.
"""

import contextlib
import os
import pwd
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mri_hpc.base.access import user_name
from mri_hpc.base.errors import UserError
from mri_hpc.intake.labels.pseudonyms import key_path
from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.predictions import read_predictions
from mri_hpc.rundir.settings import load_training
from mri_hpc.storage.store import NameMask, Store, wanted_of

PATIENT, IMAGE, FILE, SECRET, PERSON = "[patient]", "[image]", "[file of images]", "[secret]", "[user]"
# As mri_hpc.intake.labels.pseudonyms makes them: of patients, studies and groups.
PSEUDONYM = re.compile(r"\b[PSG][A-Z2-7]{16}\b")
IMAGE_KEY = re.compile(r"\b[0-9a-f]{16}\b")
# In whatever folder: its name, and that of its folder, may be a patient's. Paths may hold spaces.
IMAGE_FILE = re.compile(
    r"(?:/[^\n\"']*?|[^\s\"':;=,(\[]+)\.(?:dcm|ima|nii|mg[hz]|mh[ad]|n?hdr|nrrd|img|mat|png|jpe?g|tiff?|gif|"
    r"bmp|webp|avif|jp2|zip|tar|tgz)(?:\.gz)?\b",
    re.IGNORECASE,
)
# Ids that are too short to be looked for: "patient 12", "subject=A7".
SHORT_ID = re.compile(r"\b((?i:patient|subject|study))([ =:]+[\"']?)(?=\S*[\dA-Z])[^\s,;:\"']+")
NAMED_SECRET = re.compile(r"(?i)((?:token|passw(?:or)?d|secret|api_?key)[\"']?\s*[=:]\s*)\S+")
LEAST_ANYWHERE = 4
"""Letters of a person's name from which on it is taken out also within a word."""
NOBODYS = {"", "root"}
SOURCE = "data/raw"
"""Folder of images where no other is named."""
FIRST_PERSON = 1000
"""User ids below are of the system."""


@dataclass(frozen=True, kw_only=True)
class Masks:
    """All that is taken out of texts."""

    names: NameMask
    """Names, ids and pseudonyms of patients and studies that are known."""
    secrets: tuple[str, ...]
    people: re.Pattern[str] | None
    """Users: their names, and what they are called."""
    roots: tuple[str, ...]
    """Folders of images: what lies below is a path of one."""
    known: int
    """Names, ids and pseudonyms of patients and studies that are looked for."""
    too_short: int
    """Those that are not, as they would be found in many a word."""
    unseen: str
    """Reason why those in the store's private folder are not looked for; empty where they are."""

    def masked(self, text: str) -> str:
        """Return the text without any of them."""
        for secret in self.secrets:
            text = text.replace(secret, SECRET)
        text = NAMED_SECRET.sub(rf"\1{SECRET}", text)
        for root in self.roots:
            text = re.sub(rf"({re.escape(root)}/)[^\n\"']+", rf"\1{FILE}", text)
        text = self.names.masked(IMAGE_FILE.sub(FILE, text))
        text = IMAGE_KEY.sub(IMAGE, PSEUDONYM.sub(PATIENT, text))
        text = SHORT_ID.sub(rf"\1\2{PATIENT}", text)
        return self.people.sub(PERSON, text) if self.people else text

    def values(self, values: Any) -> Any:
        """Return plain values with each text in them masked; numbers stay."""
        if isinstance(values, str):
            return self.masked(values)
        if isinstance(values, Mapping):
            return {self.masked(name): self.values(value) for name, value in values.items()}
        return [self.values(one) for one in values] if isinstance(values, list | tuple) else values


def masks_of(run: RunDir, environment: Mapping[str, str]) -> Masks:
    """Make those of a run: by its predictions, its store, the site's key, and whose the folders are."""
    store = _store_of(run)
    in_store, unseen = _names_in(store)
    wanted = wanted_of(sorted({*in_store, *_names_in_predictions(run)}))
    folders = [run.path, *([store] if store else [])]
    source = environment.get("MRI_SOURCE", "").rstrip("/")
    return Masks(
        names=NameMask(wanted.names),
        secrets=tuple(_secrets(environment)),
        people=_pattern({*_own_names(), *_owners(folders)}),
        roots=tuple({source, SOURCE} - {""}),
        known=len(wanted.names),
        too_short=len(wanted.too_short),
        unseen=unseen,
    )


def _store_of(run: RunDir) -> Path | None:
    try:
        return Path(load_training(run).store)
    except UserError:
        # A run whose settings are damaged is one that a help desk is asked about.
        return None


def _names_in(store: Path | None) -> tuple[set[str], str]:
    if store is None:
        return set(), "its settings do not say where the store is"
    try:
        return Store.open(store).names_and_ids(), ""
    except (UserError, OSError):
        return set(), "the private folder of its store is not there, or not yours to read"


def _names_in_predictions(run: RunDir) -> set[str]:
    # One that has not finished, or whose table is damaged, has none that could be read.
    with contextlib.suppress(UserError, OSError):
        return {row.patient for row in read_predictions(run.predictions)[1]} - {""}
    return set()


def _secrets(environment: Mapping[str, str]) -> Iterator[str]:
    with contextlib.suppress(UserError, OSError):
        key = key_path(environment).read_text(encoding="ascii", errors="replace").strip()
        yield from {key, key.lower(), key.upper()} - {""}


def _own_names() -> Iterator[str]:
    yield user_name()
    with contextlib.suppress(KeyError):
        yield from _called(pwd.getpwuid(os.getuid()))


def _owners(folders: Iterable[Path]) -> Iterator[str]:
    """Yield names of those whose the folders are, and those that they lie in."""
    for folder in {parent for one in folders for parent in (one, *one.parents)}:
        with contextlib.suppress(KeyError, OSError):
            yield from _called(pwd.getpwuid(folder.stat().st_uid))


def _called(entry: pwd.struct_passwd) -> Iterator[str]:
    if entry.pw_uid >= FIRST_PERSON:
        yield from (entry.pw_name, *re.findall(r"[^\W\d_]{2,}", entry.pw_gecos.partition(",")[0]))


def _pattern(people: Iterable[str]) -> re.Pattern[str] | None:
    """Return what finds people's names: those of few letters as words of their own."""
    words = sorted(set(people) - NOBODYS, key=len, reverse=True)
    parts = [re.escape(one) if len(one) >= LEAST_ANYWHERE else rf"\b{re.escape(one)}\b" for one in words]
    return re.compile("|".join(parts), re.IGNORECASE) if parts else None
