"""Following a growing store: what is not sure ends nothing for good."""

import pytest
import torch

from mri_hpc import store as store_command
from mri_hpc.base.errors import ImagesRetracted, StoreDamage, StoreRaced, UserError
from mri_hpc.base.stop_flag import StopFlag
from mri_hpc.rundir.following import adoptions_of, why_followed
from mri_hpc.rundir.layout import Attempt, RunDir
from mri_hpc.rundir.ledger import Kind, read_events, record
from mri_hpc.rundir.place import Place
from mri_hpc.rundir.progress import Progress
from mri_hpc.rundir.settings import JobSettings, TrainingSettings, save_settings
from mri_hpc.storage.store import Store
from mri_hpc.training import leaks, rank
from mri_hpc.training.agreed_stop import AgreedStop
from mri_hpc.training.following import Following
from mri_hpc.training.loop import train
from mri_hpc.training.parts import open_cohort
from mri_hpc.training.ranks import Ranks

ALONE = Ranks(place=Place(), device=torch.device("cpu"), backend="none", num_hosts=1)


class Stops:
    """Following whose audit of newer images the ranks leave."""

    has_caught_up = False

    def __init__(self, stop):
        self._stop = stop

    def at_epoch_start(self, progress):
        self._stop.request("SIGTERM")
        assert self._stop.is_agreed("audit")
        return progress


class Idle:
    """A learner and its batches that are asked for no step."""

    def training(self, progress):
        yield from ()

    def is_finite(self):
        return True


class Saves:
    """A journal that remembers what was saved."""

    def __init__(self):
        self.saved, self.stopped = [], []

    def steps(self, steps):
        assert not list(steps)

    def stop_agreed(self, progress):
        self.stopped.append(progress)

    def save(self, progress, *, reason):
        self.saved.append((progress, reason))
        return True


def test_ranks_that_stop_amid_the_audit_of_newer_images_do_not_begin_the_last_epochs():
    stop, journal = AgreedStop(StopFlag(), ALONE), Saves()
    settings = TrainingSettings(store="", epochs=6, decay_epochs=2)
    due = Progress(epoch=4, step=9)
    assert due.with_decay(6, settings.patience, settings.whole_decay_epochs).decay_epoch == 4
    left = train(
        settings, due, Idle(), Idle(), ranks=ALONE, stop=stop, journal=journal, following=Stops(stop)
    )
    # With decay begun, the next attempt would look for newer images no more.
    assert left == due
    assert (journal.saved, journal.stopped) == ([(due, "stop")], [due])


@pytest.fixture
def grown(tmp_path, make_pictures, preprocess):
    """A run's following at the start of its second epoch, when its store has grown."""
    raw, store, run = tmp_path / "raw", tmp_path / "store", RunDir(tmp_path / "run")

    def add(first):
        make_pictures(raw, 40, first=first, patients=40)
        assert preprocess(raw, store, "--size", "32", "--ids", "as-given")[0] == 0

    add(0)
    attempt = Attempt(submission=1, restart=0)
    run.claim_attempt(attempt)
    settings = TrainingSettings(store=str(store), snapshot="follow", follow=True, decay_epochs=1)
    save_settings(run, settings, JobSettings())
    cohort = open_cohort(settings, "newest", ALONE)
    record(run, attempt, Kind.ADOPTED, epoch=0, step=0, snapshot=cohort.snapshot.digest, images=8)
    add(1000)
    few = TooFew()
    following = Following(
        run, attempt, settings, ALONE, AgreedStop(StopFlag(), ALONE), cohort=cohort, batches=few, learner=few
    )
    return run, following, Progress(epoch=1, step=3, snapshot=cohort.snapshot.digest), few


class TooFew:
    """Batches that a newer snapshot has too few images for, where told so."""

    why = ""

    def refuse_too_few(self, *, keys, split):
        assert len(keys) > len(split.train)
        if self.why:
            raise UserError(self.why)


def test_a_snapshot_with_too_few_images_for_some_step_is_refused_before_the_ledger_has_it(grown):
    run, following, progress, few = grown
    few.why = "too few for a rank"
    assert following.at_epoch_start(progress) == progress
    assert why_followed(read_events(run)) == "too few for a rank"
    assert list(adoptions_of(read_events(run))) == [0]


@pytest.mark.parametrize("refused_by", ["few images", "leaks"])
def test_a_snapshot_that_was_adopted_in_vain_and_retracted_is_not_told_as_trained_on(
    grown, monkeypatch, capsys, refused_by
):
    run, following, progress, few = grown
    store = Store(run.path.parent / "store")
    planned = store.resolve()
    # An attempt whose steps on it are lost.
    adopted = {"epoch": 1, "step": 3, "snapshot": planned.digest, "images": 16}
    record(run, Attempt(submission=1, restart=0), Kind.ADOPTED, **adopted)
    first = store.recall(progress.snapshot)
    new = next(key for key in planned.key.tolist() if key not in first.key)
    assert store_command.main(["retract", str(store.path), "--image", f"{new:016x}", "--yes"]) == 0

    def leaks_found(*_args, **_more):
        raise UserError("1 slice is both trained on and judged on")

    monkeypatch.setattr(leaks, "refuse_leaks", leaks_found)
    few.why = "too few for a rank" if refused_by == "few images" else ""
    assert following.at_epoch_start(progress) == progress
    assert [one.snapshot for one in adoptions_of(read_events(run)).values()] == [progress.snapshot]
    # What does the run again.
    assert following.snapshots == progress.snapshot
    assert why_followed(read_events(run)) == (few.why or "1 slice is both trained on and judged on")
    told = len(read_events(run))
    assert following.at_epoch_start(progress) == progress
    assert len(read_events(run)) == told


# Images enough before a retraction, or too few before it as well: then there are too many ranks.
@pytest.mark.parametrize(("is_forced", "had_enough"), [(True, True), (True, False), (False, True)])
def test_a_rank_that_a_retraction_leaves_too_few_images_says_that_it_was_one(
    grown, monkeypatch, is_forced, had_enough
):
    run, following, _progress, _few = grown
    one = object.__new__(rank._Rank)
    one._run, one._settings, one._ranks = run, following._settings, ALONE
    before = following.cohort.snapshot.digest
    newest = open_cohort(following._settings, "newest", ALONE)

    def refuse(cohort, *_more):
        if cohort is newest or not had_enough:
            raise UserError("too few for a rank")
        assert cohort.snapshot.digest == before

    monkeypatch.setattr(rank, "make_batches", refuse)
    with pytest.raises(UserError) as refused:
        one._make_batches(newest, None, retracted=before if is_forced else "")
    said = str(refused.value)
    assert "too few for a rank" in said
    of_retraction = "learns from were retracted, and it cannot go on on the newest snapshot" in said
    assert of_retraction == (is_forced and had_enough)


@pytest.mark.parametrize("kind", [ImagesRetracted, StoreRaced, StoreDamage])
def test_what_happens_to_the_store_amid_the_audit_ends_no_following(grown, monkeypatch, kind):
    run, following, progress, _ = grown

    def happens(*_args):
        raise kind("gone")

    monkeypatch.setattr(leaks, "_find_twins", happens)
    # A file that is damaged is mended by people; for what is there no more another attempt looks.
    ends = kind if kind is StoreDamage else RuntimeError
    with pytest.raises(ends), following.outlasts_retraction():
        following.at_epoch_start(progress)
    assert not why_followed(read_events(run))
    newest = Store(run.path.parent / "store").resolve().digest
    assert newest not in {one.snapshot for one in adoptions_of(read_events(run)).values()}
