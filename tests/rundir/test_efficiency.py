"""What attempts used in, what to ask for instead out."""

import pytest

from mri_hpc.rundir.efficiency import advise, summed, words
from mri_hpc.rundir.layout import Attempt
from mri_hpc.rundir.ledger import Event, Kind
from mri_hpc.rundir.use import Use, uses_of

GB = 2**30
FULL = {
    "attempt": "1.0", "seconds": 100.0, "cores_used": 7.6, "cores": 8, "memory_bytes": 9 * GB,
    "memory_limit_bytes": 11 * GB, "has_gpu": True, "gpu_busy": 0.9, "gpu_bytes": 30 * GB,
    "gpu_limit_bytes": 80 * GB, "is_of_job": True,
}  # fmt: skip


def use(**others):
    return Use(**{**FULL, **others})


def event(kind, attempt="1.0", **values):
    return Event(time=0.0, attempt=attempt, kind=kind, values=values)


def test_who_uses_what_was_asked_for_hears_nothing():
    assert advise([use()]) == ()


def test_memory_that_was_not_needed_is_named_with_what_would_do():
    assert advise([use(memory_bytes=round(9.1 * GB), memory_limit_bytes=32 * GB)]) == (
        "--mem-gb 12 would do: the peak was 9.1 of 32.0",
    )


def test_memory_that_was_nearly_too_little_is_named_as_well():
    assert advise([use(memory_bytes=10 * GB)]) == (
        "10.0 of 11.0 GB of memory were used: --mem-gb 13 is safer",
    )


def test_cores_that_were_idle_are_named():
    assert advise([use(cores_used=1.8)]) == ("1.8 of 8 cores were used: --cpus-per-task 2 would do",)


def test_a_gpu_that_did_nothing_comes_first_since_sites_cancel_its_job():
    advice = advise([use(gpu_busy=0.0, cores_used=1.8, memory_limit_bytes=32 * GB)])
    assert [sentence.split()[0] for sentence in advice] == ["the", "--mem-gb", "1.8"]
    assert advice[0] == (
        "the GPU was busy 0 % of the time: many sites cancel such jobs; a new run with --probe tells whether "
        "it waits for images, or for other ranks"
    )


def test_a_gpu_that_waits_for_its_cores_is_given_more_of_them():
    assert advise([use(gpu_busy=0.2, cores=1, cores_used=0.98)]) == (
        "the GPU was busy 20 % of the time; all 1 cores of a rank were: --cpus-per-task 2",
    )


def test_what_no_job_asked_for_cannot_be_asked_for_otherwise():
    assert advise([use(cores_used=0.1, is_of_job=False)]) == ()
    assert advise([]) == ()


def test_attempts_are_joined_by_their_seconds_and_the_most_memory():
    whole = summed([
        use(seconds=100.0, cores_used=1.0, memory_bytes=9 * GB, gpu_busy=0.2),
        use(attempt="1.1", seconds=300.0, cores_used=2.0, memory_bytes=8 * GB, gpu_busy=None),
    ])  # fmt: skip
    assert (whole.attempt, whole.seconds, whole.cores_used) == ("1.1", 400.0, 1.75)
    assert (whole.memory_bytes, whole.gpu_busy) == (9 * GB, 0.2)
    assert summed([]) is None


def test_a_use_is_said_with_what_a_site_looks_at_first():
    assert words(use()) == [
        "GPU busy 90 % of the time", "30.0 of 80.0 GB of its memory", "7.6 of 8 cores a rank",
        "9.0 of 11.0 GB of memory a node",
    ]  # fmt: skip
    assert words(Use(attempt="1.0")) == []


def test_the_last_measure_of_an_attempt_counts_and_the_accounting_before_it():
    events = [
        event(Kind.USED, seconds=10.0, cores_used=1.0, gpu_busy=0.5),
        event(Kind.ACCOUNTED, seconds=40.0, cores_used=1.5, memory_bytes=GB),
        event(Kind.USED, "1.10", seconds=5.0),
        event(Kind.USED, "1.9", seconds=5.0),
        event(Kind.USED, seconds=20.0, cores_used=2.0, gpu_busy=0.6),
    ]
    first, *others = uses_of(events)
    assert first == Use(attempt="1.0", seconds=40.0, cores_used=1.5, memory_bytes=GB, gpu_busy=0.6)
    assert [one.attempt for one in others] == ["1.9", "1.10"]
    assert Attempt.parse(others[0].attempt) < Attempt.parse(others[1].attempt)


def test_a_mapped_store_which_the_accounting_counts_as_memory_is_no_reason_to_ask_for_more():
    measured = event(Kind.USED, seconds=20.0, memory_bytes=9 * GB, memory_limit_bytes=11 * GB, is_of_job=True)
    accounted = event(Kind.ACCOUNTED, seconds=40.0, memory_bytes=40 * GB)
    [found] = uses_of([measured, accounted])
    assert (found.memory_bytes, found.seconds) == (9 * GB, 40.0)
    assert advise([found]) == ()


@pytest.mark.parametrize("kind", [Kind.SAVED, Kind.STARTED])
def test_a_run_of_before_has_no_use_and_hears_nothing(kind):
    assert uses_of([event(kind, step=1)]) == ()
