"""``mri-hpc store retract``: a patient withdraws."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from mri_hpc.base.command import print_json
from mri_hpc.base.command_line import PLACE, Flag
from mri_hpc.base.errors import UserError
from mri_hpc.intake.pseudonyms import key_path
from mri_hpc.intake.recipe import load_recipe
from mri_hpc.storage.disk.layout import open_store
from mri_hpc.storage.upkeep.retraction import Withdrawal, look_for, name_in_store, nothing_of, retract


@dataclass(frozen=True, kw_only=True)
class Retract:
    """Take a patient out for good: the pixels leave the disk, and preprocess never stores them again.

    What stays, under the pseudonym: keys and labels in older snapshots, predictions of runs, and the record
    of the retraction (see who-used). Backups and copies of the store are yours to clean.
    """

    store: Annotated[Path, PLACE]
    """Folder of the store."""
    patient: str
    """The patient's id as in the labels, or the pseudonym."""
    why: str = ""
    """Kept with the record, which may be shared: name nobody."""
    yes: Flag = False
    """Do not ask: there is no way back."""
    json: Flag = False
    """Print as JSON."""


def retract_patient(options: Retract) -> None:
    """Withdraw a patient, and say what went."""
    store = open_store(options.store)
    name = name_in_store(options.patient, load_recipe(store.recipe), key_path(os.environ))
    withdrawal = look_for(store, name)
    if not withdrawal.is_known:
        raise nothing_of(store, options.patient)
    if not options.yes:
        _ask(withdrawal)
    done = retract(store, withdrawal, options.why)
    if options.json:
        print_json({
            "store": str(options.store), "patient": name, "images": withdrawal.images,
            "bytes_written": done.bytes_written, "files_removed": len(done.removed),
        })  # fmt: skip
        return
    print(
        f"{withdrawal.images} images of {name} are withdrawn, {len(done.removed)} chunk files without them "
        f"replaced those that held them; who has seen them: mri-hpc store who-used {options.store} {name}"
    )


def _ask(withdrawal: Withdrawal) -> None:
    question = f"{withdrawal.images} images of {withdrawal.patient} are to be removed from the disk for good"
    if not sys.stdin.isatty():
        raise UserError(f"{question}: add --yes")
    if input(f"{question}. Type yes: ").strip() != "yes":
        raise UserError("nothing was done")
