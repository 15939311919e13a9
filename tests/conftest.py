"""What tests of several rooms share: kinds of tests, the real images, and that CI skips nothing."""

import os
import signal
from collections import Counter
from pathlib import Path

import pytest

from tests import kinds
from tests.harness.powers import without_powers

pytest_plugins = ["tests.harness.beside"]

ROOT = Path(__file__).parents[1]
# How the names of programs begin that tools/test.sh installs.
INSTALLED = (
    "btrfs", "dump.exfat", "exfat", "fsck.exfat", "mariadb", "mkfs.btrfs", "mkfs.exfat", "mount.exfat",
    "munge", "mysql", "sacct", "salloc", "sattach", "sbatch", "sbcast", "scancel", "scontrol", "scrontab",
    "sdiag", "sinfo", "slurm", "sprio", "squeue", "sreport", "srun", "sshare", "sstat", "strace", "strigger",
)  # fmt: skip


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark each test with its kind."""
    for item in items:
        kinds.mark(item)
    config.stash[kinds.COLLECTED] = list(items)


@pytest.fixture(scope="session")
def bare_path(tmp_path_factory) -> Path:
    """A folder with all programs but those that tools/test.sh installs."""
    folder = tmp_path_factory.mktemp("bare") / "bin"
    folder.mkdir()
    for below in map(Path, os.get_exec_path()):
        for program in below.iterdir() if below.is_dir() else ():
            link = folder / program.name
            if program.name != "ip" and not program.name.startswith(INSTALLED) and not os.path.lexists(link):
                link.symlink_to(program)
    return folder


@pytest.fixture(scope="session", autouse=True)
def own_folder(tmp_path_factory):
    """What an account keeps for itself, beside stores that it may not write to, lies with the tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(tmp_path_factory.mktemp("state")))
        yield


