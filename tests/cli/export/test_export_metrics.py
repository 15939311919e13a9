"""export-metrics sends each figure once, however often a run is interrupted and it is asked again."""

import importlib.util
import json
import sys

import pytest

from mri_hpc import export_metrics
from mri_hpc.export_metrics import main
from mri_hpc.rundir import durable_metrics
from mri_hpc.rundir.layout import Attempt
from mri_hpc.rundir.ledger import Kind, record
from mri_hpc.rundir.metrics_log import MetricsLog, read_metrics
from mri_hpc.rundir.settings import JobSettings, TrainingSettings, save_settings
from tests.cli.export import standin_mlflow


@pytest.fixture
def address(tmp_path, monkeypatch):
    """The address of a tracker: of the real one where it is installed."""
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    if importlib.util.find_spec("mlflow") is None:
        standin_mlflow.install(monkeypatch)
    return f"file:{tmp_path}/tracked"


@pytest.fixture
def tracked(address):
    """Asks the tracker for all runs, and their figures by name: [(step, value), ...]."""

    def ask():
        client = sys.modules["mlflow"].MlflowClient(tracking_uri=address)
        experiment = client.get_experiment_by_name("mri_hpc").experiment_id
        return [
            (run, lambda name, run=run: sorted(
                (one.step, one.value) for one in client.get_metric_history(run.info.run_id, name)
            ))
            for run in client.search_runs([experiment])
        ]  # fmt: skip

    return ask


def checkpoint(monkeypatch, *, step, epoch):
    """The newest checkpoint of the run, as far as an export asks."""
    import types

    manifest = types.SimpleNamespace(progress=types.SimpleNamespace(step=step, epoch=epoch))
    monkeypatch.setattr(durable_metrics, "newest_manifest", lambda _run: manifest)


