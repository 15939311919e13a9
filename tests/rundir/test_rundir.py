"""What the run directory promises to launch, the ranks, status and report."""

import json
import math
import multiprocessing
import os
import time
from dataclasses import replace

import numpy as np
import pytest

from mri_hpc.base.errors import UserError
from mri_hpc.base.sealed_json import seal
from mri_hpc.rundir.layout import Attempt, RunDir, open_run
from mri_hpc.rundir.ledger import Kind, read_events, record
from mri_hpc.rundir.manifests import (
    MANIFEST,
    Manifest,
    newest_manifest,
    newest_step,
    open_manifest,
    read_manifest,
)
from mri_hpc.rundir.metrics_log import MetricsLog, read_metrics
from mri_hpc.rundir.predictions import Prediction, read_predictions, write_predictions
from mri_hpc.rundir.progress import EarlyStopping, Progress

FIRST = Attempt(submission=1, restart=0)


def claim(path):
    return RunDir(path).claim_submission()


def test_of_many_launches_at_once_each_claims_its_own_submission(tmp_path):
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        claimed = pool.map(claim, [tmp_path] * 12)
    assert sorted(attempt.submission for attempt in claimed) == list(range(1, 13))


def test_attempts_compare_by_number_not_by_name(tmp_path):
    run = RunDir(tmp_path)
    for restart in (2, 10, 9):
        run.claim_attempt(Attempt(submission=1, restart=restart))
    assert run.newest_attempt() == Attempt(submission=1, restart=10)


def test_a_folder_that_is_no_run_says_how_to_start_one(tmp_path):
    with pytest.raises(UserError, match=r"is not a run directory .*python -m mri_hpc\.launch --run"):
        open_run(tmp_path)


def test_a_mistyped_run_is_refused_by_naming_those_beside_it_and_a_store_as_what_it_is(tmp_path):
    for name in "fedcba":
        (tmp_path / name).mkdir()
        (tmp_path / name / "settings.toml").touch()
    with pytest.raises(UserError, match=r"nope does not exist; runs here: a, b, c, d, e$"):
        open_run(tmp_path / "nope")
    with pytest.raises(UserError, match=r"it holds runs, give one: a, b, c, d, e$"):
        open_run(tmp_path)
    with pytest.raises(UserError, match=r"nope does not exist; start a run with: "):
        open_run(tmp_path / "nowhere" / "nope")
    (tmp_path / "store" / "commits").mkdir(parents=True)
    with pytest.raises(UserError, match=r"store is a store, not a run; train on it with: "):
        open_run(tmp_path / "store")


def test_a_ledger_line_cut_short_is_passed_over(tmp_path):
    run = RunDir(tmp_path)
    record(run, FIRST, Kind.STARTED, ranks=4)
    with run.events.open("a") as file:
        file.write('{"time": 1.0, "att\n')
    record(run, FIRST, Kind.SAVED, step=7)
    assert [(event.kind, dict(event.values)) for event in read_events(run)] == [
        ("started", {"ranks": 4}),
        ("saved", {"step": 7}),
    ]


def test_each_line_of_the_ledger_and_of_the_metrics_says_its_format_and_no_reader_sees_it(tmp_path):
    run = RunDir(tmp_path)
    record(run, FIRST, Kind.SAVED, step=7)
    log = MetricsLog(run, FIRST, resumed_step=0, resumed_epoch=0)
    log.step(step=1, epoch=0, loss=math.nan, lr=0.1, images=8, seconds=0.1)
    log.close()
    for path in (run.events, run.metrics):
        assert [json.loads(line)["format"] for line in path.read_text().splitlines()] == [1]
    assert [dict(event.values) for event in read_events(run)] == [{"step": 7}]
    assert math.isnan(read_metrics(run)[0]["loss"])
    # A run that goes on writes the lines of an older version anew.
    run.metrics.write_text('{"step": 1, "epoch": 0, "loss": 0.5, "attempt": "1.0"}\n')
    MetricsLog(run, FIRST, resumed_step=1, resumed_epoch=0).close()
    assert json.loads(run.metrics.read_text())["format"] == 1
    assert read_metrics(run) == [{"step": 1, "epoch": 0, "loss": 0.5, "attempt": "1.0"}]


