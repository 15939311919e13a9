"""Following a growing store: at an epoch's start, and only there, a run may take up a newer snapshot.

Rank 0 decides, and writes it into the ledger before any rank trains on it: an attempt that comes to the
same epoch again, and a run that is told the list, do as is written there. So steps follow from the ledger,
and not from the time at which images came.
"""

import contextlib
import logging
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mri_hpc.base.command import shown
from mri_hpc.base.errors import ImagesRetracted, StoreDamage, StoreRaced, UserError
from mri_hpc.cohort.newer import refuse_other
from mri_hpc.loading.batches import Batches
from mri_hpc.rundir.following import (
    FOLLOW,
    NO_MORE,
    Adoption,
    adoptions_of,
    as_list,
    is_list,
    listed,
    why_followed,
)
from mri_hpc.rundir.layout import Attempt, RunDir
from mri_hpc.rundir.ledger import Kind, read_events, record
from mri_hpc.rundir.manifests import Manifest
from mri_hpc.rundir.progress import Progress
from mri_hpc.rundir.settings import TrainingSettings, load_training
from mri_hpc.storage.store import Reader, Snapshot, Store
from mri_hpc.training.agreed_stop import AgreedStop
from mri_hpc.training.learner import Learner
from mri_hpc.training.parts import Cohort, cohort_of, open_cohort, weights_of_classes
from mri_hpc.training.ranks import Ranks

log = logging.getLogger(__name__)

OF_THE_STORE = StoreDamage, ImagesRetracted, StoreRaced
"""Errors that say nothing of whether a snapshot can be trained on."""


def may_change(settings: TrainingSettings) -> bool:
    """Tell whether a run's snapshot changes: it follows its store, or was told a list."""
    return settings.snapshot == FOLLOW or is_list(settings.snapshot)


def first_progress(
    run: RunDir, settings: TrainingSettings, manifest: Manifest | None, ranks: Ranks
) -> Progress:
    """Return where a run whose snapshot changes goes on, or begins; the same for all ranks.

    Where images of its snapshot were retracted and it follows its store, the epoch under way ends there, and
    the next begins on the newest snapshot: which has yet to be looked at for leaks, and to be taken down by
    `note_forced`. Raises UserError, on all ranks, where the store lacks it, or it cannot be trained on.
    """
    return _agreed(ranks, lambda: _find_first_progress(run, settings, manifest))


def _find_first_progress(run: RunDir, settings: TrainingSettings, manifest: Manifest | None) -> Progress:
    store, planned = Store.open(Path(settings.store)), _planned(run, settings)
    progress = manifest.progress if manifest else Progress(snapshot=planned.get(0, "newest"))
    try:
        snapshot = store.resolve(progress.snapshot)
    except ImagesRetracted:
        if settings.snapshot != FOLLOW:
            raise
        newest = store.resolve()
        if refusal := _refusal(settings, cohort_of(settings, store.recall(progress.snapshot)), newest):
            raise UserError(retracted_from(run, settings, refusal)) from None
        return progress.without_rest_of_epoch().on_snapshot(newest.digest)
    return progress if manifest else Progress(snapshot=snapshot.digest)


def retracted_from(run: RunDir, settings: TrainingSettings, refusal: str) -> str:
    """Say why a run cannot go on whose images were retracted, and what to do."""
    return (
        f"images that {shown(run.path)} learns from were retracted, and it cannot go on on the newest "
        f"snapshot: {refusal}; start a new run with: python -m mri_hpc.launch --store "
        f"{shown(Path(settings.store))} --follow"
    )


def note_forced(run: RunDir, attempt: Attempt, progress: Progress, cohort: Cohort) -> None:
    """Write into the ledger, on rank 0, that a retraction has forced a snapshot on a run."""
    _record_once(run, attempt, progress, cohort)


