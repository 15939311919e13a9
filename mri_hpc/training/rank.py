"""One rank from start to end: join, resume, train, predict, leave."""

import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, nullcontext
from dataclasses import asdict
from pathlib import Path

import torch

from mri_hpc.base.errors import UserError
from mri_hpc.base.exit_status import AGAIN, DONE
from mri_hpc.base.stop_flag import StopFlag
from mri_hpc.loading.batches import Batches
from mri_hpc.rundir.allotment import Allotment
from mri_hpc.rundir.layout import Attempt, RunDir
from mri_hpc.rundir.ledger import Kind, record
from mri_hpc.rundir.manifests import Manifest
from mri_hpc.rundir.place import Place
from mri_hpc.rundir.progress import Progress
from mri_hpc.rundir.settings import TrainingSettings, load_job, load_training
from mri_hpc.storage.store import Reader, Store
from mri_hpc.training import checkpoint, prediction
from mri_hpc.training.agreed_stop import SUPERSEDED, AgreedStop
from mri_hpc.training.arithmetic import use_device
from mri_hpc.training.attention import GatedAttention
from mri_hpc.training.background_saver import BackgroundSaver
from mri_hpc.training.batch_size import refusal_of, settle
from mri_hpc.training.conditions import changes, conditions, without_effect
from mri_hpc.training.deadline import Deadline, KillTime
from mri_hpc.training.evaluation import Answers, answer
from mri_hpc.training.following import (
    Following,
    first_progress,
    may_change,
    note_forced,
    retracted_from,
)
from mri_hpc.training.hang_watch import HangWatch
from mri_hpc.training.journal import Journal
from mri_hpc.training.learner import Learner
from mri_hpc.training.loop import train
from mri_hpc.training.meeting import Wishes
from mri_hpc.training.model import weights_digest
from mri_hpc.training.parts import Cohort, cohort_of, make_batches, make_learner, open_cohort
from mri_hpc.training.pinned_collectives import may_pin, pin_collectives
from mri_hpc.training.ranks import Ranks, join, see_own_part
from mri_hpc.training.resumption import load_published, newest_intact
from mri_hpc.training.second_stage import learn_attention
from mri_hpc.training.start_times import StartTimes
from mri_hpc.training.step_way import STEPS, StepWay, way_of
from mri_hpc.training.use_meter import UseMeter

log = logging.getLogger(__name__)
OnPredicted = Callable[[RunDir, Callable[[], None]], None]


def run_rank(
    run: RunDir,
    attempt: Attempt,
    place: Place,
    flag: StopFlag,
    *,
    threads: int,
    times: StartTimes,
    allotment: Allotment,
    kill_time: KillTime = lambda _request: None,
    on_predicted: OnPredicted = lambda _run, _beat: None,
) -> int:
    """Do this rank's part of an attempt; returns DONE or AGAIN. Raises UserError.

    on_predicted: called by rank 0 when predictions are written, before the run is marked done, with what it
    is to call as a sign of life, for all ranks.
    """
    see_own_part(place, os.environ)
    settings = load_training(run)
    use_device(deterministic=settings.deterministic, threads=threads)
    if settings.deterministic and torch.cuda.is_available() and may_pin(run):
        pin_collectives(os.environ)
    if checkpoint.is_superseded(run, attempt):
        log.warning("superseded: attempt %s owns the run", run.newest_attempt())
        return AGAIN
    watch = HangWatch(settings.hang_timeout_s)
    ranks = join(
        place, run, attempt, flag,
        timeout_s=settings.hang_timeout_s, at_look=watch.beat, wishes=Wishes.of(load_job(run)),
    )  # fmt: skip
    if ranks is None:
        return AGAIN
    times.end_of("join")
    deadline = Deadline(flag, run, kill_time) if ranks.is_first else None
    meter = UseMeter(ranks, allotment)

    def at_boundary() -> None:
        watch.beat()
        meter.look()

    stop = AgreedStop(flag, ranks, at_boundary=at_boundary, deadline=deadline)
    rank = _Rank(
        run, attempt, settings, ranks, stop,
        threads=threads, times=times, allotment=allotment, meter=meter,
        on_predicted=on_predicted, beat=watch.beat,
    )  # fmt: skip
    try:
        status = rank.work()
    except torch.OutOfMemoryError as error:
        raise rank.refusal_of(error) from None
    ranks.leave()
    watch.close()
    return status