def export(run, address, capsys):
    capsys.readouterr()
    assert main([str(run.path), "--to", "mlflow", "--uri", address, "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    return printed["sent"], printed["already_there"]


def test_each_figure_is_there_once_over_requeues_and_those_that_may_change_are_not(
    make_run, address, tracked, capsys, monkeypatch
):
    run = make_run(finished=False)
    checkpoint(monkeypatch, step=40, epoch=2)
    first, _ = export(run, address, capsys)
    assert export(run, address, capsys) == (0, first)
    # The next attempt goes on from the checkpoint, and does the steps behind it again, with other outcomes.
    log = MetricsLog(run, Attempt(submission=1, restart=1), resumed_step=40, resumed_epoch=2)
    for step in range(41, 61):
        log.step(step=step, epoch=2, loss=7.0, lr=1e-3, images=64, seconds=0.2)
    log.validation(step=60, epoch=2, loss=6.0, balanced_accuracy=0.5)
    log.close()
    # It is of the end of an epoch that is not validated so far.
    checkpoint(monkeypatch, step=60, epoch=2)
    assert export(run, address, capsys)[1] == first
    [(_, figures)] = tracked()
    lines = [line for line in read_metrics(run) if "loss" in line]
    assert figures("loss") == [(line["step"], line["loss"]) for line in lines]
    assert [step for step, _ in figures("validation_loss")] == [20, 40]
    checkpoint(monkeypatch, step=60, epoch=3)
    assert export(run, address, capsys)[0] == 2
    [(_, figures)] = tracked()
    assert [step for step, _ in figures("validation_loss")] == [20, 40, 60]


def test_what_is_sent_are_figures_and_settings_and_how_the_run_stands(make_run, address, tracked, capsys):
    run = make_run()
    settings = TrainingSettings(snapshot="5e" * 32, seed=7, store="/home/quillonf/stores/mri")
    save_settings(run, settings, JobSettings(nodes=2))
    export(run, address, capsys)
    [(found, figures)] = tracked()
    assert found.data.params["seed"] == "7" and found.data.params["model"] == "resnet18"
    assert (found.data.tags["store"], found.data.tags["nodes"]) == ("mri", "2")
    assert len(figures("lr")) == 120 and found.info.status == "FINISHED"
    everything = json.dumps([found.data.params, found.data.tags])
    assert "quillonf" not in everything and str(run.path) not in everything
    # What may change of a run replaces what it was.
    save_settings(run, settings, JobSettings(nodes=3))
    assert export(run, address, capsys)[0] == 0
    assert tracked()[0][0].data.tags["nodes"] == "3"


def test_a_run_that_gave_up_is_a_failure_and_one_that_waits_is_not(make_run, address, tracked, capsys):
    run = make_run(finished=False)
    export(run, address, capsys)
    assert tracked()[0][0].info.status == "RUNNING"
    record(run, run.newest_attempt(), Kind.DECIDED, decision="give_up", cause="crashed", reason="thrice")
    export(run, address, capsys)
    assert tracked()[0][0].info.status == "FAILED"


def test_a_run_that_was_moved_is_the_same_and_another_of_the_same_settings_is_not(
    make_run, address, tracked, capsys
):
    run = make_run()
    export(run, address, capsys)
    moved = type(run)(run.path.rename(run.path.with_name("moved")))
    assert export(moved, address, capsys)[0] == 0
    assert len(tracked()) == 1
    export(make_run(), address, capsys)
    assert len(tracked()) == 2


def test_without_the_library_or_an_address_one_line_says_what_to_type(make_run, capsys, monkeypatch):
    run = make_run()
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert main([str(run.path)]) == 2
    assert "give --uri http://SERVER:5000, or set MLFLOW_TRACKING_URI" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "mlflow", None)
    assert main([str(run.path), "--uri", "file:nowhere"]) == 2
    assert capsys.readouterr().err == (
        "mri-hpc export-metrics: mlflow is not installed here: pip install mlflow-skinny, then run it again\n"
    )


def test_a_server_that_cannot_be_reached_is_one_line(make_run, address, capsys, monkeypatch):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    assert main([str(make_run().path), "--uri", "http://127.0.0.1:9"]) == 2
    printed = capsys.readouterr().err
    assert printed.startswith("mri-hpc export-metrics: http://127.0.0.1:9: ") and printed.count("\n") == 1


def test_settings_that_an_export_cut_short_left_out_are_sent_with_the_next(
    make_run, address, tracked, capsys, monkeypatch
):
    run = make_run()
    with monkeypatch.context() as patch:
        patch.setattr(export_metrics, "_log", lambda *_: sys.exit(1))
        with pytest.raises(SystemExit):
            main([str(run.path), "--uri", address])
    export(run, address, capsys)
    [(found, _)] = tracked()
    assert found.data.params["model"] == "resnet18"


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("", "MlflowException"),
        (
            "API request to http://me:hunter2@server:5000/api failed\nmore",
            "API request to http://server:5000/api",
        ),
    ],
)
def test_what_a_server_says_is_one_line_without_the_password_of_its_address(
    make_run, address, capsys, monkeypatch, said, told
):
    def refuse(*_words):
        raise sys.modules["mlflow.exceptions"].MlflowException(said)

    monkeypatch.setattr(export_metrics, "_send", refuse)
    monkeypatch.setattr("mlflow.MlflowClient", lambda tracking_uri: tracking_uri)
    words = [str(make_run().path), "--uri", "http://me:hunter2@server:5000"]
    assert main(words) == 2
    printed = capsys.readouterr().err
    assert printed.startswith(f"mri-hpc export-metrics: http://server:5000: {told}")
    assert "hunter2" not in printed and printed.count("\n") == 1
    monkeypatch.setattr(export_metrics, "_send", lambda *_: (1, 0))
    for more in ([], ["--json"]):
        assert main([*words, *more]) == 0
        printed = capsys.readouterr().out
        assert "http://server:5000" in printed and "hunter2" not in printed
