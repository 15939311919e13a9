"""Finished runs on one small store, as training leaves them, which all tests of models share."""

import dataclasses
import shutil

import numpy as np
import pytest
from PIL import Image

from mri_hpc import preprocess
from mri_hpc.cohort.splits import rows_of, set_apart, split_by
from mri_hpc.models import main
from mri_hpc.registry.adding import add_run
from mri_hpc.registry.layout import ModelsDir
from mri_hpc.registry.promoting import promote
from mri_hpc.results.answers.calibration import calibrate
from mri_hpc.results.answers.resemblance import Resemblance, load_resemblance, write_resemblance
from mri_hpc.results.answers.resemblance_run import keep_resemblance
from mri_hpc.results.runs.control_run import keep_controls
from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.settings import JobSettings, TrainingSettings, save_settings
from mri_hpc.storage.store import Store
from tests.harness.handlers import handlers_kept

CLASSES = ("glioma", "meningioma")
PATIENTS = 80


@pytest.fixture(scope="package")
def desk(tmp_path_factory):
    """A folder with two pictures each of 80 patients, whose table names their splits, and their store."""
    root = tmp_path_factory.mktemp("models")
    (root / "key").touch(mode=0o600)
    (root / "key").write_text("01" * 32)
    rows = ["path,label,patient,split"]
    for number in range(2 * PATIENTS):
        patient = number // 2
        path = root / "raw" / f"{number}.png"
        path.parent.mkdir(exist_ok=True)
        pixels = np.random.default_rng(number).integers(1, 255, (32, 32), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
        split = "train" if patient < 30 else "validation" if patient < 70 else "test"
        rows.append(f"{path.name},{CLASSES[patient % 2]},P{patient:02d},{split}")
    (root / "raw" / "labels.csv").write_text("\n".join(rows) + "\n")
    options = ["--source", root / "raw", "--store", root / "store", "--size", 32, "--ids", "as-given"]
    options += ["--labels", root / "raw" / "labels.csv"]
    with pytest.MonkeyPatch.context() as patch, handlers_kept():
        patch.setenv("MRI_KEY_FILE", str(root / "key"))
        assert preprocess.main([str(option) for option in options]) == 0
    Store.open(root / "store").resolve()
    return root


@pytest.fixture
def store(desk, tmp_path, monkeypatch):
    """A copy of the store, below the folder in which the test works."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MRI_KEY_FILE", str(desk / "key"))
    shutil.copytree(desk / "store", tmp_path / "store")
    return Store.open(tmp_path / "store")


@pytest.fixture(scope="package")
def finish(desk):
    """Makes a finished run on a store, as training leaves it.

    Of its gate patients, the first so many in `wrong` are answered wrongly.
    """
    from mri_hpc.training.model import build, weights_digest
    from mri_hpc.training.prediction import publish

    asked: dict[tuple[int, float], bytes] = {}
    looked_at: dict[float, Resemblance] = {}

    def make(folder, store, *, wrong=0, share=0.7, seed=1, **settings):
        run, snapshot = RunDir(folder), store.resolve()
        run.path.mkdir(parents=True)
        training = TrainingSettings(
            model="squeezenet1_1", store=str(store.path), snapshot=snapshot.digest, seed=seed,
            calibration_share=share, normalise="imagenet", **settings,
        )  # fmt: skip
        save_settings(run, training, JobSettings())
        shutil.copy(store.recipe, run.recipe)
        split = rows_of(set_apart(snapshot, split_by(snapshot, training), share))
        model = build(dataclasses.replace(training, continue_from=""), 2, snapshot.image_shape)
        weights = model.network.state_dict()
        judged = {
            name: answers(snapshot, rows, wrong if name == "calibration" else 0)
            for name, rows in vars(split).items()
            if name != "train" and len(rows)
        }
        origin = {
            "classes": list(snapshot.classes), "snapshot": snapshot.digest, "epochs": 3,
            "model_digest": weights_digest(weights),
        }  # fmt: skip
        publish(
            run, snapshot, judged, weights, model_name=training.model, normalisation=model.normalisation,
            origin=origin,
        )  # fmt: skip
        calibrate(run)
        run.mark_done()
        # The same answers have the same controls, and the same training images look the same.
        if (wrong, share) in asked:
            run.controls.write_bytes(asked[wrong, share])
        else:
            keep_controls(run)
            asked[wrong, share] = run.controls.read_bytes()
        if share in looked_at:
            digest = weights_digest(weights)
            write_resemblance(run, dataclasses.replace(looked_at[share], model_digest=digest))
        else:
            keep_resemblance(run)
            looked_at[share] = load_resemblance(run)
        return run

    return make


def answers(snapshot, rows, wrong):
    """What a network says of images: right but for the first patients."""
    from mri_hpc.training.evaluation import Answers

    labels = np.asarray(snapshot.label)[rows].astype(np.int64)
    patients = np.unique(np.asarray(snapshot.patient)[rows])[:wrong]
    says = np.where(np.isin(np.asarray(snapshot.patient)[rows], patients), 1 - labels, labels)
    noise = np.random.default_rng(0).uniform(0.5, 2, len(rows))
    logits = (np.eye(2)[says] * noise[:, None]).astype(np.float32)
    ones, keys = np.ones(len(rows), np.float32), np.asarray(snapshot.key)[rows]
    return Answers(keys=keys, labels=labels, losses=ones, weights=ones, logits=logits)


@pytest.fixture
def make_finished(store, finish, tmp_path):
    """Makes a finished run on the store of the test, by its name."""
    return lambda name, **options: finish(tmp_path / "runs" / name, store, **options)


@pytest.fixture(scope="package")
def pair(desk, finish):
    """A folder of models: the current one, first, and a candidate, second."""
    store = Store.open(desk / "store")
    for seed, name in enumerate(("first", "second")):
        run = finish(desk / "runs" / name, store, seed=seed)
        add_run(ModelsDir(desk / "models"), run.path, "", 0.2)
        if name == "first":
            promote(ModelsDir(desk / "models"), name, "the first one", ("audit",))
    return desk / "models"


@pytest.fixture
def two(pair, tmp_path, monkeypatch):
    """A copy of them, below the folder in which the test works."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(pair, tmp_path / "models")
    return ModelsDir(tmp_path / "models")


@pytest.fixture
def models(capsys, tmp_path):
    """Calls mri-hpc models; gives status, stdout and stderr. folder: that of the models."""

    def call(*words):
        capsys.readouterr()
        status = main([str(word) for word in words])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    call.folder = tmp_path / "models"
    return call
