"""launch submits a run once, resumes it with its own settings, and refuses to make another one of it."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mri_hpc.base.errors import UserError
from mri_hpc.cluster import partitions
from mri_hpc.cluster.choice import phase_of
from mri_hpc.cluster.jobs import Job, job_of, publish_job
from mri_hpc.cluster.partitions import Partition
from mri_hpc.cluster.scheduler import Phase
from mri_hpc.cluster.views import Watcher
from mri_hpc.rundir.layout import Attempt, RunDir
from mri_hpc.rundir.ledger import Kind, read_events, record
from mri_hpc.rundir.manifests import newest_manifest
from mri_hpc.rundir.metrics_log import read_metrics
from mri_hpc.rundir.recipes import default_of
from mri_hpc.rundir.settings import TrainingSettings, load_job, load_training

LONG = {"steps": 5000, "step_s": 0.02}
SHORT = {"steps": 5, "step_s": 0.01}


@pytest.fixture
def first_launch(launch, store, tmp_path):
    """A run of long-working ranks that was launched; returns (run, what launch printed)."""

    def start(*options, plan=LONG, name="r 'un"):
        run = RunDir(tmp_path / name)
        status, out, errors = launch("--store", store, "--run", run.path, "--nodes", 2, *options)
        assert status == 0, errors
        (run.path / "standin.json").write_text(json.dumps(plan))
        return run, out

    return start


def wait_until_gone(run, wait_for):
    job = job_of(run, run.newest_attempt().submission)
    wait_for(lambda: phase_of(job) is Phase.GONE, what="the end of the supervisor")


def test_launching_says_what_it_did_and_how_to_watch_and_stop_it(first_launch, wait_for):
    run, out = first_launch()
    wait_for(lambda: read_metrics(run))
    assert re.search(r"starts: supervisor \d+ on \S+, 2 rank\(s\) on this machine \(no Slurm\), no GPU", out)
    assert f"python -m mri_hpc.status {shlex.quote(run.path.name)} --watch" in out
    assert f"python -m mri_hpc.launch --run {shlex.quote(run.path.name)} --cancel" in out
    assert re.search(r"\n  patients: train \d+, validation \d+, test \d+\n", out)
    assert read_events(run)[0].kind == Kind.SUBMITTED or read_events(run)[1].kind == Kind.SUBMITTED
    assert (run.path / "recipe.json").read_bytes()


def test_launching_says_where_this_machine_gives_less_than_was_asked_for(
    launch, store, tmp_path, monkeypatch
):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    words = ("--store", store, "--run", tmp_path / "run", "--nodes", 2)
    said = "--nodes 2 gives 1 rank(s) on this machine"
    assert said in launch(*words, "--dry-run")[2]
    assert f"\n  {said}" in launch(*words)[1]


def test_a_live_run_is_named_instead_of_doubled(first_launch, launch):
    run, _ = first_launch()
    status, out, _ = launch("--run", run.path)
    assert status == 0
    assert "already in the hands of supervisor" in out
    assert run.all_attempts() == [Attempt(submission=1, restart=0)]


def test_a_finished_run_says_so_and_names_the_report(first_launch, launch, wait_for):
    run, _ = first_launch(plan=SHORT)
    wait_until_gone(run, wait_for)
    status, out, _ = launch("--run", run.path)
    assert status == 0
    assert f"is finished.\n  report  python -m mri_hpc.report {shlex.quote(run.path.name)}" in out


def test_waiting_follows_a_run_to_its_end_and_succeeds_only_if_it_finished(first_launch, launch):
    run, _ = first_launch(plan=SHORT)
    status, out, _ = launch("--run", run.path, "--wait")
    assert status == 0
    assert "finished" in out.splitlines()[-2]
    name = shlex.quote(run.path.name)
    assert out.splitlines()[-1] == (
        f"  next    python -m mri_hpc.evaluate {name}, python -m mri_hpc.report {name}"
    )


def test_waiting_for_a_run_that_fails_ends_with_2_and_the_reason(first_launch, launch):
    run, _ = first_launch(plan={**SHORT, "fail": [{"rank": 0, "step": 2, "how": 2}]})
    status, _, errors = launch("--run", run.path, "--wait")
    assert status == 2
    assert (
        f"{run.path.name}: failed; the ranks ended with an error that you can fix; the last words" in errors
    )
    # And which: the last lines of the rank that failed.
    assert errors.rstrip().endswith("\n  dying: 2")


def test_a_cancelled_run_saves_and_launching_again_resumes_it(first_launch, launch, wait_for):
    run, _ = first_launch()
    wait_for(lambda: len(read_metrics(run)) > 5)
    status, out, _ = launch("--run", run.path, "--cancel")
    saved = newest_manifest(run).progress.step
    assert status == 0
    assert saved > 5
    assert f"cancelled; saved at step {saved}" in out
    status, out, _ = launch("--run", run.path)
    assert status == 0
    assert f"resumes at step {saved}: supervisor" in out
    wait_for(lambda: run.rank_log(Attempt(submission=2, restart=0), 0).is_file())


def test_launching_right_after_a_cancel_waits_for_the_ranks_to_save_and_resumes(
    first_launch, launch, wait_for
):
    run, _ = first_launch()
    wait_for(lambda: len(read_metrics(run)) > 5)
    # What --cancel does, if its user does not wait for its end.
    record(run, Attempt(submission=1, restart=0), Kind.CANCELLED)
    os.kill(job_of(run, 1).pid, signal.SIGTERM)
    status, out, errors = launch("--run", run.path)
    assert status == 0, errors
    assert f"resumes at step {newest_manifest(run).progress.step}: supervisor" in out


def test_a_run_whose_machine_is_gone_goes_on_here_once_it_was_cancelled(planned_run, launch):
    run = planned_run(**SHORT)
    run.claim_submission()
    publish_job(run, 1, Job(cluster="local", host="another", pid=1, began="then"))
    assert "in the hands of supervisor 1 on another" in launch("--run", run.path)[1]
    status, _, errors = launch("--run", run.path, "--cancel")
    assert status == 2
    assert "cancel it there; or, if that machine is gone, launch again" in errors
    assert launch("--run", run.path)[0] == 0
    assert job_of(run, 2).host == os.uname().nodename


def test_ranks_that_were_killed_with_their_supervisor_are_a_restart_with_a_cause(
    first_launch, launch, wait_for
):
    run, _ = first_launch()
    wait_for(lambda: read_metrics(run))
    os.kill(job_of(run, 1).pid, signal.SIGKILL)
    wait_until_gone(run, wait_for)
    assert launch("--run", run.path)[0] == 0
    wait_for(lambda: sum(event.kind == Kind.STARTED for event in read_events(run)) == 2)
    summary = Watcher(run).look().summary
    assert (summary.restarts, summary.causes) == (1, {"vanished": 1})


def test_what_was_typed_and_changes_nothing_is_named(first_launch, launch):
    run, _ = first_launch()
    _, out, _ = launch("--run", run.path, "--epochs", 99, "--time-limit-min", 5)
    assert "\n  not applied: --epochs 99, --time-limit-min 5: the run goes on as it is; cancel it" in out
    assert load_training(run).epochs == default_of("default", "epochs")


def test_more_epochs_of_a_finished_run_are_refused_and_less_is_named_as_not_applied(planned_run, launch):
    run = planned_run()
    run.mark_done()
    status, _, errors = launch("--run", run.path, "--epochs", 31)
    assert status == 2
    finished = "the run is finished and never starts again; choose another --run"
    assert f"not applied: --epochs 31: {finished}" in errors
    status, out, _ = launch("--run", run.path, "--epochs", 3)
    assert status == 0
    assert f"  not applied: --epochs 3: {finished}\n" in out


def test_a_dry_run_of_what_is_finished_or_lives_says_so_beside_the_script(planned_run, launch):
    run = planned_run()
    run.claim_submission()
    publish_job(run, 1, Job(cluster="local", host="another", pid=1, began="then"))
    _, out, errors = launch("--run", run.path, "--dry-run")
    assert "nothing would be submitted now: the run is in the hands of supervisor" in errors
    assert "mri_hpc.cluster.local" in out
    run.mark_done()
    assert "nothing would be submitted now: the run is finished" in launch("--run", run.path, "--dry-run")[2]


def test_a_dry_run_has_no_json(launch, store):
    status, _, errors = launch("--store", store, "--dry-run", "--json")
    assert status == 2
    assert "--dry-run prints a script, not JSON" in errors


def test_switches_have_no_opposite_in_the_help_and_settings_do(launch):
    status, shown, _ = launch("--help-all")
    assert status == 0
    assert "--wait" in shown
    assert not re.search(r"--no-(wait|dry-run|cancel|json)", shown)
    assert "--no-augment" in shown


def test_cancelling_what_does_not_run_says_so(first_launch, launch, wait_for):
    run, _ = first_launch(plan=SHORT)
    wait_until_gone(run, wait_for)
    assert "is finished: nothing to cancel\n" in launch("--run", run.path, "--cancel")[1]
    (run.path / "DONE").unlink()
    assert "nothing of it runs; saved at step 5" in launch("--run", run.path, "--cancel")[1]


def test_cancelling_a_run_that_is_not_there_is_refused(launch, tmp_path):
    status, _, errors = launch("--run", tmp_path / "nowhere", "--cancel")
    assert status == 2
    assert "nowhere does not exist; start a run with" in errors


def test_ctrl_c_ends_the_following_alone_and_the_supervisor_outlives_the_launch(store, tmp_path, wait_for):
    run = RunDir(tmp_path / "run")
    code = (
        "import sys; from mri_hpc.cluster import rank; rank.RANK_MODULE = 'standin_rank';"
        "from mri_hpc.launch import main; sys.exit(main(sys.argv[1:]))"
    )
    words = ["--store", str(store), "--run", str(run.path), "--cluster", "local", "--wait"]
    environment = {
        **os.environ,
        "PYTHONPATH": str(Path(__file__).parents[2] / "cluster"),
        "CUDA_VISIBLE_DEVICES": "",
    }
    following = subprocess.Popen(
        [sys.executable, "-u", "-c", code, *words], env=environment, stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    wait_for(run.settings.is_file)
    (run.path / "standin.json").write_text(json.dumps(LONG))
    while not following.stdout.readline().startswith("running"):
        assert following.poll() is None
    # As a terminal does: to the whole process group.
    os.killpg(following.pid, signal.SIGINT)
    _, errors = following.communicate(timeout=120)
    assert (following.returncode, errors.strip()) == (0, "following ended; the run goes on")
    job = job_of(run, 1)
    assert phase_of(job) is Phase.RUNNING
    assert os.getsid(job.pid) == job.pid
    os.kill(job.pid, signal.SIGTERM)
    wait_for(lambda: phase_of(job) is Phase.GONE)


# What a run is, and how it is operated.


def test_another_identity_is_refused_in_a_table_of_saved_and_asked(first_launch, launch):
    run, _ = first_launch()
    status, _, errors = launch("--run", run.path, "--model", "vgg11", "--seed", 7, "--epochs", 99)
    assert status == 2
    assert "is another run: what it is cannot change" in errors
    assert re.search(r"model\s+saved resnet18, asked vgg11", errors)
    assert re.search(r"seed\s+saved 0, asked 7", errors)
    assert "epochs" not in errors.split("leave these")[0].split("cannot change")[1]
    assert load_training(run).epochs == default_of("default", "epochs")


def test_another_way_to_operate_is_accepted_and_saved(first_launch, launch, wait_for):
    run, _ = first_launch("--patience", 3, "--recipe", "0.1.0")
    wait_for(lambda: read_metrics(run))
    launch("--run", run.path, "--cancel")
    status, _, errors = launch("--run", run.path, "--epochs", 50, "--nodes", 1)
    assert status == 0, errors
    saved = load_training(run)
    assert (saved.epochs, saved.patience, saved.schedule_epochs, load_job(run).nodes) == (50, 3, 30, 1)


def test_what_was_typed_once_need_not_be_typed_again(first_launch, launch, wait_for):
    run, _ = first_launch("--seed", 5, "--lr", 0.01)
    wait_for(lambda: read_metrics(run))
    launch("--run", run.path, "--cancel")
    assert launch("--run", run.path, "--snapshot", "newest", "--schedule-epochs", 0)[0] == 0
    assert (load_training(run).seed, load_training(run).lr) == (5, 0.01)


def test_half_of_a_pair_is_completed_by_what_was_saved(planned_run, launch):
    folds = TrainingSettings(snapshot="ab12", schedule_epochs=30, val_fold=3, test_fold=4)
    run = planned_run(training=folds)
    status, out, errors = launch("--run", run.path, "--val-fold", 3, "--dry-run")
    assert status == 0, errors
    assert "mri_hpc.cluster.local" in out


def test_the_same_command_without_a_name_resumes_the_same_run(launch, store, tmp_path):
    words = ("--store", store, "--seed", 3)
    assert launch(*words)[0] == 0
    [path] = (tmp_path / "runs").iterdir()
    assert re.fullmatch(r"resnet18-[0-9a-f]{8}", path.name)
    assert "already in the hands of" in launch(*words, "--patience", 2)[1]
    assert [entry.name for entry in (tmp_path / "runs").iterdir()] == [path.name]


def test_a_setting_file_with_an_unknown_key_names_the_nearest(planned_run, launch):
    run = planned_run()
    run.settings.write_text(run.settings.read_text().replace("patience =", "patiense ="))
    status, _, errors = launch("--run", run.path)
    assert status == 2
    assert "unknown setting 'patiense' in [training]; did you mean 'patience'?" in errors


# What fails, fails at once.


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (("--model", "resnet81"), r"'resnet81' is no classifier of torchvision .*did you mean 'resnet18'"),
        (("--val-fold", 1, "--test-fold", 2), r"--val-fold 1 holds no image: the data name no fold"),
        (("--weights", "nothing.pth"), r"nothing.pth does not exist, or is no file: give a .pth or .safe"),
        (("--batch-size", 3, "--nodes", 2), r"--batch-size 3 gives 2 ranks less than 2 images each"),
        (("--snapshot", "00ff"), r"00ff"),
    ],
)
def test_what_would_fail_the_ranks_is_refused_before_anything_is_written(
    launch, store, tmp_path, options, complaint
):
    status, _, errors = launch("--store", store, "--run", tmp_path / "run", *options)
    assert status == 2
    assert re.search(complaint, errors), errors
    assert not (tmp_path / "run").exists()


def test_pretrained_weights_are_a_word_and_are_looked_for_before_anything_is_submitted(
    launch, store, tmp_path, monkeypatch
):
    asked = []
    monkeypatch.setattr("mri_hpc.training.model.check_weights", lambda *words: asked.append(words))
    words = ("--store", store, "--run", tmp_path / "run", "--weights", "pretrained", "--dry-run")
    assert launch(*words)[0] == 0
    [(settings, num_classes, image_shape)] = asked
    assert (settings.weights, num_classes, image_shape) == ("pretrained", 2, (32, 32))

    def refuse(*_words):
        raise UserError("fetch them with: mri-hpc weights fetch resnet18")

    monkeypatch.setattr("mri_hpc.training.model.check_weights", refuse)
    status, _, errors = launch(*words[:-1])
    assert (status, errors) == (2, "mri-hpc launch: fetch them with: mri-hpc weights fetch resnet18\n")
    assert not (tmp_path / "run").exists()


def test_a_store_of_one_class_is_refused(launch, make_pictures, preprocess, tmp_path):
    make_pictures(tmp_path / "one", 40, patients=40, classes=("glioma",))
    preprocess(tmp_path / "one", tmp_path / "single", "--size", "32", "--ids", "as-given")
    status, _, errors = launch("--store", tmp_path / "single", "--run", tmp_path / "run")
    assert status == 2
    assert "single holds one class only (glioma): a classifier needs two" in errors


@pytest.fixture
def refusing_slurm(monkeypatch):
    """A Slurm that refuses every job, once submitit has left its files."""

    def refuse(run, *_words, **_sizes):
        run.submitit.mkdir()
        raise UserError("Slurm refused the job: unrecognized option")

    monkeypatch.setattr(partitions, "partition_of_job", lambda *_where: Partition(has_gpus=False))
    monkeypatch.setattr("mri_hpc.cluster.submission.submit", refuse)


def test_a_new_run_that_slurm_refuses_leaves_no_folder(launch, store, tmp_path, refusing_slurm):
    status, _, errors = launch("--store", store, "--run", tmp_path / "run", "--cluster", "slurm")
    assert (status, "unrecognized option" in errors) == (2, True)
    assert not (tmp_path / "run").exists()


def test_a_new_run_that_slurm_refuses_leaves_the_folder_and_the_link_that_were_there(
    launch, store, tmp_path, refusing_slurm
):
    (tmp_path / "scratch").mkdir()
    (tmp_path / "run").symlink_to("scratch")
    for name in ("run", "scratch"):
        status, _, errors = launch("--store", store, "--run", tmp_path / name, "--cluster", "slurm")
        assert (status, errors) == (2, "mri-hpc launch: Slurm refused the job: unrecognized option\n")
    assert (tmp_path / "run").is_symlink()
    assert list((tmp_path / "scratch").iterdir()) == []


def test_what_slurm_says_is_told_also_where_nothing_can_be_removed(
    launch, store, tmp_path, refusing_slurm, monkeypatch
):
    def fail(_path):
        raise OSError("no more")

    monkeypatch.setattr("mri_hpc.cluster.launching.remove_folder", fail)
    status, _, errors = launch("--store", store, "--run", tmp_path / "run", "--cluster", "slurm")
    assert (status, "unrecognized option" in errors) == (2, True)


def test_a_folder_that_holds_something_else_is_left_alone(launch, store, tmp_path):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter1.tex").touch()
    status, _, errors = launch("--store", store, "--run", tmp_path / "thesis")
    assert status == 2
    assert "holds other things (chapter1.tex, ...): choose a new folder for --run" in errors
