"""What --batch-size auto came to, as every later attempt and status read it."""

import pytest

from mri_hpc.base.errors import UserError
from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.settings import TrainingSettings
from mri_hpc.rundir.settled_batch import SettledBatch, publish_settled, read_settled, settled

FOUND = SettledBatch(batch_size=256, lr=2e-3, head_lr=None, images_a_rank=128, ranks=2, device="cpu")
AUTO = TrainingSettings(batch_size="auto")


def test_the_first_to_publish_decides(tmp_path):
    run = RunDir(tmp_path)
    assert read_settled(run) is None
    publish_settled(run, FOUND)
    publish_settled(run, SettledBatch(**{**vars(FOUND), "batch_size": 2}))
    assert read_settled(run) == FOUND


def test_auto_is_a_number_once_it_is_known_and_a_typed_number_stays(tmp_path):
    run = RunDir(tmp_path)
    assert settled(run, AUTO) == AUTO
    publish_settled(run, FOUND)
    assert (settled(run, AUTO).batch_size, settled(run, AUTO).lr) == (256, 2e-3)
    assert settled(run, TrainingSettings()) == TrainingSettings()


def test_auto_and_accumulate_exclude_each_other():
    with pytest.raises(UserError, match=r"--accumulate is for steps that do not fit .* give one of them"):
        TrainingSettings(batch_size="auto", accumulate=2)