def test_metrics_are_never_doubled_by_a_resume_or_by_an_attempt_that_was_cut_off(tmp_path):
    run = RunDir(tmp_path)
    older = MetricsLog(run, FIRST, resumed_step=0, resumed_epoch=0)
    for step in (1, 2, 3):
        older.step(step=step, epoch=0, loss=1.0, lr=0.1, images=8, seconds=0.1)
    newer = MetricsLog(run, Attempt(submission=1, restart=1), resumed_step=2, resumed_epoch=0)
    older.step(step=4, epoch=0, loss=9.0, lr=0.1, images=8, seconds=0.1)
    newer.step(step=3, epoch=0, loss=2.0, lr=0.1, images=8, seconds=0.1)
    assert [(line["step"], line["attempt"]) for line in read_metrics(run)] == [
        (1, "1.0"),
        (2, "1.0"),
        (3, "1.1"),
    ]


def manifest(progress):
    return Manifest(
        progress=progress, attempt="1.0", written_s=0.0, weights_digest="", files={}, conditions={}
    )


def test_a_checkpoint_without_its_manifest_does_not_count(tmp_path):
    run = RunDir(tmp_path)
    for step in (9, 10):
        (run.checkpoints / str(step)).mkdir(parents=True)
    complete = manifest(Progress(step=9, samples_digest="ab"))
    (run.checkpoints / "9" / MANIFEST).write_bytes(complete.to_json())
    assert newest_manifest(run) == complete
    assert read_manifest(run.checkpoints / "10") is None


def test_a_manifest_keeps_that_nothing_was_validated_yet(tmp_path):
    (tmp_path / MANIFEST).write_bytes(manifest(Progress()).to_json())
    assert read_manifest(tmp_path).progress.early_stopping.best_loss == math.inf


def test_every_byte_of_a_manifest_is_watched_over(tmp_path):
    document = manifest(Progress(step=10)).to_json()
    for damaged in (document.replace(b"10", b"11"), document[:-9], b"[]", b"\xff"):
        (tmp_path / MANIFEST).write_bytes(damaged)
        found = open_manifest(tmp_path)
        assert found.reason == "manifest.json: its bytes are not those that were written"
        assert not found.is_of_another_version
        assert read_manifest(tmp_path) is None


def test_a_file_in_place_of_a_checkpoint_is_passed_over(tmp_path):
    run = RunDir(tmp_path)
    run.checkpoints.mkdir()
    (run.checkpoints / "7").touch()
    assert newest_manifest(run) is None


def test_the_newest_step_is_that_of_the_newest_manifest_that_can_be_read(tmp_path):
    run = RunDir(tmp_path)
    assert newest_step(run) == 0
    written = {step: manifest(Progress(step=step)).to_json() for step in (9, 10, 11)}
    odd = {**manifest(Progress()).to_values(), "progress": {**Progress().to_dict(), "step": "twelve"}}
    unfit = {10: written[10].replace(b"10", b"12"), 11: written[11][:-9], 12: seal(odd)}
    for step, document in {**written, **unfit}.items():
        (run.checkpoints / str(step)).mkdir(parents=True)
        (run.checkpoints / str(step) / MANIFEST).write_bytes(document)
    assert newest_step(run) == newest_manifest(run).progress.step == 9


def lacking(values, name):
    return {key: value for key, value in values.items() if key != name}


