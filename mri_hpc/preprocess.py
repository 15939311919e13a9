"""``mri-hpc preprocess``: what is new in a folder of images goes into the store."""

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from mri_hpc.base.access import group_named
from mri_hpc.base.command import run_command
from mri_hpc.base.errors import UserError, Verdict
from mri_hpc.base.exit_status import AGAIN
from mri_hpc.base.marks import OFTEN, Flag
from mri_hpc.base.stop_flag import StopFlag
from mri_hpc.cluster.slurm import array_job, array_place, array_share, node_name, own_job_id
from mri_hpc.counting import Progress, print_tally
from mri_hpc.intake.decoding.recipe import (
    Bits,
    Dates,
    Fit,
    Ids,
    Oblique,
    Plane,
    Wishes,
    wanted_recipe,
)
from mri_hpc.intake.decoding.sequence import choice_text
from mri_hpc.intake.files.sources import Sources, list_sources, shared_listing
from mri_hpc.intake.files.units import Share, unit_images
from mri_hpc.intake.labels.doubts import Accepted, Doubt, refuse_open
from mri_hpc.intake.labels.labelled_files import doubts_of, find_labels, knowing, labelled_paths
from mri_hpc.intake.labels.pseudonyms import key_note, key_path, refuse_on_own_disk, share_key
from mri_hpc.storage.store import Store

if TYPE_CHECKING:
    from mri_hpc.account import Account
    from mri_hpc.intake.kinds import Chosen
    from mri_hpc.intake.labels.csv_labels import CsvLabels
    from mri_hpc.intake.labels.folder_labels import FolderLabels
    from mri_hpc.intake.own_labels import OwnLabels
    from mri_hpc.looking import Question
    from mri_hpc.storage.store import Intake, Tally


