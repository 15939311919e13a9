"""status of a folder of folds: one row a run."""

import json

from mri_hpc.rundir.folds import write_folds
from mri_hpc.status import main


def test_each_fold_is_a_row_also_one_that_was_never_launched(make_run, tmp_path, capsys):
    (tmp_path / "cv").mkdir()
    make_run("cv/fold-1")
    write_folds(tmp_path / "cv", (1, 2))
    assert main([str(tmp_path / "cv")]) == 0
    title, first, second = (line.split() for line in capsys.readouterr().out.splitlines())
    assert title[:2] == ["fold", "state"]
    assert first[:6] == ["fold-1", "finished", "6/30", "120", "0", "1"]
    assert second == ["fold-2", "not", "launched"]
    assert main([str(tmp_path / "cv"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["folds"]
    assert [one["state"] for one in found] == ["finished", "not_launched"]


def test_watching_all_folds_is_refused_with_the_run_to_name(tmp_path, capsys):
    write_folds(tmp_path / "cv", (1, 2))
    assert main([str(tmp_path / "cv"), "--watch"]) == 2
    assert "name one, such as" in capsys.readouterr().err
