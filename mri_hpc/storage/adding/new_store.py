"""The folder to which sources are to be added: a store, or what becomes one."""

import os
from pathlib import Path

from mri_hpc.base.errors import UserError
from mri_hpc.intake.files.sources import PASSED_OVER, check_root
from mri_hpc.storage.disk.layout import StoreDir


def make_store(path: Path, root: Path) -> StoreDir:
    """Return the store at `path` with all its folders, made where they are missing.

    UserError where sources below `root` cannot be added to it: one lies within the other, or something else
    lies there already.
    """
    store = check_place(path, root)
    store.make()
    return store


def check_place(path: Path, root: Path) -> StoreDir:
    """Return what is or becomes the store at `path`, of which nothing is made; UserError as in make_store."""
    check_root(root)
    store = StoreDir(path)
    # Not Path.resolve, which raises RuntimeError on a loop of links.
    source, target = (Path(os.path.realpath(folder)) for folder in (root, path))
    if target.is_relative_to(source):
        raise UserError(f"--store {path} lies within --source {root}: keep them apart")
    if source.is_relative_to(target):
        raise UserError(f"--source {root} lies within --store {path}: keep them apart")
    _refuse_other_folder(store)
    # In this order: the recipe of a store that another task has just begun is there before its first commit.
    if store.commits.is_dir() and store.commit_ids() and not store.recipe.exists():
        raise UserError(
            f"{store.recipe} is missing, but not the images: restore it from a backup, or from a run of this "
            "store (RUN/recipe.json)"
        )
    return store


def _refuse_other_folder(store: StoreDir) -> None:
    """Raise UserError where what is to become a store is a file, or a folder that holds something else."""
    if store.path.exists() and not store.path.is_dir():
        raise UserError(f"{store.path} is a file: choose a new folder for --store")
    if not store.path.exists():
        return
    # Another task may make the folders at this moment: asking for one after the other is no picture of it.
    names = {entry.name for entry in store.path.iterdir() if not entry.name.startswith(".")}
    if names & {store.recipe.name, store.commits.name}:
        return
    # What a task that was killed while it made the folders leaves, and what every disk has.
    others = names - {store.chunks.name, store.private.name, store.snapshots.name, *PASSED_OVER}
    if others:
        held = f"{store.path} holds other things ({min(others)}, ...)"
        raise UserError(f"{held}: choose a new folder for --store")
