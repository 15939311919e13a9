"""Each example runs, as a reader runs it."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mri_hpc import Store
from mri_hpc.launch import main as launch

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"


# One after the other in one process: to import torch anew for each takes longer than all the rest.
ONE_AFTER_THE_OTHER = """
import contextlib, io, json, os, runpy, sys
printed = {}
for folder, *words in json.loads(sys.argv[1]):
    os.chdir(folder)
    sys.argv[:] = words
    with contextlib.redirect_stdout(io.StringIO()) as output:
        runpy.run_path(words[0], run_name="__main__")
    printed[os.path.basename(words[0])] = output.getvalue()
print(json.dumps(printed))
"""


@pytest.fixture(scope="module")
def printed(store_path, tmp_path_factory):
    """What each example prints, by its name."""
    folder = tmp_path_factory.mktemp("examples")
    train(store_path, folder / "runs" / "demo")
    draw(folder / "new_patients")
    cells = json.loads((EXAMPLES / "predict_in_a_notebook.ipynb").read_text(encoding="utf-8"))["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    (folder / "notebook.py").write_text(code)
    calls = [
        (ROOT, EXAMPLES / "read_a_store.py", store_path),
        (ROOT, EXAMPLES / "train_with_pytorch.py", store_path, 1),
        (ROOT, EXAMPLES / "train_with_lightning.py", store_path, 1),
        (folder, folder / "notebook.py"),
    ]
    words = [sys.executable, "-c", ONE_AFTER_THE_OTHER, json.dumps([list(map(str, call)) for call in calls])]
    ran = subprocess.run(words, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return json.loads(ran.stdout.splitlines()[-1])


def train(store, run):
    """A run of one epoch."""
    place = ["--store", store, "--run", run, "--cluster", "local", "--wait"]
    small = ["--model", "shufflenet_v2_x0_5", "--epochs", 1, "--batch-size", 32]
    assert launch([str(word) for word in (*place, *small)]) == 0


def draw(folder):
    """Pictures of nobody known."""
    for number in range(4):
        path = folder / "glioma" / f"patient{number}" / f"{number}.png"
        path.parent.mkdir(parents=True)
        pixels = np.random.default_rng(number).integers(0, 256, (32, 32), dtype=np.uint8)
        Image.fromarray(pixels).save(path)


def test_every_example_is_tried_here():
    tried = {"read_a_store.py", "train_with_pytorch.py", "train_with_lightning.py"}
    assert {file.name for file in EXAMPLES.iterdir()} == tried | {"predict_in_a_notebook.ipynb"}


def test_the_numpy_example_tells_what_is_in_a_store(store_path, printed):
    said = printed["read_a_store.py"]
    assert f"snapshot {Store.open(store_path).resolve().digest}: 120 images of (32, 32)" in said
    assert "glioma: 60 images" in said


def test_the_pytorch_example_trains(printed):
    said = printed["train_with_pytorch.py"]
    assert said.startswith("epoch 1: ") and said.endswith("validation slices right\n")


def test_the_lightning_example_trains(printed):
    assert "loss " in printed["train_with_lightning.py"]


def test_the_notebook_predicts(printed):
    said = printed["notebook.py"]
    assert "demo shufflenet_v2_x0_5 finished" in said
    assert "balanced accuracy by patient: " in said
    assert "{'glioma': " in said
