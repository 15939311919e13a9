"""Of runs of several recipes, what the first one saw is kept, and nothing else."""

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import mri_hpc.run
from mri_hpc.results.answers import answer_of_runs, calibration, judging
from mri_hpc.run import Run
from mri_hpc.rundir.layout import RunDir
from mri_hpc.training import prediction


@dataclass(frozen=True)
class Said:
    """An answer that says nothing."""

    rejected: tuple[Any, ...] = ()

    def calibrated(self, _calibration, _shares):
        return self


def test_pictures_are_kept_for_the_first_recipe_alone(tmp_path, monkeypatch):
    kept = []

    def judge(_images, _recipe, asked, *, keep_pictures, **_more):
        kept.append(keep_pictures)
        return [Said() for _ in asked]

    monkeypatch.setattr(mri_hpc.run, "open_run", RunDir)
    monkeypatch.setattr(mri_hpc.run, "_refuse_twice", lambda _runs: None)
    monkeypatch.setattr(mri_hpc.run, "_by_recipe", lambda _runs: [("one", [0, 2]), ("another", [1])])
    monkeypatch.setattr(mri_hpc.run, "_asked", lambda _run, _finished: None)
    monkeypatch.setattr(mri_hpc.run, "_whole", lambda _run, answer: answer)
    monkeypatch.setattr(prediction, "load_finished", lambda _run: SimpleNamespace(classes=("a", "b")))
    monkeypatch.setattr(calibration, "load_calibration", lambda _run: None)
    monkeypatch.setattr(judging, "judge", judge)
    monkeypatch.setattr(answer_of_runs, "join_answers", lambda _runs, answers: answers)
    scans = tmp_path / "scans"
    scans.mkdir()
    (scans / "1.png").touch()
    Run(tmp_path).predict(scans, also=[tmp_path / "b", tmp_path / "c"], keep_pictures=True)
    assert kept == [True, False]