@dataclass(frozen=True, kw_only=True)
class Options:
    """Add what is new below a folder of images to a store: each source once, whatever is killed on the way.

    Labels come from class folders (SOURCE/[SPLIT/]CLASS/[PATIENT/]file), or from a CSV with the columns path
    and label, and where known patient, study, site, fold, split, plane, box_cx, box_cy, box_w, box_h; or with
    patient and label, a row a patient; of a BIDS tree from participants.tsv. Any number of tasks may work at
    once.
    """

    source: Annotated[Path, OFTEN] = Path("data/raw")
    """Folder of images. Its name is part of each image's identity; where it lies is not."""
    store: Annotated[Path, OFTEN] = Path("data/store")
    """Folder of the store; made if it is not there."""
    labels: Annotated[Path | None, OFTEN] = None
    """CSV of labels; by default labels.csv in the source if there is one, else participants.tsv of a BIDS
    tree, else the names of folders."""
    label_column: str = ""
    """Column of the class in that table, or in participants.tsv of a BIDS tree, if it is called otherwise."""
    size: Annotated[int | None, OFTEN] = None
    """Side of the stored images in pixels; by default that of the store, and 224 for a new one."""
    fit: Fit | None = None
    """Keep proportions on black, or fill the square; by default as the store, and letterbox for a new one."""
    ids: Ids | None = None
    """Names of patients in the store; by default as there, and pseudonym in a new one."""
    plane: Plane | None = None
    """Plane in which volumes are cut into slices; by default as the store, in a new one as acquired."""
    slices: str | None = None
    """Slices that are taken of a volume's with a head: all, middle:N or every:N; by default as the store, and
    all in a new one."""
    oblique: Oblique | None = None
    """Refuse volumes more than 30 degrees off the planes, or resample them; by default as the store, in a new
    one refuse."""
    bits: Bits | None = None
    """Grey levels of stored images: 8 bits, or 16 in twice the memory; by default as the store, in a new one
    8."""
    series: Annotated[tuple[str, ...], OFTEN] = ()
    """Kinds of series that are taken (t1, t1ce, t2, flair, dwi, adc, unknown, or all), or '/PATTERN/' on
    their description; by default as the store. Needed where a patient has several kinds."""
    dates: Dates | None = None
    """Dates in headers are dropped, or kept, all of a patient shifted by the same secret number of days; by
    default as the store, in a new one dropped."""
    masks: tuple[str, ...] = ()
    """Patterns of masks that lie beside volumes, such as 'brain:{stem}_mask.nii.gz', '*-seg.nii.gz' or
    'lesion:rois/{name}'; a word may tell brain from lesion; by default as the store."""
    without_lesion: str = ""
    """Class of slices that show no lesion, where masks of lesions are given; by default they are left out."""
    site: Annotated[str, OFTEN] = ""
    """Name of where the images come from, where several hospitals number patients and files alike."""
    patient_pattern: Annotated[str, OFTEN] = ""
    """Regular expression that finds the patient in a path, such as '(?P<patient>P[0-9]+)_'; goes before
    folders, and behind the cells of a CSV."""
    task: int | None = None
    """This task's share of the work, from 0; by default its number in the Slurm array."""
    tasks: int | None = None
    """Number of shares."""
    replace: Annotated[Flag, OFTEN] = False
    """Take sources whose bytes differ from those stored, in place of rejecting them as changed."""
    skip_empty: Flag = False
    """Leave out images that show no head; by default they are stored, and counted."""
    accept: Annotated[tuple[Accepted, ...], OFTEN] = ()
    """Go on in spite of doubts about these: all is as it is meant."""
    chunk_images: int | None = None
    """Images of a chunk, and of the work that a kill can cost; by default, and at most, 64 MiB of pixels."""
    group: str = ""
    """Group whose members may all add to this store: they can use it, STORE/private and the site's key."""
    look: Annotated[Flag, OFTEN] = False
    """Only look: say what would be understood of the source, and leave nothing behind."""
    write_labels: Annotated[Path | None, OFTEN] = None
    """With --look: write a table of labels to be filled in, with a row a patient (of DICOM a study), to this
    new file."""
    json: Annotated[Flag, OFTEN] = False
    """Print the counts as JSON."""

    def __post_init__(self) -> None:
        if (self.task is None) != (self.tasks is None):
            raise UserError("--task and --tasks go together: give both or neither")
        if self.write_labels is not None and not self.look:
            raise UserError("--write-labels goes with --look: nothing is stored by it")
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
    if options.look:
        from mri_hpc.looking import look

        return look(_question(options), is_json=options.json, is_stopping=lambda: stop.request is not None)
    # Here and below: what decodes and counts takes longer to load than --help to print.
    from mri_hpc.account import print_account, print_next
    from mri_hpc.notes import print_notes, print_notes_of_source

    store = _store(options)
    key_file = key_path(os.environ)
    share = _share(options)
    asked = _ask(options, store, key_file)
    intake = asked.intake
    store.clean_up()
    found = intake.sources(asked.chosen.paths)
    _refuse_or_say(store.doubts(intake, found), options.accept)
    store.join_alike(asked.own_labels.mentions(asked.chosen.paths), intake.pseudonyms, options.accept)
    sources = intake.share_of(share, found)
    tally = _add(options, store, intake, sources, stop)
    tally.own_labels_differ = asked.own_labels.num_differing
    if share.index == 0:
        tally.left_out_series = dict(asked.chosen.left_out)
    account = _account(options, store, intake, found, tally, stop)
    print_notes(tally, store=store, root_name=intake.root_name, account=account)
    if share.index == 0:
        print_notes_of_source(
            asked.labels,
            asked.paths,
            without_lesion=intake.recipe.without_lesion,
            has_account=account is not None,
        )
    if account:
        print_account(account)
        if intake.recipe.ids == "pseudonym" and account.tally.images == account.images > 0:
            print(key_note(key_file), file=sys.stderr)
        print_next(account, store.path)
    if stop.request:
        done = f"{tally.done} of {len(sources)} sources"
        print(f"stopped by {stop.request.signal_name} after {done}: run it again", file=sys.stderr)
    print_tally(tally, time.monotonic() - started_s, account, is_json=options.json)
    if stop.request:
        return AGAIN
    _refuse_nothing(options, share, tally)
    return 0


