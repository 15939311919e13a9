"""What must be true of a run after any interruptions, beside the uninterrupted one."""

from collections.abc import Iterable, Sequence

from mri_hpc.rundir.ledger import Kind
from mri_hpc.rundir.metrics_log import read_metrics
from mri_hpc.rundir.wall_clock import WallClock
from tests.harness.interruptions import Interruption
from tests.harness.local_run import LocalRun
from tests.harness.results import results_of

MOST_UNACCOUNTED = 0.02


def problems(whole: LocalRun, broken: LocalRun, done: Sequence[Interruption]) -> list[str]:
    """What is not as it should be, a line each."""
    return [
        *differences(whole, broken),
        *surprises(broken, done),
        *gaps(whole.clock()),
        *gaps(broken.clock()),
    ]


def differences(whole: LocalRun, broken: LocalRun) -> Iterable[str]:
    """What the interrupted run has otherwise than the uninterrupted one."""
    wanted, found = results_of(whole.run), results_of(broken.run)
    yield from (f"{name} differ" for name in wanted if wanted[name] != found[name])
    steps = [line["step"] for line in read_metrics(broken.run) if "loss" in line]
    if steps != list(range(1, len(steps) + 1)):
        yield "metrics.jsonl does not hold each step once"


def surprises(broken: LocalRun, done: Sequence[Interruption]) -> Iterable[str]:
    """Attempts that ended by something else than what was done to them."""
    wanted = {str(one.attempt): one.way.cause for one in done}
    for attempt in broken.run.all_attempts():
        causes = [event.values["cause"] for event in broken.events(attempt, Kind.DECIDED)]
        cause = wanted.get(str(attempt), "finished")
        if causes != [cause]:
            yield f"attempt {attempt} ended by {causes}, not {cause}"


def gaps(clock: WallClock) -> Iterable[str]:
    """Where the parts of the wall clock do not add up."""
    if abs(clock.unaccounted) > MOST_UNACCOUNTED * clock.total:
        yield f"{clock.unaccounted:.1f} s of {clock.total:.1f} s are in no part of the wall clock"
