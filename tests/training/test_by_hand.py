"""Ranks that were started by hand."""

import pytest

from mri_hpc.base.errors import UserError
from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.place import Place
from mri_hpc.train import TrainOptions, _attempt


def test_ranks_without_torchrun_are_asked_for_a_submission_and_not_left_waiting(tmp_path, monkeypatch):
    monkeypatch.delenv("TORCHELASTIC_USE_AGENT_STORE", raising=False)
    run = RunDir(tmp_path)
    with pytest.raises(
        UserError, match=r"2 ranks that neither launch nor torchrun has started need --submission"
    ):
        _attempt(TrainOptions(run=run.path), run, Place(world_size=2))
    assert str(_attempt(TrainOptions(run=run.path, submission=3), run, Place(world_size=2))) == "3.0"
