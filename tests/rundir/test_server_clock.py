"""The clock of the file server is that of a run's ledger, whatever the writers' own say."""

import os
import time

import pytest

from mri_hpc.rundir import server_clock


@pytest.mark.parametrize("off_s", [-300.0, 120.0])
def test_a_machine_whose_clock_is_off_finds_by_how_much(tmp_path, monkeypatch, off_s):
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + off_s)
    assert server_clock.ahead_s(tmp_path) == pytest.approx(off_s, abs=1)
    assert server_clock.now(tmp_path) == pytest.approx(real(), abs=1)


def test_clocks_that_differ_by_less_than_servers_can_tell_are_one(tmp_path, monkeypatch):
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + 1.5)
    assert server_clock.ahead_s(tmp_path) == 0


def test_a_server_that_answers_late_says_no_more_than_that(tmp_path, monkeypatch):
    real, utime, late_s = time.time, os.utime, [0.0]
    monkeypatch.setattr(time, "time", lambda: real() + late_s[0])

    def slowly(path):
        utime(path)
        late_s[0] = 10.0

    monkeypatch.setattr(os, "utime", slowly)
    assert server_clock.ahead_s(tmp_path) == 0


def test_where_nothing_may_be_written_the_clock_is_the_machines_own(tmp_path):
    assert server_clock.ahead_s(tmp_path / "none") == 0
    assert server_clock.measure(tmp_path / "none") is None
    assert server_clock.measure(tmp_path) == 0
