"""``mri-hpc store retract``: a patient, or an image, is taken out for good."""

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from mri_hpc.base.command import Action, counted, print_json
from mri_hpc.base.errors import UsageError, UserError
from mri_hpc.base.marks import POSITIONAL, Flag, Word
from mri_hpc.intake.decoding.recipe import load_recipe
from mri_hpc.intake.files.sources import list_sources, root_at_site, root_name
from mri_hpc.intake.labels.images import as_text
from mri_hpc.intake.labels.pseudonyms import Pseudonyms, key_path, pseudonyms_of
from mri_hpc.storage.store import Store
from mri_hpc.store_actions.retracted_elsewhere import (
    MODELS,
    Others,
    and_files,
    print_others,
    reach_others,
    refuse_missing,
)

if TYPE_CHECKING:
    from mri_hpc.storage.store import Compacted, Missing, Retraction, Snapshot

PATHS_SHOWN = 20
KEYS_NAMED = 3


@dataclass(frozen=True, kw_only=True)
class Retract:
    """Take a patient or images out for good: pixels leave the disk, and preprocess never stores them again.

    What stays, of a patient under the pseudonym: keys and labels in older snapshots, predictions of runs, and
    the record of the retraction (see who-used). Runs that have seen the images cannot go on. Backups and
    copies of the store are yours to clean. An image comes back in where its file gets another name.
    """

    store: Annotated[Path, POSITIONAL]
    """Folder of the store."""
    patient: str | None = None
    """The patient's id as in the labels, or the pseudonym."""
    image: Annotated[tuple[str, ...], Word(value="[KEY|PATH ...]")] = ()
    """Images by themselves: their keys, or the paths of their files, below the source or from here."""
    missing: Annotated[Path | None, Word(value="SOURCE")] = None
    """All images that came from this folder and whose files are not in it any more."""
    why: str = ""
    """Kept with the record, which may be shared: name no person."""
    models: Path = MODELS
    """Folder of models that are kept, where there is one: those that have learnt from them are marked."""
    yes: Flag = False
    """Do it: there is no way back. Without it images are only named; of a patient, a terminal is asked."""
    json: Flag = False
    """Print as JSON."""

    def __post_init__(self) -> None:
        if [self.patient is not None, bool(self.image), self.missing is not None].count(True) != 1:
            raise UsageError("give one of --patient ID, --image KEY|PATH ..., --missing SOURCE")


def retract(options: Retract) -> None:
    """Retract a patient or images, and print what went."""
    if options.patient is not None and not options.patient.strip():
        # An empty variable of a shell: all images without a patient would be kept out for good.
        raise UserError("--patient takes the id of a patient, found nothing: type the id, in quotes")
    refuse_missing(options.models)
    store = Store.open(options.store)
    if options.patient is not None:
        _retract_patient(store, options, options.patient)
    elif options.missing is not None:
        _retract_missing(store, options, options.missing)
    else:
        retraction = store.look_for_images(options.image, _pseudonyms(store))
        _retract_images(store, options, retraction, store.sources_of(retraction.keys))


def _retract_patient(store: Store, options: Retract, given: str) -> None:
    retraction = store.look_for(store.name_of(given, key_path(os.environ)), given=given)
    name = retraction.patient
    images = counted(retraction.images, "image")
    are, them = ("is", "it") if retraction.images == 1 else ("are", "them")
    if not options.yes:
        _ask(f"{images} of {name} {are} to be removed from the disk for good{and_files(store, retraction)}")
    done, others = store.retract(retraction, options.why), reach_others(store, retraction, options.models)
    if options.json:
        _print_json(options, retraction, done, others, patient=name)
        return
    print(
        f"{images} of {name} {are} retracted, {counted(len(done.removed), 'chunk file')} without {them} "
        f"replaced those that held {them}; who has seen {them}: mri-hpc store who-used {options.store} {name}"
    )
    print_others(options.models, others)


def _ask(question: str) -> None:
    if not sys.stdin.isatty():
        raise UserError(f"{question}: add --yes")
    # Not by input itself: with --json stdout is the document's alone.
    print(f"{question}. Type yes: ", end="", file=sys.stderr, flush=True)
    if input().strip() != "yes":
        raise UserError("nothing was done")


