"""``mri-hpc preprocess``: what is new in a folder of images goes into the store."""

import itertools
import os
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from mri_hpc.base.command import counted, print_json, run_command
from mri_hpc.base.command_line import Flag
from mri_hpc.base.errors import UserError, Verdict
from mri_hpc.base.exit_status import AGAIN
from mri_hpc.base.stop_flag import StopFlag
from mri_hpc.cluster.slurm import array_job, array_share
from mri_hpc.intake.labels import CsvLabels, FolderLabels, read_csv
from mri_hpc.intake.probe import probe
from mri_hpc.intake.pseudonyms import Pseudonyms, key_path, site_key
from mri_hpc.intake.recipe import Recipe, load_recipe, settle_recipe
from mri_hpc.intake.sources import (
    PASSED_OVER,
    Sources,
    check_root,
    list_sources,
    listing,
    root_name,
    source_key,
)
from mri_hpc.intake.units import Share, unit_images
from mri_hpc.storage.adding.known import Known
from mri_hpc.storage.adding.loop import Intake, Tally, add_sources
from mri_hpc.storage.disk.layout import StoreDir
from mri_hpc.storage.snapshot.catalogue import Standing, current, look, publish_snapshot
from mri_hpc.storage.upkeep.removal import settle_removals

REPORT_INTERVAL_S = 30.0
# A store that is only ever added to gets its commits folded now and then, so that starting stays cheap.
UNFOLDED_COMMITS = 64
# Folding writes some 71 bytes an image: shared out among the commits, 2 MB each, however large the store is.
FOLDED_IMAGES_A_COMMIT = 2**15


@dataclass(frozen=True, kw_only=True)
class Options:
    """Add what is new below a folder of images to a store: each source once, whatever is killed on the way.

    Labels come from class folders (SOURCE/[SPLIT/]CLASS/[PATIENT/]file), or from a CSV with the columns path
    and label, and where known patient, study, fold, split, plane, box_cx, box_cy, box_w, box_h. Any number of
    tasks may work at once.
    """

    source: Path = Path("data/raw")
    """Folder of images. Its name is part of each image's identity; where it lies is not."""
    store: Path = Path("data/store")
    """Folder of the store; made if it is not there."""
    labels: Path | None = None
    """CSV of labels; by default labels.csv in the source if there is one, else the names of folders."""
    size: int | None = None
    """Side of the stored images in pixels; by default that of the store, and 224 for a new one."""
    fit: Literal["letterbox", "stretch"] | None = None
    """Keep proportions on black, or fill the square; by default as the store, and letterbox for a new one."""
    ids: Literal["pseudonym", "as-given"] | None = None
    """How patients are named in the store; by default as the store, and pseudonym for a new one."""
    task: int | None = None
    """Which share of the work is this task's, from 0; by default its place in the Slurm array."""
    tasks: int | None = None
    """Number of shares."""
    replace: Flag = False
    """Take sources whose bytes differ from those stored, in place of rejecting them as changed."""
    chunk_images: int | None = None
    """Images of a chunk, and of the work that a kill can cost; by default, and at most, 64 MiB of pixels."""
    json: Flag = False
    """Print the counts as JSON."""

    def __post_init__(self) -> None:
        if (self.task is None) != (self.tasks is None):
            raise UserError("--task and --tasks go together: give both or neither")
        if self.chunk_images is not None and self.chunk_images < 1:
            raise UserError(f"--chunk-images must be at least 1, got {self.chunk_images}")


def main(argv: Sequence[str] | None = None) -> int:
    """The command; returns its exit status."""
    return run_command(
        "mri-hpc preprocess",
        Options,
        preprocess,
        argv,
        example="mri-hpc preprocess --source data/raw --store data/store --labels labels.csv",
    )