@contextmanager
def _open(following: Following | None) -> Iterator[None]:
    """Keep open what a following takes up, as long as it is trained on and answered about."""
    if following is None:
        yield
        return
    with closing(following), following.outlasts_retraction():
        yield


class _Rank:
    """State that the parts of an attempt share."""

    def __init__(
        self,
        run: RunDir,
        attempt: Attempt,
        settings: TrainingSettings,
        ranks: Ranks,
        stop: AgreedStop,
        *,
        threads: int,
        times: StartTimes,
        allotment: Allotment,
        meter: UseMeter,
        on_predicted: OnPredicted,
        beat: Callable[[], None],
    ) -> None:
        self._run, self._attempt, self._settings = run, attempt, settings
        self._ranks, self._stop, self._times = ranks, stop, times
        self._allotment, self._meter = allotment, meter
        self._on_predicted, self._beat = on_predicted, beat
        self._conditions = conditions(ranks, threads=threads, deterministic=settings.deterministic)

    def work(self) -> int:
        """Run the attempt, from the newest checkpoint on; returns DONE or AGAIN."""
        manifest = newest_intact(self._run, self._attempt, self._ranks)
        if self._may_not_begin():
            return self._stopped_before_training(manifest)
        progress = self._first_progress(manifest)
        cohort = open_cohort(self._settings, progress.snapshot, self._ranks)
        retracted = manifest.progress.snapshot if manifest else ""
        is_forced = manifest is not None and progress.snapshot != retracted
        if not manifest or is_forced:
            # Here and below: a run that goes on need not wait for what it does not call.
            from mri_hpc.training.leaks import refuse_leaks

            refuse_leaks(
                self._run, self._settings, cohort.snapshot, cohort.code, ranks=self._ranks, stop=self._stop
            )
        with self._meter.without_trials():
            self._settings = self._settled(cohort, has_begun=manifest is not None)
        if self._may_not_begin():
            return self._stopped_before_training(manifest)
        progress = progress if manifest else Progress(snapshot=cohort.snapshot.digest)
        with Store(Path(self._settings.store)).reader(cohort.snapshot) as reader:
            batches = self._make_batches(cohort, reader, retracted=retracted if is_forced else "")
            if is_forced and self._ranks.is_first and not self._stop.agreed:
                note_forced(self._run, self._attempt, progress, cohort)
            self._times.end_of("data")
            way = self._way(cohort, batches, manifest)
            if self._settings.probe and not manifest:
                with self._meter.without_trials():
                    self._probe(cohort, reader, way)
                if self._may_not_begin():
                    return self._stopped_before_training(manifest)
            going_on = checkpoint.weights_file(self._run, progress.step) if manifest else None
            learner = make_learner(cohort, batches, self._settings, self._ranks, going_on=going_on, way=way)
            if going_on:
                # Held by no name, so that its memory is free again before the first step.
                learner.restore(checkpoint.load(self._run, progress.step), of=going_on)
            self._times.end_of("model")
            if self._may_not_begin():
                return self._stopped_before_training(manifest)
            log.info("ready after %s processor=%.3f", self._times, time.process_time())
            journal = self._open_journal(learner, progress, manifest) if self._ranks.is_first else None
            following = self._following(cohort, batches, learner)
            with closing(journal) if journal else nullcontext(), _open(following):
                progress = train(
                    self._settings, progress, learner, batches,
                    ranks=self._ranks, stop=self._stop, journal=journal, following=following,
                )  # fmt: skip
                cohort = following.cohort if following else cohort
                if not (self._stop.agreed or (following and following.has_caught_up)):
                    snapshots = following.snapshots if following else ""
                    self._finish(cohort, batches, learner, progress, journal, snapshots=snapshots)
        return AGAIN if self._stop.agreed else DONE

    def _make_batches(self, cohort: Cohort, reader: Reader, *, retracted: str) -> Batches:
        """Make the batches; UserError where a rank has too few images, and why they are so few.

        retracted: digest of the snapshot that a retraction has made the run leave; empty for none.
        """
        try:
            return make_batches(cohort, reader, self._settings, self._ranks)
        except UserError as error:
            if retracted and self._had_enough(retracted, reader):
                raise UserError(retracted_from(self._run, self._settings, str(error))) from None
            raise

    def _had_enough(self, digest: str, reader: Reader) -> bool:
        """Tell whether as many ranks had enough images of an earlier snapshot. reader: is not asked."""
        try:
            before = cohort_of(self._settings, Store(Path(self._settings.store)).recall(digest))
            make_batches(before, reader, self._settings, self._ranks)
        except UserError:
            return False
        return True

    def _first_progress(self, manifest: Manifest | None) -> Progress:
        """Return where the run goes on; where it begins, with whatever names its snapshot."""
        if may_change(self._settings):
            return first_progress(self._run, self._settings, manifest, self._ranks)
        return manifest.progress if manifest else Progress(snapshot=self._settings.snapshot)

    def _following(self, cohort: Cohort, batches: Batches, learner: Learner) -> Following | None:
        if not may_change(self._settings):
            return None
        return Following(
            self._run, self._attempt, self._settings, self._ranks, self._stop,
            cohort=cohort, batches=batches, learner=learner,
        )  # fmt: skip

    def _may_not_begin(self) -> bool:
        """Ask whether the ranks were asked to stop, or stood still until a newer attempt has taken over."""
        if self._ranks.is_first and checkpoint.is_superseded(self._run, self._attempt):
            self._stop.request(SUPERSEDED)
        return self._stop.is_agreed("starting")

    def _stopped_before_training(self, manifest: Manifest | None) -> int:
        """Write down that the ranks agreed to stop; all is as the attempt before has left it."""
        assert self._stop.agreed
        if self._ranks.is_first and self._stop.agreed.signal != SUPERSEDED:
            step = manifest.progress.step if manifest else 0
            agreed = asdict(self._stop.agreed)
            record(self._run, self._attempt, Kind.STOP_AGREED, step=step, **agreed, unfinished_s=0.0)
        return AGAIN

    def refusal_of(self, error: torch.OutOfMemoryError) -> UserError:
        """Advise what to do where a step does not fit into the memory of the GPU."""
        return refusal_of(error, self._settings, self._ranks.world_size)

    def _settled(self, cohort: Cohort, *, has_begun: bool) -> TrainingSettings:
        """Return the settings with a number for the batch size, the same for all ranks and attempts."""
        return settle(
            self._run, self._settings, self._ranks,
            stop=self._stop, num_training_images=len(cohort.split.train),
            num_classes=len(cohort.snapshot.classes), image_shape=cohort.snapshot.image_shape,
            bits=cohort.snapshot.bits, has_begun=has_begun,
        )  # fmt: skip

    def _probe(self, cohort: Cohort, reader: Reader, way: StepWay) -> None:
        """Time steps before the first one, with learners of their own."""
        from mri_hpc.training.probe import probe

        def make(settings: TrainingSettings, ranks: Ranks) -> tuple[Learner, Batches]:
            batches = make_batches(cohort, reader, settings, ranks)
            return make_learner(cohort, batches, settings, ranks, way=way), batches

        probe(
            self._run, self._attempt, self._settings, self._ranks, make,
            stop=self._stop, allotment=self._allotment,
        )  # fmt: skip
        self._times.end_of("probe")

    def _way(self, cohort: Cohort, batches: Batches, manifest: Manifest | None) -> StepWay:
        """Return the way in which steps are computed: as the run has begun, or found for a new one."""
        if manifest:
            way = way_of(manifest.conditions)
        else:
            from mri_hpc.training.step_trial import find_way

            with self._meter.without_trials():
                way = find_way(
                    self._settings, self._ranks,
                    stop=self._stop, num_steps=self._settings.epochs * batches.steps_per_epoch,
                    num_classes=len(cohort.snapshot.classes), image_shape=cohort.snapshot.image_shape,
                )  # fmt: skip
        self._conditions[STEPS] = way.value
        return way

    def _open_journal(self, learner: Learner, progress: Progress, manifest: Manifest | None) -> Journal:
        place = self._ranks.place
        # Settled by what all ranks' processors have.
        self._conditions["arithmetic"] = learner.arithmetic
        record(
            self._run, self._attempt, Kind.STARTED, ranks=place.world_size, host=place.host,
            job_id=place.job_id, resumed_step=progress.step, epoch=progress.epoch,
            device=self._conditions["device"], steps=self._conditions[STEPS],
        )  # fmt: skip
        log.info("started: step=%d epoch=%d %s", progress.step, progress.epoch, self._conditions)
        saver = BackgroundSaver(
            self._run, self._attempt, keep=self._settings.checkpoint_keep,
            ranks_on_node=self._ranks.most_on_a_host,
        )  # fmt: skip
        journal = Journal(
            self._run, self._attempt, self._settings, learner, saver,
            resumed=progress, conditions=self._conditions, stop=self._stop, times=self._times,
            meter=self._meter,
        )  # fmt: skip
        free = without_effect(self._settings.sums)
        changed = changes(manifest.conditions, self._conditions, but=free) if manifest else {}
        for name, (before, now) in changed.items():
            journal.event(Kind.CHANGED, condition=name, before=before, now=now)
        return journal

    def _finish(
        self,
        cohort: Cohort,
        batches: Batches,
        learner: Learner,
        progress: Progress,
        journal: Journal | None,
        *,
        snapshots: str,
    ) -> None:
        """Predict with the weights to publish, leave everything behind, and mark the run done last."""
        from mri_hpc.training.provenance import provenance

        if journal:
            reason = "epochs" if progress.epoch >= self._settings.epochs else "patience"
            journal.event(Kind.TRAINED, epoch=progress.epoch, step=progress.step, reason=reason)
        began = time.monotonic()
        last_weights_digest = weights_digest(learner.weights())
        load_published(self._run, learner, progress.model_step(self._settings.published_epoch), self._ranks)
        attention = self._learn_attention(cohort, batches, learner)
        answers: dict[str, Answers] = {}
        for split in prediction.PREDICTED_SPLITS:
            if not len(getattr(cohort.split, split)):
                continue
            found = answer(
                learner, batches, split,
                stop=self._stop, ranks=self._ranks, is_exact=True, attention=attention,
            )  # fmt: skip
            if found:
                answers[split] = found
        if journal and checkpoint.is_superseded(self._run, self._attempt):
            self._stop.request(SUPERSEDED)
        if self._stop.is_agreed("writing"):
            # Nothing to save: the learner holds the model, and training ended with a checkpoint.
            if journal:
                journal.stop_agreed(progress)
        elif journal:
            weights = learner.weights()
            origin = provenance(
                cohort.snapshot, cohort.split, self._settings, progress,
                weights=weights, last_weights_digest=last_weights_digest,
                num_parameters=learner.num_parameters, conditions=self._conditions, attention=attention,
                snapshots=snapshots,
            )  # fmt: skip
            num_images = prediction.publish(
                self._run, cohort.snapshot, answers, weights, model_name=self._settings.model,
                normalisation=learner.model.normalisation,
                is_mirrored=learner.model.answers_mirrored, input_size=learner.model.input_size,
                attention=attention, origin=origin,
            )  # fmt: skip
            self._ranks.await_first(lambda beat: self._on_predicted(self._run, beat), beat=self._beat)
            journal.event(Kind.PREDICTED, images=num_images, seconds=round(time.monotonic() - began, 3))
            self._run.mark_done()
        else:
            self._ranks.await_first(lambda _beat: None, beat=self._beat)

    def _learn_attention(self, cohort: Cohort, batches: Batches, learner: Learner) -> GatedAttention | None:
        if self._settings.pooling == "mean":
            return None
        return learn_attention(
            learner, batches, cohort.snapshot, cohort.split.train,
            settings=self._settings, ranks=self._ranks, stop=self._stop,
        )  # fmt: skip