@pytest.fixture(autouse=True)
def bare_machine(request, monkeypatch):
    """A fast test is one that passes where nothing was installed, and as any user: it sees such a machine."""
    if not request.node.get_closest_marker("fast"):
        yield
        return
    monkeypatch.setenv("PATH", str(request.getfixturevalue("bare_path")))
    with without_powers():
        yield


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real images beside the checkout; absent: skipped, or failed where required."""
    folder = ROOT.parent / "shared" / "data"
    if folder.is_dir():
        return folder
    if os.environ.get("MRI_REQUIRE_DATA"):
        pytest.fail(f"{folder} is required and absent")
    pytest.skip(f"no real images at {folder}")


def pytest_sessionstart() -> None:
    """Ctrl-C is heard, also where a shell that started the tests in the background has it ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def end_hang_watches(monkeypatch):
    """A rank that fails in the process of the tests leaves its watch on, which would end them later."""
    from mri_hpc.training.hang_watch import HangWatch

    begin, watches = HangWatch.__init__, []

    def begin_noted(watch, timeout_s):
        watches.append(watch)
        begin(watch, timeout_s)

    monkeypatch.setattr(HangWatch, "__init__", begin_noted)
    yield
    for watch in watches:
        watch.close()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say in a line what was left out; under CI, that a skip is a failure."""
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = Counter(report.longrepr[2].removeprefix("Skipped: ") for report in skipped)
    if reasons:
        told = "; ".join(f"{count} x {reason}" for reason, count in reasons.most_common())
        terminalreporter.write_line(f"left out: {told}")
    if os.environ.get("CI") and skipped:
        terminalreporter.write_line("a test was skipped: CI refuses that", red=True)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Under CI a skipped test fails the run."""
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") and reporter and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.fixture
def make_run(tmp_path):
    """Makes the folder of a run, through the modules that runs use: preempted once, and finished."""
    import json

    import numpy as np

    from mri_hpc.rundir.layout import Attempt, RunDir
    from mri_hpc.rundir.ledger import Kind, record
    from mri_hpc.rundir.metrics_log import MetricsLog
    from mri_hpc.rundir.predictions import Prediction, write_predictions
    from mri_hpc.rundir.settings import JobSettings, TrainingSettings, save_settings

    steps_an_epoch = 20

    def train(run, attempt, *, resumed_step, until):
        resumed_epoch = resumed_step // steps_an_epoch
        log = MetricsLog(run, attempt, resumed_step=resumed_step, resumed_epoch=resumed_epoch)
        noise = np.random.default_rng(attempt.restart)
        for step in range(resumed_step + 1, until + 1):
            epoch = (step - 1) // steps_an_epoch
            loss = 1.1 * np.exp(-step / 60) + 0.1 + noise.normal(0, 0.05)
            log.step(step=step, epoch=epoch, loss=loss, lr=1e-3, images=64, seconds=0.2)
            if step % steps_an_epoch == 0:
                loss = 0.95 * np.exp(-step / 60) + 0.25 + step / 1000
                accuracy = 0.9 - 0.5 * np.exp(-step / 50)
                log.validation(step=step, epoch=epoch, loss=loss, balanced_accuracy=accuracy)
        log.close()

    def predict(classes, patients, split, slices):
        noise = np.random.default_rng(slices + patients)
        for number in range(patients):
            label = number % len(classes)
            person = noise.normal(0, 0.8, len(classes))
            for part in range(slices):
                scores = (
                    person + noise.normal(0, 0.6, len(classes)) + 2.0 * (np.arange(len(classes)) == label)
                )
                shares = np.exp(scores) / np.exp(scores).sum()
                name = f"{split[0]}{number:04d}"
                yield Prediction(
                    key=f"{hash((split[0] == 't', number, part)) % 2**64:016x}",
                    patient=name,
                    split=split,
                    label=classes[label],
                    probabilities=tuple(shares.tolist()),
                )

    def make(
        name="resnet18-1a2b3c4d",
        *,
        classes=("glioma", "meningioma", "pituitary"),
        patients=30,
        slices=6,
        finished=True,
        rows=None,
        provenance=None,
    ):
        run = RunDir(tmp_path / name)
        run.path.mkdir()
        save_settings(run, TrainingSettings(snapshot="5e" * 32, seed=7), JobSettings(nodes=2))
        first = run.claim_submission()
        second = Attempt(submission=1, restart=1)
        started = {"ranks": 4, "host": "node1", "job_id": "4711", "device": "cpu"}
        record(run, first, Kind.SUBMITTED, cluster="slurm", job_id="4711", nodes=2, ranks=4)
        record(run, first, Kind.STARTED, resumed_step=0, epoch=0, **started)
        train(run, first, resumed_step=0, until=57)
        record(run, first, Kind.STOP_AGREED, signal="SIGTERM", rank=2, phase="training", step=57)
        record(run, first, Kind.SAVED, step=55, seconds=0.4, bytes=10_000_000, reason="stop")
        record(run, first, Kind.RANKS_GONE, status=75)
        record(
            run, first, Kind.DECIDED, decision="again", cause="preempted", reason="preempted by another job"
        )
        if not finished:
            return run
        run.claim_attempt(second)
        record(run, second, Kind.STARTED, resumed_step=55, epoch=2, **started)
        record(run, second, Kind.LOST, steps=2, seconds=0.4)
        train(run, second, resumed_step=55, until=120)
        record(run, second, Kind.TRAINED, epoch=6, step=120, reason="patience")
        if rows is None:
            both = (("validation", patients // 2), ("test", patients))
            rows = [row for split, num in both for row in predict(classes, num, split, slices)]
        write_predictions(run.predictions, classes, rows)
        stated = {
            "classes": list(classes),
            "image_shape": [96, 96],
            "versions": {"mri_hpc": "0.1.0", "torch": "2.15.0"},
            "snapshot": "5e" * 32,
            "content_digest": "c0" * 32,
            "weights_digest": "3e" * 32,
            "samples_digest": "5a" * 32,
            "device": "cpu",
            "ranks": 4,
            "has_patients": True,
            "num_parameters": 11_178_051,
            "conditions": {"device": "cpu", "ranks": 4, "threads": 1},
            "split_counts": {
                "train": {
                    "images": 80 * len(classes),
                    "patients": 9 * len(classes),
                    "classes": {name: {"images": 80, "patients": 9} for name in classes},
                }
            },
        }
        run.provenance.write_text(json.dumps({**stated, **(provenance or {})}))
        run.mark_done()
        record(run, second, Kind.RANKS_GONE, status=0)
        record(run, second, Kind.DECIDED, decision="finished", cause="finished", reason="the run is done")
        return run

    return make


@pytest.fixture
def make_pictures():
    """Writes grey JPEGs ``CLASS/PATIENT/NUMBER.jpg`` below a folder; the same numbers give the same bytes."""
    import numpy as np
    from PIL import Image

    def make(root, count, *, first=0, side=32, classes=("glioma", "meningioma"), patients=7):
        paths = []
        for number in range(first, first + count):
            label, patient = classes[number % len(classes)], f"patient{number % patients}"
            path = root / label / patient / f"{number:05d}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            pixels = np.random.default_rng(number).integers(0, 256, (side // 8, side // 8), dtype=np.uint8)
            Image.fromarray(pixels).resize((side, side)).save(path, "JPEG", quality=90)
            paths.append(path)
        return paths

    return make


@pytest.fixture
def preprocess(tmp_path, monkeypatch, capsys):
    """Runs mri-hpc preprocess in this process, with a site key of its own: (status, stdout, stderr)."""

    from mri_hpc.preprocess import main
    from tests.harness.handlers import handlers_kept

    for name in list(os.environ):
        if name.startswith("SLURM_"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("MRI_KEY_FILE", str(tmp_path / "site.key"))

    def run(source, store, *options):
        capsys.readouterr()
        status = main(["--source", str(source), "--store", str(store), *map(str, options)])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    with handlers_kept():
        yield run


@pytest.fixture
def standin_rank(monkeypatch):
    """Ranks are tests/cluster/standin_rank.py: real processes that need neither torch nor images."""
    from mri_hpc.cluster import rank

    monkeypatch.setattr(rank, "RANK_MODULE", "standin_rank")
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests" / "cluster"))


@pytest.fixture
def report(capsys):
    """Makes the page of runs as the command does; gives status, stdout and stderr."""
    from mri_hpc.report import main

    def make(*words):
        capsys.readouterr()
        status = main([str(word) for word in words])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return make


@pytest.fixture
def planned_run(tmp_path, standin_rank):
    """Makes a run that has settings and no submission yet, and whose stand-in ranks behave as planned."""
    import json

    from mri_hpc.rundir.layout import RunDir
    from mri_hpc.rundir.settings import JobSettings, TrainingSettings, save_settings

    def make(name="a 'run", *, job=None, training=None, **plan):
        run = RunDir(tmp_path / name)
        run.path.mkdir()
        (run.path / "standin.json").write_text(json.dumps({"steps": 10, "step_s": 0.01, **plan}))
        save_settings(
            run, training or TrainingSettings(snapshot="ab12", schedule_epochs=30), job or JobSettings()
        )
        return run

    return make


@pytest.fixture
def wait_for():
    """Waits until something is true, by asking often; fails when it does not come."""
    import time

    def wait(is_true, *, timeout_s=120.0, what="it"):
        deadline = time.monotonic() + timeout_s
        while not (answer := is_true()):
            assert time.monotonic() < deadline, f"{what} did not happen in {timeout_s:g} s"
            time.sleep(0.02)
        return answer

    return wait