def _retract_missing(store: Store, options: Retract, source: Path) -> None:
    """Retract what a source does not hold any more; UserError where it cannot be told what that is."""
    snapshot = store.current()
    missing = _find_missing(store, snapshot, source)
    if missing.paths:
        _retract_images(store, options, store.retraction_of(snapshot, missing.paths), missing.paths)
    elif options.json:
        print_json({"store": str(store.path), "images": 0, "bytes_written": 0, "files_removed": 0})
    else:
        print(f"every stored image of {source} has its file there: nothing to retract")


def _find_missing(store: Store, snapshot: "Snapshot", source: Path) -> "Missing":
    # Here and below: whoever asks for help need not wait for it.
    import numpy as np

    from mri_hpc.intake.decoding.dicom.listing import OF_SERIES, find_series

    if not source.is_dir():
        raise UserError(f"{source} is not a folder: --missing takes the folder of images, as it is now")
    if not os.access(store.names, os.R_OK | os.X_OK):
        raise UserError(f"{store.names}, which says what came from where, cannot be read: ask its owner")
    paths = list(list_sources(source))
    if not paths:
        raise UserError(f"{source} holds no files: is it mounted? Images can be named by --image, too")
    name, pseudonyms = root_name(source), _pseudonyms(store)
    roots = [root_at_site(name, site) for site in store.sites_of(source)]
    series = find_series(source, paths, kept=store.series_of(source))
    names = [*paths, *(f"{OF_SERIES}{one}" for one in series.ids)]
    keys = np.array([pseudonyms.source_key(root, name) for root in roots for name in names], "<u8")
    missing = store.find_missing(snapshot, source, keys, pseudonyms, series=series.former)
    if missing.hidden:
        file = as_text(source / missing.hidden)
        raise UserError(f"it cannot be told whether {file} is missing: who may look into the folders above?")
    if not missing.paths and not missing.num_there:
        raise UserError(
            f"{store.path} holds nothing that came from a folder named {name!r}: --missing takes the folder "
            "that was preprocessed, by its name of then"
        )
    return missing


def _retract_images(store: Store, options: Retract, retraction: "Retraction", paths: dict[int, str]) -> None:
    """Retract images by themselves, or say what would go. paths: of their files by key, as far as known."""
    images = counted(retraction.images, "image")
    if not options.yes:
        if not options.json:
            _print_images(retraction, paths)
        raise UserError(
            f"{images} to be removed from the disk for good{and_files(store, retraction)}, and runs that "
            "have seen them cannot go on: add --yes"
        )
    done, others = store.retract(retraction, options.why), reach_others(store, retraction, options.models)
    if options.json:
        _print_json(options, retraction, done, others)
    else:
        keys = " ".join(f"{key:016x}" for key in retraction.keys[:KEYS_NAMED])
        more = " ..." if len(retraction.keys) > KEYS_NAMED else ""
        print(
            f"{images} retracted, {len(done.removed)} chunk files without them replaced those that held "
            f"them; who has seen them: mri-hpc store who-used {options.store} --image {keys}{more}"
        )
        print_others(options.models, others)


def _print_images(retraction: "Retraction", paths: dict[int, str]) -> None:
    """Print which images would go, the first of many."""
    import numpy as np

    snapshot = retraction.snapshot
    keys = np.array(retraction.keys[:PATHS_SHOWN], "<u8")
    rows = np.searchsorted(snapshot.key, keys)
    for key, row in zip(keys.tolist(), rows.tolist(), strict=True):
        is_stored = row < len(snapshot) and int(snapshot.key[row]) == key
        label = snapshot.text("label", row) if is_stored else "retracted before"
        print(f"  {key:016x}  {as_text(paths.get(key, '(path not known here)'))}  {label}")
    if len(retraction.keys) > PATHS_SHOWN:
        print(f"  and {len(retraction.keys) - PATHS_SHOWN:,} more")


def _pseudonyms(store: Store) -> Pseudonyms:
    recipe = load_recipe(store.recipe)
    return pseudonyms_of(ids=recipe.ids, site=recipe.site, key_file=key_path(os.environ), group=store.group)


def _print_json(
    options: Retract, retraction: "Retraction", done: "Compacted", others: Others, **more: str
) -> None:
    print_json({
        "store": str(options.store), **more, "images": retraction.images,
        "bytes_written": done.bytes_written, "files_removed": len(done.removed),
        "models": list(others.models), "files": list(others.files), "notes": list(others.notes),
    })  # fmt: skip


ACTION = Action(options=Retract, body=retract, example="mri-hpc store retract data/store --patient ID")