@pytest.mark.parametrize(
    "change",
    [
        lambda values: lacking(values, "weights_digest"),
        lambda values: {**values, "progress": lacking(values["progress"], "step_in_epoch")},
        lambda values: {**values, "progress": {**values["progress"], "early_stopping": {"best_loss": None}}},
        lambda values: {},
    ],
)
@pytest.mark.parametrize("write", [seal, lambda values: json.dumps(values).encode()])
def test_a_manifest_that_lacks_fields_is_whole_and_of_another_version(change, write, tmp_path):
    (tmp_path / MANIFEST).write_bytes(write(change(manifest(Progress()).to_values())))
    found = open_manifest(tmp_path)
    assert (found.reason, found.is_of_another_version) == ("written by another version of mri_hpc", True)


def test_a_manifest_that_has_gained_fields_is_read_as_before(tmp_path):
    before = manifest(Progress(step=3))
    values = before.to_values()
    gained = {**values, "host": "node1", "progress": {**values["progress"], "seconds": 1}}
    (tmp_path / MANIFEST).write_bytes(seal(gained))
    assert open_manifest(tmp_path) == before


def test_a_manifest_without_a_checksum_is_one_of_before(tmp_path):
    before = manifest(Progress(step=3))
    (tmp_path / MANIFEST).write_text(json.dumps(before.to_values()))
    assert open_manifest(tmp_path) == before


def test_progress_counts_steps_and_chains_the_samples():
    first, second = np.array([3, 1], dtype=np.uint64), np.array([2], dtype=np.uint64)
    one_way = Progress().after_step(first).after_step(second)
    other_way = Progress().after_step(second).after_step(first)
    assert (one_way.step, one_way.step_in_epoch, one_way.epoch) == (2, 2, 0)
    assert one_way.samples_digest != other_way.samples_digest
    assert one_way.after_epoch(0.5, 0.0).step_in_epoch == 0


def test_training_is_over_after_patience_epochs_without_improvement():
    progress = Progress()
    for loss in (1.0, 0.8, 0.9, math.nan):
        assert not progress.is_over(epochs=9, patience=2)
        progress = progress.after_epoch(loss, 0.0)
    assert progress.is_over(epochs=9, patience=2)
    assert progress.early_stopping.best_epoch == 1
    assert not progress.is_over(epochs=9, patience=3)
    assert progress.is_over(epochs=4, patience=3)


def epochs_of(losses, **ends):
    """The epochs in which the rate falls, and the epoch at which training ends."""
    progress, falling = Progress(), []
    for loss in losses:
        if progress.is_over(**ends):
            break
        progress = progress.with_decay(**ends)
        if progress.decay_epoch >= 0:
            falling.append(progress.epoch)
        progress = progress.after_epoch(loss, 0.0)
    return falling, progress.epoch


def test_patience_begins_the_decay_which_nothing_ends_early():
    losses = [1.0, 0.8, 0.9, 0.9, 0.5, *[0.9] * 20]
    assert epochs_of(losses, epochs=20, patience=2, decay_epochs=3) == ([4, 5, 6], 7)
    assert epochs_of([1.0, *[2.0] * 20], epochs=20, patience=2, decay_epochs=5) == ([3, 4, 5, 6, 7], 8)


def test_the_decay_begins_in_time_for_the_last_epoch():
    falling_losses = [1 / (1 + epoch) for epoch in range(20)]
    assert epochs_of(falling_losses, epochs=10, patience=2, decay_epochs=3) == ([7, 8, 9], 10)
    assert epochs_of(falling_losses, epochs=2, patience=2, decay_epochs=3) == ([0, 1], 2)


@pytest.mark.parametrize(
    ("published_epoch", "decay_epochs", "step", "epoch"),
    [("best", 2, 20, 2), ("last", 2, 60, 6), ("last", 0, 20, 2), ("best", 0, 20, 2)],
)
def test_the_last_epoch_is_published_where_it_was_asked_for_and_the_rate_fell(
    published_epoch, decay_epochs, step, epoch
):
    progress = Progress()
    for loss in (0.9, 0.5, 0.6, 0.6, 0.6, 0.6):
        progress = progress.with_decay(6, 9, decay_epochs)
        progress = replace(progress, step=progress.step + 10).after_epoch(loss, 0.0)
    assert (progress.model_step(published_epoch), progress.model_epoch(published_epoch)) == (step, epoch)


