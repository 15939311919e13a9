"""Pseudonyms: a patient has the same one in every store of a site; without its key none can be traced.

Sources are named by keys of the same kind: from one that anybody could make, who guesses a path could tell
the patient in it.
"""

import base64
import datetime
import functools
import hashlib
import hmac
import os
import stat
from collections.abc import Mapping
from pathlib import Path

from mri_hpc.base.access import give, is_wider
from mri_hpc.base.atomic import publish_new_bytes
from mri_hpc.base.errors import UserError
from mri_hpc.base.mounts import are_on_one_disk, is_of_this_machine, mount_of, nearest_folder
from mri_hpc.intake.files.sources import root_at_site, source_key, source_name
from mri_hpc.intake.labels.groups import Group

KEY_BYTES = 32
LETTERS = 16
MOST_DAYS = 3653
"""By which dates are shifted: ten years."""
SET_KEY_FILE = "by: export MRI_KEY_FILE=/project/folder/site.key (in hpc/slurm/site.env)"


class Pseudonyms:
    """Names patients and studies for the part of a store that may be shared."""

    def __init__(self, key: bytes | None) -> None:
        """key: the site's; None gives ids as they are."""
        self._key = key
        # Begun once: a third less time than hmac.digest, and there may be millions. BLAKE2, keyed by itself,
        # is refused by Pythons in FIPS mode.
        self._of_source = hmac.new(key, b"source:", "sha256") if key else None
        # Images of one patient follow one another.
        self._name = functools.lru_cache(self._new_name)

    def patient(self, patient_id: str) -> str:
        """Name of a patient; empty for none."""
        return self._name("P", patient_id)

    def study(self, study_id: str) -> str:
        """Name of a study; empty for none."""
        return self._name("S", study_id)

    def group(self, root_name: str, group: Group) -> str:
        """Name of a group of pictures, which tells neither its patient nor its folder."""
        folder = "" if group.patient else f"{root_at_site(root_name, group.site)}/{group.folder}"
        text = "\0".join((group.patient, group.study, folder))
        if self._key is None:
            return _named("G", hashlib.sha256(f"G:{text}".encode(errors="surrogateescape")).digest())
        return self._name("G", text)

    def source_key(self, root_name: str, path: str, frame: str = "") -> int:
        """Derive the key of a source, or of one frame in it: 8 bytes."""
        if self._of_source is None:
            return source_key(root_name, path, frame)
        digest = self._of_source.copy()
        digest.update(source_name(root_name, path, frame))
        return int.from_bytes(digest.digest()[:8], "big")

    def shifted(self, date: datetime.date, patient_id: str) -> datetime.date:
        """Move a date back, all of a patient by the same 1 to 3,653 days, which the site's key gives."""
        assert self._key is not None, "without a key there is no secret number of days"
        digest = hmac.digest(self._key, f"dates:{patient_id}".encode(errors="surrogateescape"), "sha256")
        return date - datetime.timedelta(days=1 + int.from_bytes(digest, "big") % MOST_DAYS)

    def fingerprint(self) -> str:
        """Tell one site key from another without telling the key; empty where ids are as given."""
        return self._name("K", "which key is this")[1:] if self._key else ""

    def _new_name(self, kind: str, given: str) -> str:
        if not given or self._key is None:
            return given
        digest = hmac.digest(self._key, f"{kind}:{given}".encode(errors="surrogateescape"), "sha256")
        return _named(kind, digest)


def _named(kind: str, digest: bytes) -> str:
    return kind + base64.b32encode(digest).decode()[:LETTERS]


def pseudonyms_of(*, ids: str, site: str, key_file: Path, group: int | None = None) -> Pseudonyms:
    """Make those of a store, as its recipe says; UserError where the key of its pseudonyms is not at hand.

    group: the one that may use the store's private folder; None: its owner alone.
    """
    if ids == "as-given":
        return Pseudonyms(None)
    # It is made where it is missing, and would be another one.
    if not key_file.is_file():
        raise UserError(f"{key_file}, the site's key, is not there: set MRI_KEY_FILE")
    pseudonyms = Pseudonyms(site_key(key_file, group))
    if pseudonyms.fingerprint() != site:
        raise UserError(
            f"{key_file} is another site's key than the one that this store was made with: set MRI_KEY_FILE"
        )
    return pseudonyms


def key_path(environment: Mapping[str, str]) -> Path:
    """Find the file of the site's key: MRI_KEY_FILE, else in the user's configuration folder."""
    if environment.get("MRI_KEY_FILE"):
        return Path(environment["MRI_KEY_FILE"])
    if environment.get("XDG_CONFIG_HOME"):
        return Path(environment["XDG_CONFIG_HOME"]) / "mri_hpc" / "site.key"
    try:
        return Path.home() / ".config" / "mri_hpc" / "site.key"
    except RuntimeError:
        raise UserError("this user has no home folder for the site's key: set MRI_KEY_FILE") from None


def key_note(path: Path) -> str:
    """Ask for a copy of the key by which the first patients of a store were named."""
    return (
        f"patients are named by the site's key, {path}: keep a copy of it, where the images are not. Without "
        "it nothing can be added to this store, and patients get other pseudonyms"
    )


def refuse_on_own_disk(path: Path, store: Path, node: str) -> None:
    """Raise UserError where the site's key is missing and would be made on a disk of this node alone.

    store: what lies on its file system, all tasks see. node: name of the node on which this job runs.
    """
    if path.exists() or not is_of_this_machine(path) or are_on_one_disk(path, store):
        return
    raise UserError(
        f"{path}, the site's key, is not on node {node}, and made there no other node would find it "
        f"({mount_of(nearest_folder(path)).kind}, of this machine alone): name a place that all nodes see, "
        f"{SET_KEY_FILE}"
    )


def share_key(path: Path, group: int, store: Path) -> None:
    """Let one group use the site's key, which is made if need be; UserError where it lies in a store."""
    if Path(os.path.realpath(path)).is_relative_to(os.path.realpath(store)):
        raise UserError(f"{path}, the site's key, lies in the store: set MRI_KEY_FILE to a copy elsewhere")
    if not path.exists():
        if not path.parent.exists():
            path.parent.mkdir(parents=True, mode=0o700)
            give(path.parent, group)
        site_key(path, group)
    elif is_wider(path, group):
        raise UserError(f"{path} holds the site's key but others may read it: chmod 600 {path}")
    elif (status := path.stat()).st_gid != group or not status.st_mode & stat.S_IRGRP:
        give(path, group)


def site_key(path: Path, group: int | None = None) -> bytes:
    """Read the site's key; made on first use, once, however many tasks ask at the same time.

    group: the only one that may read it beside its owner.
    """
    if not path.exists():
        _make_key(path, group)
    if is_wider(path, group):
        raise UserError(f"{path} holds the site's key but others may read it: chmod 600 {path}")
    text = path.read_text(encoding="ascii", errors="replace").strip()
    try:
        key = bytes.fromhex(text)
    except ValueError:
        key = b""
    if len(key) < KEY_BYTES:
        raise UserError(
            f"{path} is not a site key (at least {2 * KEY_BYTES} hex digits): restore it from a backup"
        )
    return key


def _make_key(path: Path, group: int | None) -> None:
    line = os.urandom(KEY_BYTES).hex().encode() + b"\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        publish_new_bytes(path, line, is_private=True, group=group)
    except OSError as error:
        # Homes are small, and on nodes often read-only.
        raise UserError(
            f"{path}, the site's key, cannot be made ({error.strerror}): name a place that can be written, "
            f"and that all nodes see, {SET_KEY_FILE}"
        ) from None
