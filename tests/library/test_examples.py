"""Each example runs, as a reader runs it."""

import json
import subprocess
import sys
from pathlib import Path

from mri_hpc import Store
from mri_hpc.launch import main as launch

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"


def run(*words, cwd=ROOT):
    ran = subprocess.run([sys.executable, *map(str, words)], cwd=cwd, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_every_example_is_tried_here():
    tried = {"read_a_store.py", "train_with_pytorch.py", "train_with_lightning.py"}
    assert {file.name for file in EXAMPLES.iterdir()} == tried | {"predict_in_a_notebook.ipynb"}


def test_the_numpy_example_tells_what_is_in_a_store(store_path):
    printed = run(EXAMPLES / "read_a_store.py", store_path)
    assert f"snapshot {Store.open(store_path).resolve().digest}: 120 images of (32, 32)" in printed
    assert "glioma: 60 images" in printed


def test_the_pytorch_example_trains(store_path):
    printed = run(EXAMPLES / "train_with_pytorch.py", store_path, 1)
    assert printed.startswith("epoch 1: ") and printed.endswith("validation slices right\n")


def test_the_lightning_example_trains(store_path):
    assert "loss " in run(EXAMPLES / "train_with_lightning.py", store_path, 1)


def test_the_notebook_predicts(store_path, tmp_path, make_pictures):
    place = ["--store", store_path, "--run", tmp_path / "runs/demo", "--cluster", "local", "--wait"]
    small = ["--model", "shufflenet_v2_x0_5", "--epochs", 1, "--batch-size", 32]
    assert launch([str(word) for word in (*place, *small)]) == 0
    make_pictures(tmp_path / "new_patients", 4, classes=("glioma",))
    cells = json.loads((EXAMPLES / "predict_in_a_notebook.ipynb").read_text(encoding="utf-8"))["cells"]
    code = "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")
    printed = run("-c", code, cwd=tmp_path)
    assert "demo shufflenet_v2_x0_5 finished" in printed
    assert "balanced accuracy by patient: " in printed
    assert "{'glioma': " in printed
