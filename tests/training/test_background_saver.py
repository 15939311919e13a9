"""A state that is saved beside the training: the same bytes, nothing of later steps, one copy at most."""

import io
import threading

import numpy as np
import pytest
import torch

from mri_hpc.rundir.layout import Attempt, RunDir
from mri_hpc.rundir.manifests import checkpoint_folders
from mri_hpc.rundir.place import Place
from mri_hpc.rundir.progress import Progress
from mri_hpc.rundir.settings import TrainingSettings
from mri_hpc.training import arithmetic, background_saver, checkpoint
from mri_hpc.training.background_saver import BackgroundSaver
from mri_hpc.training.learner import Learner
from mri_hpc.training.model import build, weights_digest
from mri_hpc.training.ranks import Ranks
from mri_hpc.training.saver import Fate, Order, Outcome, WaitingSaver
from mri_hpc.training.state import TrainingState
from mri_hpc.training.state_copy import StateCopy, bytes_of_copy
from tests.training.little_room import files_up_to

FIRST = Attempt(submission=1, restart=0)
ALONE = Ranks(place=Place(), device=torch.device("cpu"), backend="none", num_hosts=1)


def trained_learner(model="squeezenet1_1", **settings):
    """One that has done a step, so that its optimizer has a state."""
    settings = TrainingSettings(model=model, **settings)
    network = build(settings, 2, (32, 32))
    learner = Learner(network, settings, ALONE, weights_of_classes=np.ones(2, np.float32), steps_per_epoch=1)
    step(learner)
    return learner


def step(learner):
    learner.model(torch.randn(4, 32, 32)).square().sum().backward()
    learner.optimizer.step()
    if learner._average:
        learner._average.follow(learner.model)


@pytest.fixture(scope="module")
def learner():
    return trained_learner()


@pytest.fixture
def run(tmp_path):
    run = RunDir(tmp_path / "run")
    run.claim_attempt(FIRST)
    return run


@pytest.fixture
def saver(run):
    return BackgroundSaver(run, FIRST, keep=2)


@pytest.fixture
def gate():
    """Holds up whoever writes until it is opened, at the latest when the test has ended."""
    gate = threading.Event()
    yield gate
    gate.set()


def order(state, *, before=lambda: None, is_checked=True):
    return Order(
        state=state, began_s=0.0, is_checked=is_checked, before=before, after=lambda *_of_it: None
    )  # fmt: skip


def names(run):
    return [folder.name for folder in checkpoint_folders(run)]


def files_of(run, step):
    folder = run.checkpoints / str(step)
    return {name: (folder / name).read_bytes() for name in (checkpoint.WEIGHTS, checkpoint.OPTIMIZER)}


@pytest.mark.parametrize(
    ("settings", "has_matrix_unit"),
    [
        ({}, False),
        ({"optimizer": "sgd", "clip_norm": 1.0}, False),
        ({"ema_decay": 0.9, "head_lr": 0.1}, False),
        # Convolutions whose channels lie last, in weights, averages and the optimizer's means.
        ({"model": "shufflenet_v2_x0_5", "ema_decay": 0.9, "matrix_unit": True}, True),
    ],
)
def test_the_bytes_on_disk_are_those_of_a_save_for_which_the_training_waits(
    settings, has_matrix_unit, tmp_path, monkeypatch
):
    monkeypatch.setattr(arithmetic, "has_matrix_unit", lambda: has_matrix_unit)
    state = trained_learner(**settings).state(Progress(step=1), {"ranks": 1})
    found = []
    for kind in (WaitingSaver, BackgroundSaver):
        run = RunDir(tmp_path / kind.__name__)
        run.claim_attempt(FIRST)
        saver = kind(run, FIRST, keep=1)
        assert (saver.begin(order(state)) or saver.wait()).fate == Fate.SAVED
        assert checkpoint.damage(run.checkpoints / "1") == ""
        found.append(files_of(run, 1))
    assert found[0] == found[1]