def test_where_no_loss_was_a_number_the_last_epoch_is_published():
    progress = replace(Progress(), step=10).after_epoch(math.nan, 0.0)
    assert (progress.model_step("best"), progress.model_epoch("best")) == (10, 1)


def test_a_run_that_stopped_within_an_epoch_does_not_begin_its_decay_there():
    within = Progress(epoch=9, step_in_epoch=1)
    assert within.with_decay(10, 2, 3) == within
    assert Progress(epoch=10).with_decay(10, 2, 0) == Progress(epoch=10)
    assert within.after_epoch(1.0, 0.0).is_over(10, 2, 3)


def test_a_manifest_of_before_there_was_a_decay_has_none(tmp_path):
    values = manifest(Progress(step=3)).to_values()
    del values["progress"]["decay_epoch"]
    (tmp_path / MANIFEST).write_text(json.dumps(values))
    assert open_manifest(tmp_path) == manifest(Progress(step=3))


def test_a_smaller_gain_than_asked_for_is_no_improvement():
    state = EarlyStopping(best_loss=1.0).after_epoch(3, 30, 0.95, min_improvement=0.1)
    assert (state.best_loss, state.epochs_without_improvement) == (1.0, 1)


def test_predictions_come_back_as_written(tmp_path):
    rows = [
        Prediction(key="0a", patient='P"1,', split="test", label="glioma", probabilities=(0.25, 0.75)),
        Prediction(key="0b", patient="", split="validation", label="", probabilities=(1.0, 0.0)),
    ]
    write_predictions(tmp_path / "p.csv", ("glioma", "né,o"), rows)
    assert read_predictions(tmp_path / "p.csv") == (("glioma", "né,o"), rows)


def test_predictions_of_an_unfinished_run_point_to_status(tmp_path):
    with pytest.raises(UserError, match="mri-hpc status"):
        read_predictions(tmp_path / "p.csv")


@pytest.mark.parametrize("damage", [b"\xff\xfe\x00", b"key,patient,split,label,predicted,p:a\n0a,P1,te\n"])
def test_damaged_predictions_are_one_clear_line(tmp_path, damage):
    (tmp_path / "p.csv").write_bytes(damage)
    with pytest.raises(UserError, match=r"p\.csv is damaged"):
        read_predictions(tmp_path / "p.csv")


@pytest.mark.parametrize("document", [b"{}", b"[]", b'{"progress": {"early_stopping": {}}}'])
def test_a_manifest_that_is_something_else_does_not_count(tmp_path, document):
    (tmp_path / MANIFEST).write_bytes(document)
    assert read_manifest(tmp_path) is None


def test_a_ledger_line_that_is_no_event_is_passed_over(tmp_path):
    run = RunDir(tmp_path)
    run.events.write_text('[1, 2]\n"words"\n3\n')
    assert read_events(run) == []


@pytest.mark.parametrize("off_s", [-120.0, 240.0])
def test_events_have_the_file_servers_time_and_name_the_machine_whose_clock_is_off(
    tmp_path, monkeypatch, off_s
):
    run, real = RunDir(tmp_path), time.time
    run.claim_attempt(FIRST)
    record(run, FIRST, Kind.SUBMITTED)
    monkeypatch.setattr(time, "time", lambda: real() + off_s)
    record(run, FIRST, Kind.STARTING, clocks={"n2": 60.0})
    before, after = read_events(run)
    assert 0 <= after.time - before.time < 60
    assert "clocks" not in before.values
    assert after.values["clocks"] == {"n2": 60.0, os.uname().nodename: pytest.approx(off_s, abs=1)}