def _store(options: Options) -> Store:
    """Open the store; a new one is made when nothing is refused any more, or where tasks share a listing."""
    store = Store.would_be(options.store, options.source)
    return Store.make(options.store, options.source) if store.recipe.exists() or array_job() else store


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """The part of a source that is known before any picture is read."""

    labels: "FolderLabels | CsvLabels"
    own_labels: "OwnLabels"
    paths: list[str]
    """Of all files below the source."""
    chosen: "Chosen"
    """Those of the series that are taken."""
    intake: "Intake"


def _ask(options: Options, store: Store, key_file: Path) -> _Asked:
    """Find labels, files and series; UserError where something looks other than it was meant."""
    from mri_hpc.choosing import choose, refuse_beside_stored
    from mri_hpc.intake.decoding.dicom.listing import find_series
    from mri_hpc.intake.decoding.masks import find_masks
    from mri_hpc.intake.kinds import Kinds
    from mri_hpc.intake.own_labels import OwnLabels

    labels = find_labels(
        options.source, options.labels,
        site=options.site, patient_pattern=options.patient_pattern, label_column=options.label_column,
    )  # fmt: skip
    typed = choice_text(options.series) if options.series else None
    wanted = wanted_recipe(store.recipe, _wishes(options))
    paths = labelled_paths(options.source, labels, ids=wanted.ids, shared=_shared_listing(options, store))
    _refuse_or_say(doubts_of(labels, paths), options.accept)
    series = find_series(
        options.source, paths, kept=store.series_of(options.source), shared=_shared_series(options, store)
    ).beside(find_masks(options.source, paths, wanted.masks))
    labels = knowing(labels, series.named)
    own_labels = OwnLabels(labels, options.source, series)
    # Before a recipe is written down: it says what was chosen.
    chosen, table = choose(typed or wanted.series, paths, Kinds(options.source, series), own_labels)
    if not (key_file.exists() and store.recipe.exists()):
        # Whoever is refused has no key, and no store, left behind.
        mentions = own_labels.mentions(chosen.paths)
        refuse_open(store.doubts_of_ids(mentions, options.accept), options.accept)
    is_made_by_job = bool(own_job_id()) and wanted.ids == "pseudonym" and not key_file.exists()
    if is_made_by_job:
        refuse_on_own_disk(key_file, options.store, node_name())
    _share_with_group(options, store, key_file)
    intake = store.intake(
        options.source,
        own_labels,
        wanted,
        key_file,
        series=series,
        is_replacing=options.replace,
        is_skipping_empty=options.skip_empty,
        is_accepting_text="burnt-in" in options.accept,
        is_shortening="shorter" in options.accept,
    )
    if is_made_by_job:
        # Of a job that is stopped, nothing else would tell.
        print(f"the site's key, which names patients, is new: {key_file}", file=sys.stderr)
    series.keep()
    if table:
        refuse_beside_stored(table, store, intake.pseudonyms)
    if typed and typed != intake.recipe.series:
        print(f"--series {typed} holds for this time: {store.path} was made without it", file=sys.stderr)
    return _Asked(labels=labels, own_labels=own_labels, paths=paths, chosen=chosen, intake=intake)


def _wishes(options: Options) -> Wishes:
    return Wishes(
        size=options.size, fit=options.fit, ids=options.ids, plane=options.plane, slices=options.slices,
        oblique=options.oblique, bits=options.bits, series=options.series, dates=options.dates,
        masks=options.masks, without_lesion=options.without_lesion,
    )  # fmt: skip


def _add(options: Options, store: Store, intake: "Intake", sources: Sources, stop: StopFlag) -> "Tally":
    """Store what is new among sources, and show how far that is."""
    progress = Progress(len(sources))
    tally = store.add(
        intake,
        sources,
        unit_size=unit_images(intake.recipe.image_bytes, options.chunk_images),
        is_stopping=lambda: stop.request is not None,
        progress=progress,
    )
    progress.end()
    return tally


def _account(
    options: Options, store: Store, intake: "Intake", found: Sources, tally: "Tally", stop: StopFlag
) -> "Account | None":
    """Return the account of the store, where this task is to give it and was not stopped."""
    total = None if stop.request else _tally_of_all(options, store, tally)
    if total is None:
        return None
    from mri_hpc.account import account_of

    return account_of(store, intake, found, total, is_stopping=lambda: stop.request is not None)


