"""Jobs of a chain: told by their number, named by their folder, submitted again once Slurm answers."""

from pathlib import Path

import pytest

from mri_hpc.base.errors import UserError
from mri_hpc.chain import queue
from mri_hpc.chain.layout import ChainDir
from mri_hpc.chain.links import to_json
from mri_hpc.cluster.jobs import slurm_job
from mri_hpc.cluster.scheduler import Phase


@pytest.fixture
def chain(tmp_path, monkeypatch):
    """A chain whose newest job is 7; this process is in none."""
    chain = ChainDir(tmp_path / "raw")
    chain.make()
    chain.job(1).write_bytes(to_json(queue.LinkJob(job=slurm_job("7", ""), begins="")))
    monkeypatch.setattr(queue, "PAUSE_S", 0.0)
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    monkeypatch.delenv("SLURM_JOB_NAME", raising=False)
    return chain


class Away:
    """A Slurm that does not answer so many times, and then does."""

    def __init__(self, times, answer):
        self.times, self.answer, self.asked = times, answer, 0

    def __call__(self, *_words, **_more):
        self.asked += 1
        if self.asked <= self.times:
            raise UserError("Slurm does not answer")
        return self.answer


def test_chains_of_one_name_in_two_folders_do_not_block_each_other(tmp_path, monkeypatch):
    names = [queue.job_name(ChainDir(tmp_path / place / "raw")) for place in "ab"]
    assert names[0] != names[1] and all(name.startswith("mri-watch-raw-") for name in names)
    monkeypatch.chdir(tmp_path)
    assert queue.job_name(ChainDir(Path("a/raw"))) == names[0]


def test_a_job_of_the_chain_knows_itself_while_slurm_does_not_answer(chain, monkeypatch):
    never = Away(1000, None)
    monkeypatch.setattr(queue, "phase_of", never)
    assert not queue.is_own_job(chain), "no job at all"
    monkeypatch.setenv("SLURM_JOB_ID", "7")
    assert queue.is_own_job(chain)
    assert never.asked == 0


def test_one_that_is_not_the_newest_asks_slurm_again_and_is_none_behind_its_successor(chain, monkeypatch):
    monkeypatch.setenv("SLURM_JOB_ID", "6")
    monkeypatch.setenv("SLURM_JOB_NAME", "other")
    assert not queue.is_own_job(chain)
    monkeypatch.setenv("SLURM_JOB_NAME", queue.job_name(chain))
    for phase, is_own in ((Phase.PENDING, False), (Phase.GONE, True)):
        monkeypatch.setattr(queue, "phase_of", Away(3, phase))
        assert queue.is_own_job(chain) == is_own


def test_a_successor_is_submitted_once_slurm_answers_again_and_a_person_is_told_at_once(chain, monkeypatch):
    answers, submit = Away(3, True), Away(2, slurm_job("8", ""))
    monkeypatch.setattr(queue, "controller_answers", answers)
    monkeypatch.setattr(queue, "submit_small", submit)
    with pytest.raises(UserError, match="does not answer"):
        queue.submit_next(chain, ["raw"], in_s=0, options=())
    assert (answers.asked, chain.num_submitted()) == (1, 1)
    assert queue.submit_next(chain, ["raw"], in_s=0, options=(), tries=6).job.job_id == "8"
    assert (submit.asked, chain.num_submitted()) == (3, 2)
    monkeypatch.setattr(queue, "submit_small", Away(1000, None))
    with pytest.raises(UserError, match="does not answer"):
        queue.submit_next(chain, ["raw"], in_s=0, options=(), tries=queue.PATIENT_TRIES)