class Following:
    """Follows a store, or a list of snapshots, for all parts of a training that hold images."""

    def __init__(
        self,
        run: RunDir,
        attempt: Attempt,
        settings: TrainingSettings,
        ranks: Ranks,
        stop: AgreedStop,
        *,
        cohort: Cohort,
        batches: Batches,
        learner: Learner,
    ) -> None:
        """cohort: that on which the attempt begins; batches and learner hold it."""
        self._run, self._attempt, self._settings = run, attempt, settings
        self._ranks, self._stop = ranks, stop
        self._batches, self._learner = batches, learner
        self._reader: Reader | None = None
        self.cohort = cohort
        self._looked_at = ""
        """Digest of a snapshot that is about to be adopted."""
        self.has_caught_up = False
        """At the last epoch's start there was nothing new to learn, and no word to finish."""

    @property
    def snapshots(self) -> str:
        """Snapshots that were trained on so far, as a run's setting that names them."""
        adoptions = adoptions_of(read_events(self._run)).values()
        return as_list({one.epoch: one.snapshot for one in adoptions})

    def at_epoch_start(self, progress: Progress) -> Progress:
        """Take up what this epoch is to be trained on, where it has not begun; return the progress then."""
        if progress.step_in_epoch or progress.decay_epoch >= 0:
            return progress
        turn = _agreed(self._ranks, lambda: self._turn(progress))
        self.has_caught_up = turn.has_caught_up
        leaks = ""
        if turn.wanted:
            progress, leaks = self._adopt(turn, progress)
        # Where the ranks stop amid the audit, all of this is decided anew.
        if self._ranks.is_first and not self._stop.agreed:
            self._note_what_came_of(turn, progress, leaks or turn.why_no_more)
        return progress

    def _note_what_came_of(self, turn: "_Turn", progress: Progress, why_no_more: str) -> None:
        """Take down that following is over, and that a snapshot of which no step is left was taken back."""
        if turn.is_retracted:
            _record_once(self._run, self._attempt, progress, self.cohort)
        if why_no_more:
            self._note(Kind.FOLLOWED, epoch=progress.epoch, reason=why_no_more)

    def note_caught_up(self, progress: Progress) -> None:
        """Take down, on rank 0, that the ranks leave: only now that what they have learnt is saved."""
        self._note(Kind.CAUGHT_UP, epoch=progress.epoch, step=progress.step)

    @contextlib.contextmanager
    def outlasts_retraction(self) -> Iterator[None]:
        """Have images that are retracted, or moved, while they are read end the attempt, and not the run.

        The next one looks again, and goes on without those that are gone, as `first_progress` has it.
        """
        try:
            yield
        except OF_THE_STORE as error:
            if self._settings.snapshot == FOLLOW and self._may_be_looked_for_again(error):
                raise RuntimeError("images were retracted, or moved, while they were read") from error
            raise

    def _may_be_looked_for_again(self, error: UserError) -> bool:
        if not isinstance(error, StoreDamage):
            return True
        store = Store(Path(self._settings.store))
        try:
            for digest in {self.cohort.snapshot.digest, self._looked_at} - {""}:
                store.resolve(digest)
        except ImagesRetracted:
            return True
        return False

    def close(self) -> None:
        """Close the files of what was taken up."""
        if self._reader:
            self._reader.close()

    def _turn(self, progress: Progress) -> "_Turn":
        """Decide what an epoch is trained on; on rank 0."""
        planned = _planned(self._run, self._settings)
        if progress.epoch in planned:
            return self._as_planned(planned[progress.epoch], progress)
        if not planned and not progress.epoch:
            return _Turn(wanted=progress.snapshot)
        events = read_events(self._run)
        if (
            self._settings.snapshot != FOLLOW
            or max(planned, default=0) > progress.epoch
            or why_followed(events)
        ):
            return _Turn()
        # Launch may have changed it while the run goes on.
        is_last = not load_training(self._run).follow
        why_no_more = NO_MORE if is_last else ""
        if not is_last and not self._has_epochs_left(progress):
            return _Turn(has_caught_up=True)
        newest = self._newest_if_other(progress)
        if newest is None:
            ends = progress.with_decay(
                self._settings.epochs, self._settings.patience, self._settings.whole_decay_epochs
            )
            return _Turn(has_caught_up=ends != progress and not is_last, why_no_more=why_no_more)
        refusal = self._refusal(newest)
        if refusal:
            return _Turn(why_no_more=refusal)
        return _Turn(wanted=newest, is_new=True, why_no_more=why_no_more)

    def _as_planned(self, digest: str, progress: Progress) -> "_Turn":
        """Take up what is written of an epoch; what was retracted since is passed over, in following."""
        try:
            return _Turn(wanted=Store.open(Path(self._settings.store)).resolve(digest).digest)
        except ImagesRetracted:
            if self._settings.snapshot != FOLLOW:
                raise
            newest = self._newest_if_other(progress) or ""
            refusal = self._refusal(newest) if newest else ""
            wanted = "" if refusal else newest
            return _Turn(wanted=wanted, is_new=True, is_retracted=True, why_no_more=refusal)

    def _has_epochs_left(self, progress: Progress) -> bool:
        return progress.epoch + self._settings.whole_decay_epochs < self._settings.epochs

    def _newest_if_other(self, progress: Progress) -> str | None:
        """Find the newest snapshot; None where it holds what the present one does, in whatever chunks."""
        newest = Store.open(Path(self._settings.store)).resolve()
        is_other = newest.content_digest != self.cohort.snapshot.content_digest
        return newest.digest if is_other and newest.digest != progress.snapshot else None

    def _refusal(self, digest: str) -> str:
        """Say why a snapshot cannot be trained on by this run; empty where it can."""
        snapshot = Store.open(Path(self._settings.store)).resolve(digest)
        return _refusal(self._settings, self.cohort, snapshot, self._batches)

    def _adopt(self, turn: "_Turn", progress: Progress) -> tuple[Progress, str]:
        """Turn all to another snapshot, unless it has leaks, or the ranks agree to stop meanwhile.

        Returns the progress then, and the leaks in words.
        """
        if turn.wanted == self.cohort.snapshot.digest:
            if progress.step == 0 and self._ranks.is_first:
                _record_once(self._run, self._attempt, progress, self.cohort)
            return progress, ""
        self._looked_at = turn.wanted
        cohort = open_cohort(self._settings, turn.wanted, self._ranks)
        if turn.is_new:
            # Only here: a run whose snapshot stays has done so before its first step.
            from mri_hpc.training.leaks import refuse_leaks

            try:
                refuse_leaks(
                    self._run, self._settings, cohort.snapshot, cohort.code,
                    ranks=self._ranks, stop=self._stop,
                )  # fmt: skip
            except OF_THE_STORE:
                raise
            except UserError as error:
                return progress, str(error)
        if self._stop.agreed:
            return progress, ""
        progress = progress.on_snapshot(cohort.snapshot.digest)
        if self._ranks.is_first:
            _record_once(self._run, self._attempt, progress, cohort)
        self._turn_to(cohort)
        return progress, ""

    def _turn_to(self, cohort: Cohort) -> None:
        snapshot, before = cohort.snapshot, self._reader
        self._reader = Store(Path(self._settings.store)).reader(snapshot)
        self._batches.turn_to(self._reader, keys=snapshot.key, labels=snapshot.label, split=cohort.split)
        self._learner.turn_to(
            weights_of_classes(cohort, self._settings), steps_per_epoch=self._batches.steps_per_epoch
        )
        if before:
            before.close()
        self.cohort = cohort

    def _note(self, kind: Kind, **values: Any) -> None:
        record(self._run, self._attempt, kind, **values)
        log.info("%s %s", kind.value, " ".join(f"{name}={value}" for name, value in values.items()))


