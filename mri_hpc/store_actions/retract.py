"""``mri-hpc store retract``: a patient is taken out for good."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from mri_hpc.base.command import print_json
from mri_hpc.base.errors import UserError
from mri_hpc.base.marks import POSITIONAL, Flag
from mri_hpc.intake.pseudonyms import key_path
from mri_hpc.storage.store import Store


@dataclass(frozen=True, kw_only=True)
class Retract:
    """Take a patient out for good: the pixels leave the disk, and preprocess never stores them again.

    What stays, under the pseudonym: keys and labels in older snapshots, predictions of runs, and the record
    of the retraction (see who-used). Backups and copies of the store are yours to clean.
    """

    store: Annotated[Path, POSITIONAL]
    """Folder of the store."""
    patient: str
    """The patient's id as in the labels, or the pseudonym."""
    why: str = ""
    """Kept with the record, which may be shared: name no person."""
    yes: Flag = False
    """Do not ask: there is no way back."""
    json: Flag = False
    """Print as JSON."""


def retract_patient(options: Retract) -> None:
    """Retract a patient, and print what went."""
    store = Store.open(options.store)
    retraction = store.look_for(store.name_of(options.patient, key_path(os.environ)), given=options.patient)
    name = retraction.patient
    if not options.yes:
        _ask(f"{retraction.images} images of {name} are to be removed from the disk for good")
    done = store.retract(retraction, options.why)
    if options.json:
        print_json({
            "store": str(options.store), "patient": name, "images": retraction.images,
            "bytes_written": done.bytes_written, "files_removed": len(done.removed),
        })  # fmt: skip
        return
    print(
        f"{retraction.images} images of {name} are retracted, {len(done.removed)} chunk files without them "
        f"replaced those that held them; who has seen them: mri-hpc store who-used {options.store} {name}"
    )


def _ask(question: str) -> None:
    if not sys.stdin.isatty():
        raise UserError(f"{question}: add --yes")
    # Not by input itself: with --json stdout is the document's alone.
    print(f"{question}. Type yes: ", end="", file=sys.stderr, flush=True)
    if input().strip() != "yes":
        raise UserError("nothing was done")