def preprocess(options: Options) -> int:
    """Add this task's share; 0, or 75 where a signal ended it early and it is to be run again."""
    started_s = time.monotonic()
    stop = StopFlag().listen()
    store = _place(options)
    share = _share(options)
    labels, paths = _labelled_paths(options, store)
    intake = _intake(options, store, labels)
    store.sweep()
    settle_removals(store)
    sources = _sources_of(share, intake, paths)
    progress = _Progress(len(sources))
    tally = add_sources(
        store,
        intake,
        sources,
        _known(store, sources),
        unit_size=_unit_size(options, intake.recipe),
        is_stopping=lambda: stop.request is not None,
        progress=progress,
    )
    progress.end()
    _print_notes(tally, store, labels, paths if share.index == 0 else [], intake.root_name)
    if stop.request:
        done = f"{tally.done} of {len(sources)} sources"
        print(f"stopped by {stop.request.signal_name} after {done}: run it again", file=sys.stderr)
    _print_tally(tally, time.monotonic() - started_s, is_json=options.json)
    if stop.request:
        return AGAIN
    if tally.gone and next(list_sources(options.source), None) is None:
        raise Verdict(
            f"{options.source} lost all its files while they were read, {tally.gone} of them unread: is it "
            "still mounted? What was read is stored; run it again when they are back"
        )
    if share.count == 1 and tally.done == tally.rejected and tally.rejected:
        raise Verdict(
            f"none of the {tally.rejected} files in {options.source} could be stored; the reasons are above"
        )
    return 0


def _place(options: Options) -> StoreDir:
    """The folders of the store, made where they are missing."""
    check_root(options.source)
    store = StoreDir(options.store)
    # Not Path.resolve, which raises RuntimeError on a loop of links.
    source, place = (Path(os.path.realpath(path)) for path in (options.source, store.path))
    if place.is_relative_to(source):
        raise UserError(f"--store {options.store} lies within --source {options.source}: keep them apart")
    if source.is_relative_to(place):
        raise UserError(f"--source {options.source} lies within --store {options.store}: keep them apart")
    _refuse_other_folder(store)
    # In this order: the recipe of a store that another task has just begun is there before its first commit.
    if store.commits.is_dir() and store.commit_ids() and not store.recipe.exists():
        raise UserError(
            f"{store.recipe} is missing, but not the images: restore it from a backup, or from a run of this "
            "store (RUN/recipe.json)"
        )
    store.make()
    return store


def _refuse_other_folder(store: StoreDir) -> None:
    """UserError where what is to become a store is a file, or a folder that holds something else."""
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


def _intake(options: Options, store: StoreDir, labels: FolderLabels | CsvLabels) -> Intake:
    """What decides about sources; the recipe is what the user asks for, and else as in the store."""
    base, ids = _recipe_before(store), _ids(options, store)
    pseudonyms = Pseudonyms(site_key(key_path(os.environ)) if ids == "pseudonym" else None)
    size = base.size if options.size is None else options.size
    wanted = Recipe(size=size, fit=options.fit or base.fit, ids=ids, site=pseudonyms.fingerprint())
    return Intake(
        root=options.source,
        root_name=root_name(options.source),
        labels=labels,
        pseudonyms=pseudonyms,
        recipe=settle_recipe(store.recipe, probe(wanted)),
        is_replacing=options.replace,
    )


def _recipe_before(store: StoreDir) -> Recipe:
    """The recipe of the store, and the usual one for a new store."""
    return load_recipe(store.recipe) if store.recipe.exists() else Recipe()


def _ids(options: Options, store: StoreDir) -> Literal["pseudonym", "as-given"]:
    return options.ids or _recipe_before(store).ids


def _unit_size(options: Options, recipe: Recipe) -> int:
    """Images of a unit: all of them are in memory at once."""
    most = unit_images(recipe.size**2)
    return min(options.chunk_images or most, most)


def _share(options: Options) -> Share:
    if options.task is not None and options.tasks is not None:
        return Share(index=options.task, count=options.tasks)
    index, count = array_share() or (0, 1)
    return Share(index=index, count=count)


def _labelled_paths(options: Options, store: StoreDir) -> tuple[FolderLabels | CsvLabels, list[str]]:
    """The labels, and the paths of all sources but the labels; UserError where there are none."""
    in_source = options.source / "labels.csv"
    file = options.labels or (in_source if in_source.is_file() else None)
    labels = read_csv(file, options.source) if file else FolderLabels()
    if isinstance(labels, CsvLabels) and labels.ignored:
        ignored = ", ".join(labels.ignored)
        print(f"{file}: columns without meaning here are ignored: {ignored}", file=sys.stderr)
    job = array_job()
    shared = store.listings / f"{job}.{source_key(str(options.source.absolute()), ''):016x}" if job else None
    paths = listing(options.source, shared)
    if file:
        paths = [path for path in paths if not _is_same(options.source, path, file)]
    if not paths:
        raise UserError(
            f"{options.source} holds no files: --source (or MRI_SOURCE) takes the folder with the images"
        )
    if isinstance(labels, FolderLabels):
        labels.check(paths)
        if _ids(options, store) == "pseudonym":
            labels.refuse_patients(paths)
    return labels, paths