@dataclass(frozen=True, kw_only=True)
class _Turn:
    """The decision of rank 0 for an epoch."""

    wanted: str = ""
    """Digest of the snapshot to train on; empty: that of before."""
    is_new: bool = False
    """It has yet to be looked at for leaks."""
    is_retracted: bool = False
    """An attempt before, whose steps are lost, had adopted a snapshot here that was retracted since."""
    has_caught_up: bool = False
    why_no_more: str = ""
    """Reason for which no newer one is adopted any more; empty where one may be."""


def _agreed(ranks: Ranks, find: Callable[[], Any]) -> Any:
    """Return what rank 0 finds, on all ranks; raises the UserError that it raises."""
    found: Any = None
    if ranks.is_first:
        try:
            found = find()
        except UserError as error:
            found = error
    found = ranks.from_rank(found)
    if isinstance(found, UserError):
        raise found
    return found


def _refusal(
    settings: TrainingSettings, now: Cohort, snapshot: Snapshot, batches: Batches | None = None
) -> str:
    """Say why a run cannot go on on a newer snapshot; empty where it can. batches: those that would turn."""
    try:
        newer = cohort_of(settings, snapshot)
        refuse_other(now.snapshot, now.code, newer.snapshot, newer.code)
        weights_of_classes(newer, settings)
        if batches:
            batches.refuse_too_few(keys=snapshot.key, split=newer.split)
    except OF_THE_STORE:
        raise
    except UserError as error:
        return str(error)
    return ""


def _planned(run: RunDir, settings: TrainingSettings) -> dict[int, str]:
    """Return epoch → digest of what a run is to train on, as far as that is known."""
    if settings.snapshot != FOLLOW:
        return listed(settings.snapshot)
    return {epoch: one.snapshot for epoch, one in adoptions_of(read_events(run)).items()}


def _record_once(run: RunDir, attempt: Attempt, progress: Progress, cohort: Cohort) -> None:
    """Write an adoption into the ledger, unless it stands there."""
    there = adoptions_of(read_events(run)).get(progress.epoch)
    if there is None or there.snapshot != progress.snapshot:
        _record(run, attempt, progress, cohort)


def _record(run: RunDir, attempt: Attempt, progress: Progress, cohort: Cohort) -> None:
    adoption = Adoption(
        epoch=progress.epoch, step=progress.step, snapshot=progress.snapshot, images=len(cohort.split.train)
    )
    record(run, attempt, Kind.ADOPTED, **asdict(adoption))
    log.info("adopted %s", adoption)
