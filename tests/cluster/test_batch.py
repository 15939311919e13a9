import shlex

import pytest

from mri_hpc.base.exit_status import AGAIN
from mri_hpc.cluster import batch
from mri_hpc.cluster.submission import _after_srun, _before_srun
from mri_hpc.rundir.layout import RunDir


@pytest.fixture
def called(monkeypatch):
    """What the two parts of the batch script are called with."""
    calls = []

    def note(part):
        def noted(run, submission, **more):
            calls.append((part, run, submission, more))
            return AGAIN

        return noted

    monkeypatch.setattr(batch, "before_ranks", note("before"))
    monkeypatch.setattr(batch, "after_ranks", note("after"))
    return calls


def words_of(lines):
    """The words of the line that calls batch.py, behind its name."""
    (line,) = (line for line in lines if "mri_hpc.cluster.batch" in line)
    words = shlex.split(line.replace("$ranks_status", "75").partition(" || ")[0])
    return words[words.index("mri_hpc.cluster.batch") + 1 :]


def test_what_the_batch_script_says_is_what_decides(tmp_path, called):
    run = RunDir(tmp_path / "--a run's folder")
    before = words_of(_before_srun(run, 3, "python", has_gpus=True))
    after = words_of(_after_srun(run, 3, "python", 90))
    assert batch.main(before) == batch.main(after) == AGAIN
    assert called == [
        ("before", run, 3, {}),
        ("after", run, 3, {"status": 75, "signal_ahead_s": 90}),
    ]