def _is_same(source: Path, path: str, labels_file: Path) -> bool:
    if path.rpartition("/")[2] != labels_file.name:
        return False
    return (source / path).exists() and (source / path).samefile(labels_file)


def _sources_of(share: Share, intake: Intake, paths: Sequence[str]) -> Sources:
    key_of, name = intake.pseudonyms.source_key, intake.root_name
    keys = np.fromiter((key_of(name, path) for path in paths), "<u8", len(paths))
    is_own = share.holds(keys)
    return Sources(keys=keys[is_own], paths=list(itertools.compress(paths, is_own.tolist())))


def _known(store: StoreDir, sources: Sources) -> Known:
    """What the store knows about some sources; its commits are folded first where they have become many."""
    if look(store, _is_fold_due):
        publish_snapshot(store, current(store)[0])
    return Known(store, sources.keys)


def _is_fold_due(standing: Standing) -> bool:
    """Whether commits have become many: for the size of a snapshot too, all of which is written anew."""
    images = 0 if standing.base is None else len(standing.base)
    return len(standing.new) >= max(UNFOLDED_COMMITS, images // FOLDED_IMAGES_A_COMMIT)


class _Progress:
    """Tells how far the work is: a line that rewrites itself on a terminal, a line now and then in a log."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._started_s = self._told_s = time.monotonic()
        self._is_terminal = sys.stderr.isatty()

    def __call__(self, tally: Tally, under_way: int) -> None:
        now = time.monotonic()
        if now - self._told_s < (0.2 if self._is_terminal else REPORT_INTERVAL_S):
            return
        self._told_s = now
        done = tally.done + under_way
        speed = (tally.stored + under_way) / (now - self._started_s)
        text = f"{done} of {self._total} sources, {tally.rejected} rejected, {speed:.0f} images/s"
        if self._is_terminal:
            print(f"\r{text}\033[K", end="", file=sys.stderr, flush=True)
        else:
            print(text, file=sys.stderr, flush=True)

    def end(self) -> None:
        """Leave the line that rewrote itself."""
        if self._is_terminal:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def _print_notes(
    tally: Tally, store: StoreDir, labels: FolderLabels | CsvLabels, paths: Sequence[str], name: str
) -> None:
    """What the user should know beside the counts. name: the source root's."""
    for reason, count in sorted(tally.reasons.items()):
        print(f"rejected {count}: {reason}", file=sys.stderr)
    if tally.reasons:
        print(f"which files: {store.names}/*.csv, column rejected", file=sys.stderr)
    if isinstance(labels, CsvLabels) and paths and (missing := labels.num_without_file(paths)):
        print(f"{missing} rows of the CSV name files that are not in the source", file=sys.stderr)
    if tally.gone:
        print(f"{counted(tally.gone, 'listed file')} disappeared meanwhile", file=sys.stderr)
    if tally.labels_differ:
        what = "labels, patients, folds or splits differ"
        print(f"{tally.labels_differ} {what} from those stored, which stay", file=sys.stderr)
    if tally.without_patient:
        what = "images name no patient: results will be by slice, not by patient"
        print(f"{tally.without_patient} {what} (see: Your images, in README.md)", file=sys.stderr)
    if tally.twins > tally.stored / 2:
        print(
            f"{tally.twins} of {tally.stored} new images have the same bytes as ones stored before under "
            f"another path: was the source (now {name!r}) or a folder in it renamed? They are stored twice "
            "now: make a new store",
            file=sys.stderr,
        )
    if isinstance(labels, FolderLabels) and (hint := labels.hint(paths)):
        print(hint, file=sys.stderr)


def _print_tally(tally: Tally, seconds: float, *, is_json: bool) -> None:
    speed = tally.stored / seconds
    if is_json:
        print_json({**asdict(tally), "seconds": round(seconds, 3), "images_per_s": round(speed, 1)})
        return
    print(
        f"stored {tally.stored}, already there {tally.already_there}, rejected {tally.rejected} "
        f"({seconds:.1f} s, {speed:.0f} images/s)"
    )


if __name__ == "__main__":
    sys.exit(main())