def _tally_of_all(options: Options, store: Store, tally: "Tally") -> "Tally | None":
    """Return what all tasks have counted where this one is to tell of them: the only one, or the last."""
    if tally.gone and _is_lost(options.source):
        # It is to be run again.
        return None
    if options.tasks:
        # Nothing tells who is the last of tasks that are started by hand.
        return tally if options.tasks == 1 else None
    place = array_place()
    if place is None or place[2] == 1:
        return tally
    from mri_hpc.storage.store import ArrayTask

    job, number, count = place
    return store.tell_last(options.source, ArrayTask(job=job, number=number, count=count), tally)


def _question(options: Options) -> "Question":
    from mri_hpc.looking import Question

    return Question(
        source=options.source,
        store=options.store,
        labels=options.labels,
        label_column=options.label_column,
        site=options.site,
        patient_pattern=options.patient_pattern,
        wishes=_wishes(options),
        accepted=options.accept,
        is_skipping_empty=options.skip_empty,
        template=options.write_labels,
        command=_command(options),
    )


def _command(options: Options) -> str:
    """Return the command line that stores what was looked at."""
    import shlex

    labels = options.write_labels or options.labels
    given = {
        "--source": options.source, "--store": options.store, "--labels": labels,
        "--label-column": (not options.write_labels and options.label_column) or None, "--size": options.size,
        "--fit": options.fit, "--ids": options.ids, "--plane": options.plane, "--slices": options.slices,
        "--oblique": options.oblique, "--bits": options.bits, "--dates": options.dates,
        "--without-lesion": options.without_lesion or None,
        "--site": options.site or None, "--patient-pattern": options.patient_pattern or None,
    }  # fmt: skip
    words = [str(word) for pair in given.items() if pair[1] is not None for word in pair]
    accepted = ["--accept", *options.accept] if options.accept else []
    masks = ["--masks", *options.masks] if options.masks else []
    skipping = ["--skip-empty"] if options.skip_empty else []
    series = ["--series", *options.series] if options.series else []
    return shlex.join(["python", "-m", "mri_hpc.preprocess", *words, *masks, *series, *skipping, *accepted])


def _share_with_group(options: Options, store: Store, key_file: Path) -> None:
    """Open a store, and the site's key, to the group that is named."""
    if not options.group:
        return
    if not os.environ.get("MRI_KEY_FILE"):
        raise UserError(
            "--group shares the site's key, too: set MRI_KEY_FILE to a file outside the store that the group "
            "can reach, and copy the key there if there is one (see: docs/privacy.md)"
        )
    group = group_named(options.group)
    share_key(key_file, group, store.path)
    Store.make(options.store, options.source).share(group)


def _share(options: Options) -> Share:
    if options.task is not None and options.tasks is not None:
        return Share(index=options.task, count=options.tasks)
    index, count = array_share() or (0, 1)
    return Share(index=index, count=count)


def _shared_listing(options: Options, store: Store) -> Path | None:
    job = array_job()
    return shared_listing(store.listings, options.source, job) if job else None


def _shared_series(options: Options, store: Store) -> Path | None:
    listing = _shared_listing(options, store)
    return listing.with_name(f"{listing.name}.series") if listing else None


def _is_lost(source: Path) -> bool:
    """Tell whether a source has no file any more, or cannot be listed."""
    try:
        return next(list_sources(source), None) is None
    except OSError:
        return True


def _refuse_nothing(options: Options, share: Share, tally: "Tally") -> None:
    """Raise Verdict where the source is of no use, or has gone meanwhile."""
    if tally.gone and _is_lost(options.source):
        raise Verdict(
            f"{options.source} lost all its files while they were read, {tally.gone} of them unread: is it "
            "still mounted? What was read is stored; run it again when they are back"
        )
    if share.count == 1 and tally.done == tally.rejected and tally.rejected:
        raise Verdict(
            f"none of the {tally.rejected} files in {options.source} could be stored; the reasons are above"
        )


def _refuse_or_say(doubts: Sequence[Doubt], accepted: Sequence[str]) -> None:
    """Raise UserError at a doubt that is open; else print those that need no decision."""
    refuse_open(doubts, accepted)
    for doubt in doubts:
        if not doubt.accept:
            print(doubt.text, file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
