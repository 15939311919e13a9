"""Pages of a prediction show patients: each is written down with the store that its run was trained on."""

from collections.abc import Sequence
from pathlib import Path

from mri_hpc.base.errors import UserError
from mri_hpc.intake.decoding.recipe import load_recipe
from mri_hpc.intake.labels.pseudonyms import pseudonyms_of
from mri_hpc.results.answers.answer import Answer
from mri_hpc.results.answers.kept_back import KeptBack
from mri_hpc.results.pages.patient_page import pages_of
from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.settings import load_training
from mri_hpc.storage.store import Store
from mri_hpc.store_actions.made import note_made


def note_pages(
    run: RunDir, out: Path, answer: Answer, *, named: Answer, paths: Sequence[Path], key_file: Path
) -> None:
    """Write down the pages of a prediction, by the names that its patients and images have in the store.

    answer: as it was written; named: the same with the names of the source; paths: that were given. Where the
    key of the store is not at hand, they are written down without names, and no retraction finds them.
    """
    try:
        store = Store(Path(load_training(run).store))
        stored = _as_in_store(run, named, paths, key_file)
    except UserError:
        # A run of another site, whose settings or key are not here: its answers are all the same.
        return
    by_image = dict(zip(map(id, answer.images), stored.images if stored else (), strict=bool(stored)))
    for path, images in pages_of(out, answer):
        known = [by_image[id(image)] for image in images if id(image) in by_image]
        note_made(
            store,
            path,
            "predict --out",
            keys=[int(image.name, 16) for image in known],
            patients={image.patient for image in known} - {""},
            is_quiet=True,
        )


def _as_in_store(run: RunDir, named: Answer, paths: Sequence[Path], key_file: Path) -> Answer | None:
    """Name patients and images as the run's store does; None where its key is not at hand."""
    recipe = load_recipe(run.recipe)
    try:
        pseudonyms = pseudonyms_of(ids=recipe.ids, site=recipe.site, key_file=key_file)
    except UserError:
        return None
    return KeptBack(paths=paths, pseudonyms=pseudonyms).of_answer(named)
