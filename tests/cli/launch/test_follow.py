"""launch --follow: one run of a store that grows, which begins with enough and holds no nodes for nothing."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from mri_hpc.cluster.jobs import Job, publish_job
from mri_hpc.cluster.outcome import conclude
from mri_hpc.rundir.decisions import Action
from mri_hpc.rundir.following import NO_MORE
from mri_hpc.rundir.layout import Attempt, RunDir
from mri_hpc.rundir.ledger import Kind, record
from mri_hpc.rundir.manifests import MANIFEST, Manifest
from mri_hpc.rundir.progress import Progress
from mri_hpc.rundir.settings import JobSettings, TrainingSettings, load_job, load_training, save_settings
from mri_hpc.storage.store import Store

ATTEMPT = Attempt(submission=1, restart=0)


@pytest.fixture
def grow(tmp_path, make_pictures, preprocess, store):
    """Adds images of patients of the store, or of new ones."""

    def add(classes=("glioma", "meningioma")):
        make_pictures(tmp_path / "raw", 20, first=1000, side=32, classes=classes, patients=40)
        status, _, errors = preprocess(tmp_path / "raw", store, "--size", "32", "--ids", "as-given")
        assert status == 0, errors

    return add


@pytest.fixture
def caught_up(tmp_path, store):
    """A run that follows the store, and whose ranks left since there was nothing new, after some epochs."""

    def make(epoch=3, **settings):
        run = RunDir(tmp_path / "run")
        run.claim_attempt(ATTEMPT)
        training = TrainingSettings(
            **{"store": str(store), "snapshot": "follow", "follow": True, "decay_epochs": 2, **settings}
        )
        save_settings(run, training, JobSettings())
        progress = Progress(step=9, epoch=epoch, snapshot=Store(store).resolve().digest)
        manifest = Manifest(
            progress=progress,
            attempt=str(ATTEMPT),
            written_s=0.0,
            weights_digest="ab",
            files={},
            conditions={},
        )
        (run.checkpoints / "9").mkdir(parents=True)
        (run.checkpoints / "9" / MANIFEST).write_bytes(manifest.to_json())
        publish_job(run, 1, Job(cluster="", failure="gone"))
        record(run, ATTEMPT, Kind.STARTED, ranks=1, host="", job_id="", resumed_step=0, epoch=0, device="")
        record(run, ATTEMPT, Kind.ADOPTED, epoch=0, step=0, snapshot=progress.snapshot, images=8)
        record(run, ATTEMPT, Kind.CAUGHT_UP, epoch=epoch, step=9)
        return run

    return make


def test_a_run_that_follows_keeps_its_name_while_the_store_grows(launch, store, grow):
    words = ("--store", store, "--follow", "--dry-run")
    _, before, _ = launch(*words)
    grow()
    _, now, _ = launch(*words)
    assert before == now
    assert launch("--store", store, "--snapshot", "follow", "--no-follow", "--dry-run")[1] == now


def test_the_same_command_is_the_same_run_also_beside_others_of_its_network(launch, store):
    assert launch("--store", store)[0] == 0
    for _time in range(2):
        status, _, errors = launch("--store", store, "--follow")
        assert status == 0, errors
    assert len(list(Path("runs").glob("*-*"))) == 2


def test_a_store_with_too_little_is_refused_with_what_it_holds(launch, store):
    status, _, errors = launch("--store", store, "--follow", "--start-images", 500)
    assert status == 2
    assert "has too little to begin with (glioma " in errors
    assert "--start-images 500 of each): launch again when more has come" in errors
    status, _, errors = launch("--store", store, "--follow", "--start-classes", 3)
    assert (status, "--start-classes 3" in errors) == (2, True)
    # Without --follow nothing more is coming, and what is there is what there is.
    assert launch("--store", store, "--start-images", 500, "--dry-run")[0] == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--follow", "--recipe", "0.1.0"), "give --decay-epochs"),
        (("--follow", "--snapshot", "ab12"), "--follow takes the newest snapshot, not ab12"),
        (("--follow", "--folds", 3), "runs that are compared are of one snapshot"),
        (("--snapshot", "ab12,cd34"), "--snapshot takes DIGEST,DIGEST@EPOCH with epochs that rise from 2"),
        (("--snapshot", "ab12,cd34@3,ef56@2"), "with epochs that rise from 2"),
        (("--snapshot", "ab12,cd34@1"), "with epochs that rise from 2"),
    ],
)
def test_what_does_not_go_with_following_is_refused_in_a_line(launch, store, words, said):
    status, _, errors = launch("--store", store, *words)
    assert (status, said in errors) == (2, True), errors


def test_a_list_is_kept_by_whole_digests(launch, store, tmp_path, grow):
    first = Store(store).resolve().digest
    grow()
    second = Store(store).resolve().digest
    run = tmp_path / "told"
    status, _, errors = launch("--store", store, "--run", run, "--snapshot", f"{first[:9]},{second[:9]}@4")
    assert status == 0, errors
    assert load_training(RunDir(run)).snapshot == f"{first},{second}@4"


def test_a_list_whose_classes_change_is_refused_by_the_one_that_changes_them(launch, store, tmp_path, grow):
    first = Store(store).resolve().digest
    grow(("glioma", "meningioma", "new"))
    second = Store(store).resolve().digest
    status, _, errors = launch(
        "--store", store, "--run", tmp_path / "told", "--snapshot", f"{first},{second}@4"
    )
    assert status == 2
    assert (
        f"--snapshot ...,{second[:12]}@4 cannot follow {first[:12]}: the store's classes are others" in errors
    )


def test_a_run_of_one_snapshot_cannot_begin_to_follow(launch, store, tmp_path):
    run = tmp_path / "run"
    assert launch("--store", store, "--run", run)[0] == 0
    status, _, errors = launch("--run", run, "--follow")
    assert (status, "is of one snapshot, and a run follows its store from its beginning on" in errors) == (
        2,
        True,
    )


def test_a_run_that_lives_is_told_to_finish(launch, store, tmp_path):
    run = RunDir(tmp_path / "run")
    assert launch("--store", store, "--run", run.path, "--follow")[0] == 0
    (run.path / "standin.json").write_text(json.dumps({"steps": 5000, "step_s": 0.02}))
    assert load_training(run).follow
    status, out, _ = launch("--run", run.path, "--no-follow")
    assert status == 0
    assert "told    it takes the newest images at the start of an epoch, and finishes" in out
    assert "not applied" not in out
    assert not load_training(run).follow
    assert run.all_attempts() == [ATTEMPT]
    record(run, ATTEMPT, Kind.FOLLOWED, epoch=3, reason=NO_MORE)
    status, out, _ = launch("--run", run.path, "--no-follow")
    assert (status, "is already in the hands of" in out, "told" in out) == (0, True, False)


def test_a_run_that_has_caught_up_is_launched_once_the_store_holds_more(launch, store, caught_up, grow):
    run = caught_up()
    decision = conclude(run, ATTEMPT, status=0)
    assert (decision.action, decision.cause) == (Action.STAY_AWAY, "caught_up")
    status, out, errors = launch("--run", run.path)
    assert status == 0, errors
    assert "run has caught up; nothing was submitted: the store holds nothing new" in out
    assert "mri_hpc.launch --run run --no-follow" in out
    assert run.all_attempts() == [ATTEMPT]
    said = json.loads(launch("--run", run.path, "--json")[1])
    assert (said["state"], said["said"]) == ("caught_up", "the store holds nothing new")
    grow()
    assert "run resumes at step 9" in launch("--run", run.path)[1]


def test_a_run_with_its_last_epochs_left_waits_for_the_word_to_finish(launch, caught_up, grow):
    run = caught_up(epoch=28)
    conclude(run, ATTEMPT, status=0)
    grow()
    out = launch("--run", run.path)[1]
    assert "run has caught up; nothing was submitted: only its last 2 epochs are left, which are for" in out
    assert "run resumes at step 9" in launch("--run", run.path, "--no-follow")[1]


OTHERS = "the store's classes are others"


# A person who has given the word, and asks for no more, need not be told where there is no more.
@pytest.mark.parametrize(
    ("reason", "follow", "is_newer", "is_said"),
    [
        (OTHERS, True, True, True),
        (OTHERS, False, False, True),
        (NO_MORE, True, False, True),
        (NO_MORE, False, True, True),
        (NO_MORE, False, False, False),
    ],
)
def test_a_run_that_follows_no_more_says_so_where_newer_images_would_be_expected_in_it(
    launch, caught_up, grow, reason, follow, is_newer, is_said
):
    run, again = caught_up(follow=follow), replace(ATTEMPT, restart=1)
    run.claim_attempt(again)
    record(run, again, Kind.FOLLOWED, epoch=3, reason=reason)
    conclude(run, again, status=0)
    if is_newer:
        grow()
    line = f"  follows no more: {reason}; it finishes on what it has, and newer images take a new run\n"
    out = launch("--run", run.path)[1]
    assert ("run resumes at step 9" in out, line in out) == (True, is_said)
    run.done.touch()
    line = f"run is finished.\n  followed no more: {reason}; newer images take a new run\n"
    out = launch("--run", run.path)[1]
    assert (line in out, "follows no more" in out) == (is_said, False)


def test_a_finished_run_whose_store_is_away_is_said_to_be_finished(launch, caught_up, store):
    run = caught_up(follow=False)
    record(run, ATTEMPT, Kind.FOLLOWED, epoch=3, reason=NO_MORE)
    run.done.touch()
    store.rename(store.with_name("elsewhere"))
    status, out, errors = launch("--run", run.path)
    assert (status, errors, out.startswith("run is finished.\n"), "follow" in out) == (0, "", True, False)


def test_a_word_to_finish_that_comes_as_the_ranks_leave_is_not_lost(caught_up):
    run = caught_up()
    save_settings(run, replace(load_training(run), follow=False), load_job(run))
    decision = conclude(run, ATTEMPT, status=0)
    assert (decision.action, decision.reason) == (Action.AGAIN, "told to finish: goes on")
