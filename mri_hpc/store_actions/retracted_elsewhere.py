"""Beyond the store: models that have learnt from retracted images, and files that show them."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mri_hpc.base.command import counted
from mri_hpc.base.errors import UserError
from mri_hpc.storage.store import Store, remove_made
from mri_hpc.store_actions.made import described, files_showing, in_words, unreadable_in_words

if TYPE_CHECKING:
    import numpy as np

    from mri_hpc.storage.store import Retraction

MODELS = Path("models")
"""Folder of models where none is named; it need not be there."""


@dataclass(frozen=True, kw_only=True)
class Others:
    """Traces of retracted images beyond the store."""

    models: Sequence[str]
    """Names of the models that have learnt from them."""
    files: Sequence[dict[str, Any]]
    """Files that showed them, and what has become of each."""
    notes: Sequence[str]
    """For people, where something is left to do."""


def refuse_missing(models: Path) -> None:
    """Raise UserError where a folder of models was named that is not there: models would go unmarked."""
    if models != MODELS and not models.is_dir():
        raise UserError(
            f"--models {models} is no folder: name the one in which mri-hpc models keeps models, or leave "
            "it out"
        )


def reach_others(store: Store, retraction: "Retraction", models: Path) -> Others:
    """Remove the files that show retracted images, and mark the models that have learnt from them.

    models: folder of models, which need not be there.
    """
    keys, commits = _retracted(store, retraction)
    made, unreadable = files_showing(store, keys, retraction.names)
    files = [described(one) for one in remove_made(made)]
    marked, note = _mark(models, store, keys, commits) if models.is_dir() else ([], "")
    notes = [one for one in (note, unreadable_in_words(store, unreadable)) if one]
    return Others(models=marked, files=files, notes=notes)


def models_in(folder: Path, store: Store, keys: "np.ndarray") -> list[dict[str, Any]]:
    """Describe the models in a folder that have learnt from images. keys: uint64, (n,).

    images: None of one of this store of which it is not known what it has learnt from.
    """
    if not folder.is_dir() or not len(keys):
        return []
    from mri_hpc.registry.layout import ModelsDir
    from mri_hpc.registry.listing import state_of
    from mri_hpc.registry.record import read_record
    from mri_hpc.registry.retracted import images_learnt_from

    models, here = ModelsDir(folder), store.path.resolve()
    return [
        {"model": str(folder / name), "state": state_of(models, name), "images": num}
        for name, num in images_learnt_from(models, keys).items()
        if num is not None or Path(read_record(models, name).store).resolve() == here
    ]


def _mark(models: Path, store: Store, keys: "np.ndarray", commits: Sequence[str]) -> tuple[list[str], str]:
    """Mark the models that have learnt from images; return their names, and a note where that cannot be.

    Also where it is not known of one of this store what it has learnt from.
    """
    from mri_hpc.registry.layout import ModelsDir
    from mri_hpc.registry.retracted import note_retraction

    marked: list[str] = []
    try:
        marked = note_retraction(ModelsDir(models), keys, commits)
        unknown = [one["model"] for one in models_in(models, store, keys) if one["images"] is None]
    except (UserError, OSError) as error:
        # The images are gone already, and that has to be told.
        return marked, f"models in {models} could not be marked ({error}): run it again once that is seen to"
    words = "may have learnt from them, which nobody can tell, and would be asked all the same"
    return marked, f"{', '.join(unknown)}: {words}" if unknown else ""


def and_files(store: Store, retraction: "Retraction") -> str:
    """Say how many files go with the images; empty where there are none."""
    made, _unreadable = files_showing(store, _retracted(store, retraction)[0], retraction.names)
    return f", and {counted(len(made), 'file')} made of them" if made else ""


def print_others(models: Path, others: Others) -> None:
    """Print which models are marked, and what has become of the files."""
    for name in others.models:
        print(f"{models / name} has learnt from them: it is not asked until a person says otherwise")
    for one in others.files:
        print(f"showed them: {in_words(one)}")
    for note in others.notes:
        print(note, file=sys.stderr)


def _retracted(store: Store, retraction: "Retraction") -> "tuple[np.ndarray, list[str]]":
    """Return the keys of a retraction and of those of the same before, uint64 (n,), and their commits."""
    # Whoever asks for help need not wait for it.
    import numpy as np

    records = store.retractions(retraction.patient, retraction.keys)
    before = [int(key, 16) for one in records for key in one.retracted_keys]
    return np.unique(np.array([*before, *retraction.keys], np.uint64)), [one.id for one in records]
