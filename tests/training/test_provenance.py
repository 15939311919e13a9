"""What provenance.json says."""

import json
from types import SimpleNamespace

import numpy as np

from mri_hpc.cohort.splits import Split
from mri_hpc.rundir.progress import Progress
from mri_hpc.rundir.settings import TrainingSettings
from mri_hpc.training.provenance import _initial_digest, lineage, provenance


class Columns(SimpleNamespace):
    def __len__(self):
        return len(self.label)


def parent(folder, **provenance):
    folder.mkdir()
    (folder / "provenance.json").write_text(json.dumps(provenance))
    return TrainingSettings(continue_from=str(folder))


def test_a_run_that_goes_on_from_others_names_them_all_with_their_models(tmp_path):
    first = parent(tmp_path / "first", model_digest="a1", snapshot="5a")
    second = parent(tmp_path / "second", model_digest="b2", snapshot="5b", continued_from=lineage(first))
    assert lineage(second) == [
        {"run": str(tmp_path / "second"), "model_digest": "b2", "snapshot": "5b"},
        {"run": str(tmp_path / "first"), "model_digest": "a1", "snapshot": "5a"},
    ]


def test_of_a_parent_that_is_gone_by_the_end_the_path_is_kept(tmp_path):
    settings = TrainingSettings(continue_from=str(tmp_path / "gone"))
    assert lineage(settings) == [{"run": str(tmp_path / "gone"), "model_digest": "", "snapshot": ""}]
    assert _initial_digest(settings) == ""
    assert lineage(TrainingSettings()) == []


def test_images_that_were_not_used_or_name_no_patient_are_counted():
    snapshot = Columns(
        classes=("a", "b"),
        image_shape=(8, 8),
        bits=16,
        digest="d",
        content_digest="c",
        label=np.array([0, 1, 0, 1, 0, 0]),
        patient=np.array([0, 1, -1, 2, 3, -1]),
    )
    split = Split(train=np.array([0, 1, 2]), validation=np.array([3]), test=np.array([4]))
    found = provenance(
        snapshot, split, TrainingSettings(), Progress(),
        weights={}, last_weights_digest="", num_parameters=1, conditions={"device": "cpu", "ranks": 1},
    )  # fmt: skip
    assert (found["images_in_no_split"], found["images_without_patient"]) == (1, 1)
    assert found["bits"] == 16
    assert found["split_counts"]["train"] == {
        "images": 3,
        "patients": 2,
        "classes": {"a": {"images": 2, "patients": 1}, "b": {"images": 1, "patients": 1}},
    }