def test_tensors_that_are_one_are_written_once_as_they_would_be_without_a_copy():
    tied = torch.ones(1000)
    state = TrainingState(
        weights={"a": torch.zeros(3)}, rest={"states": [tied, {"again": tied}], "betas": (0.9, 0.99)},
        progress=Progress(step=1), conditions={},
    )  # fmt: skip
    files = []
    for one in (state, StateCopy().take(state)):
        file = io.BytesIO()
        torch.save(one.rest, file)
        files.append(file.getvalue())
    assert files[0] == files[1]
    assert len(files[0]) < 2 * 4 * len(tied)


def test_the_learner_goes_on_while_its_state_is_written_and_nothing_of_later_steps_gets_in(run, saver, gate):
    trained = trained_learner(ema_decay=0.9)
    digest = weights_digest(trained.weights())
    saver.begin(order(trained.state(Progress(step=1), {}), before=gate.wait))
    for _ in range(2):
        step(trained)
    assert saver.ended() is None and saver.under_way and names(run) == []
    gate.set()
    assert saver.wait() == Outcome(fate=Fate.SAVED, progress=Progress(step=1))
    assert checkpoint.read_manifest(run.checkpoints / "1").weights_digest == digest
    assert weights_digest(trained.weights()) != digest
    assert saver.under_way is None and saver.wait() is None


def test_a_copy_takes_as_much_memory_as_the_state_and_is_filled_again(learner):
    state, copy = learner.state(Progress(), {}), StateCopy()
    first = copy.take(state)
    held = copy.num_bytes
    assert held == bytes_of_copy(state)
    again = copy.take(state)
    assert copy.num_bytes == held
    assert [t.data_ptr() for t in again.weights.values()] == [t.data_ptr() for t in first.weights.values()]


def test_where_there_is_no_room_for_a_copy_the_training_waits(run, saver, learner, monkeypatch, caplog):
    caplog.set_level("INFO")
    monkeypatch.setattr(background_saver, "room_bytes", lambda _sharers: 1_000_000)
    assert saver.begin(order(learner.state(Progress(step=1), {}))).fate == Fate.SAVED
    assert saver.under_way is None and saver.ended() is None and names(run) == ["1"]
    assert "in 1000000: saving while training waits" in caplog.text


def test_where_memory_for_a_copy_is_refused_half_way_the_training_waits(
    run, saver, learner, monkeypatch, caplog
):
    caplog.set_level("INFO")
    take, left = torch.empty_strided, iter(range(5))

    def refused(*size, **options):
        if next(left, None) is None:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory\nand where")
        return take(*size, **options)

    with monkeypatch.context() as context:
        context.setattr(torch, "empty_strided", refused)
        assert saver.begin(order(learner.state(Progress(step=1), {}))).fate == Fate.SAVED
    assert saver.under_way is None and names(run) == ["1"]
    assert "(DefaultCPUAllocator: can't allocate memory): saving while training waits" in caplog.text
    assert saver.begin(order(learner.state(Progress(step=2), {}))) is None
    assert saver.wait().fate == Fate.SAVED and names(run) == ["2", "1"]


def test_a_state_that_is_overtaken_leaves_nothing_behind_and_the_newer_one_is_saved(
    run, saver, learner, gate, wait_for
):
    saver.begin(order(learner.state(Progress(step=1), {})))
    assert saver.wait().fate == Fate.SAVED
    saver.begin(order(learner.state(Progress(step=2), {}), before=gate.wait))
    saver.overtake()
    assert saver.under_way is None and saver.wait() is None
    assert saver.save(order(learner.state(Progress(step=3), {}))).fate == Fate.SAVED
    gate.set()
    left = saver._left.future
    wait_for(left.done)
    assert isinstance(left.exception(), background_saver.Overtaken)
    assert names(run) == ["3", "1"]
    assert not list(run.checkpoints.glob(".tmp-*"))
    # The next one fills the same copy, once nobody reads it any more.
    saver.begin(order(learner.state(Progress(step=4), {})))
    assert saver.wait().fate == Fate.SAVED and names(run) == ["4", "3"]


def test_a_state_that_is_being_published_is_not_overtaken(run, saver, learner, gate, monkeypatch, wait_for):
    claimed, replace = threading.Event(), checkpoint.replace_folder

    def replace_slowly(folder, fill, check):
        def check_and_wait():
            check()
            claimed.set()
            gate.wait()

        replace(folder, fill, check=check_and_wait)

    monkeypatch.setattr(checkpoint, "replace_folder", replace_slowly)
    saver.begin(order(learner.state(Progress(step=1), {})))
    wait_for(claimed.is_set)
    saver.overtake()
    assert saver.under_way
    gate.set()
    assert saver.wait().fate == Fate.SAVED and names(run) == ["1"]


@pytest.mark.parametrize("is_open", [False, True])
def test_who_waits_for_a_writer_that_gets_no_core_writes_the_copy(
    is_open, run, saver, gate, monkeypatch, wait_for
):
    trained = trained_learner()
    digest = weights_digest(trained.weights())
    monkeypatch.setattr(background_saver._Write, "is_starved", lambda self: True)
    monkeypatch.setattr(background_saver, "LOOK_S", 0.001)
    writers = []

    def before():
        writers.append(threading.current_thread())
        if writers[-1] is not threading.main_thread():
            gate.wait()

    saver.begin(order(trained.state(Progress(step=1), {}), before=before))
    wait_for(lambda: writers)
    step(trained)
    if is_open:
        gate.set()
    assert saver.wait().fate == Fate.SAVED
    assert checkpoint.read_manifest(run.checkpoints / "1").weights_digest == digest
    assert is_open or writers[-1] is threading.main_thread()


@pytest.mark.parametrize("room", [0, 1_000_000, 4_000_000])
def test_a_write_that_fails_is_told_and_those_before_stay(room, run, saver, learner):
    saver.begin(order(learner.state(Progress(step=1), {})))
    assert saver.wait().fate == Fate.SAVED
    with files_up_to(room):
        saver.begin(order(learner.state(Progress(step=2), {})))
        outcome = saver.wait()
    assert (outcome.fate, outcome.progress.step) == (Fate.FAILED, 2)
    assert outcome.error.strerror == "File too large" and str(outcome.error.filename).endswith(
        "checkpoints/2"
    )
    assert [entry.name for entry in run.checkpoints.iterdir()] == ["1"]
    assert checkpoint.damage(run.checkpoints / "1") == ""


def test_room_that_the_one_that_was_left_has_taken_is_waited_for(run, saver, learner, gate, monkeypatch):
    saver.begin(order(learner.state(Progress(step=1), {}), before=gate.wait))
    saver.overtake()
    left, publish = saver._left.future, checkpoint._publish

    def publish_once_there_is_room(*arguments):
        if not left.done():
            gate.set()
            raise OSError(28, "No space left on device")
        return publish(*arguments)

    monkeypatch.setattr(checkpoint, "_publish", publish_once_there_is_room)
    assert saver.save(order(learner.state(Progress(step=2), {}))).fate == Fate.SAVED
    assert names(run) == ["2"]


def test_a_bug_of_the_writer_is_no_full_disk(saver, learner):
    def broken():
        raise KeyError("a bug")

    saver.begin(order(learner.state(Progress(step=1), {}), before=broken))
    with pytest.raises(KeyError, match="a bug"):
        saver.wait()


@pytest.mark.parametrize("place", ["weights", "statistics", "optimizer", "nowhere"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_a_state_with_a_number_that_is_not_finite_is_not_written(place, dtype, run, saver):
    tensors = {name: torch.ones(3, 2, dtype=dtype).t() for name in ("weights", "statistics", "optimizer")}
    if place in tensors:
        tensors[place][1, 2] = float("nan") if place == "weights" else float("inf")
    weights = {name: tensors[name] for name in ("weights", "statistics")}
    state = TrainingState(
        weights={**weights, "count": torch.tensor(7)}, rest={"state": [{"mean": tensors["optimizer"]}]},
        progress=Progress(step=1), conditions={},
    )  # fmt: skip
    saver.begin(order(state, is_checked=False))
    assert saver.wait().fate == (Fate.SAVED if place == "nowhere" else Fate.UNSOUND)
    assert names(run) == (["1"] if place == "nowhere" else [])
