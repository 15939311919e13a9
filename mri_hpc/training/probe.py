"""``--probe``: before the first step, steps are timed on all ranks and on one, with learners to throw away.

The run then starts from its own seeds, as if there had been none: what is left of it is RUN/probe.json.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from itertools import count, repeat

import torch

from mri_hpc.base.memory import held_bytes, machine_bytes
from mri_hpc.loading.batches import READ_AHEAD, Batch, Batches
from mri_hpc.rundir.allotment import Allotment
from mri_hpc.rundir.decisions import Cause
from mri_hpc.rundir.layout import Attempt, RunDir
from mri_hpc.rundir.ledger import Kind, read_events, record
from mri_hpc.rundir.probe import Figures, Probe, publish_probe, read_probe
from mri_hpc.rundir.progress import Progress
from mri_hpc.rundir.settings import TrainingSettings, load_job
from mri_hpc.rundir.worth import Worth, judge
from mri_hpc.training.agreed_stop import AgreedStop
from mri_hpc.training.arithmetic import free_memory
from mri_hpc.training.learner import Learner
from mri_hpc.training.ranks import Ranks
from mri_hpc.training.step_loss import StepLoss

PHASE = "probe"
STRETCH_S = 3.0
"""Seconds for which each kind of step is timed, about."""
FEWEST, MOST = 3, 50
"""Steps that are timed of each kind."""
SETTLING = 2
"""Steps before those: the first ones look for algorithms and make the optimizer's state."""
KEPT_FRACTION = 0.5
"""Of the memory that is left: images that need no more are read once, and stay there."""
MOST_ALONE_S = 60.0
"""One rank alone is timed where that takes no longer, if it needs all ranks' time for a step."""

Make = Callable[[TrainingSettings, Ranks], tuple[Learner, Batches]]
"""Makes a learner at step 0, and the batches that these ranks train it on."""

clock = time.monotonic
"""The clock by which steps are timed."""
log = logging.getLogger(__name__)


def probe(
    run: RunDir,
    attempt: Attempt,
    settings: TrainingSettings,
    ranks: Ranks,
    make: Make,
    *,
    stop: AgreedStop,
    allotment: Allotment,
) -> None:
    """Time steps and publish what they say of the run; after an agreed stop, nothing.

    Once for a run: not where it is there already, or where an attempt before did not come to its end. An
    attempt that is stopped before its first checkpoint comes no further, and a run has few of these.
    """
    if not ranks.from_rank(_is_due(run, attempt) if ranks.is_first else None):
        return
    if ranks.is_first:
        record(run, attempt, Kind.PROBING)
    with _untouched(ranks.device):
        figures = _measure(run, settings, ranks, make, stop, allotment)
    if figures and ranks.is_first:
        worth, sentence = judge(figures)
        _publish(run, attempt, worth, sentence, figures)


def _is_due(run: RunDir, attempt: Attempt) -> bool:
    """Tell whether to probe; of a probe that did not come to its end, publish that."""
    if read_probe(run):
        return False
    events = read_events(run)
    probing = [event.attempt for event in events if event.kind == Kind.PROBING]
    if not probing:
        return True
    has_crashed = any(
        event.kind == Kind.DECIDED
        and event.attempt == probing[-1]
        and event.values.get("cause") == Cause.CRASH
        for event in events
    )
    end = "crashed" if has_crashed else "was interrupted"
    why = ", often for want of memory (--mem-gb asks for more)" if has_crashed else ""
    sentence = f"Attempt {probing[-1]} {end} while steps were timed{why}: they are not timed again."
    _publish(run, attempt, Worth.UNKNOWN, sentence)
    return False


def _publish(
    run: RunDir, attempt: Attempt, worth: Worth, sentence: str, figures: Figures | None = None
) -> None:
    found = Probe(
        time=round(time.time(), 3),
        attempt=str(attempt),
        verdict=worth.value,
        sentence=sentence,
        figures=figures,
    )
    publish_probe(run, found)
    log.info("probe: %s %s", sentence, figures)


@contextmanager
def _untouched(device: torch.device) -> Iterator[None]:
    """Leave random states, and the memory of the GPU, as they were."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        yield
    free_memory(device)


def _measure(
    run: RunDir,
    settings: TrainingSettings,
    ranks: Ranks,
    make: Make,
    stop: AgreedStop,
    allotment: Allotment,
) -> Figures | None:
    """Time all ranks, and then one of them alone if that is soon done; None after an agreed stop."""
    watch = _Stopwatch(ranks, stop)
    free_memory(ranks.device)
    figures = _together(settings, ranks, make, watch, allotment, num_nodes=_nodes_of(run, ranks))
    if not ranks.is_alone:
        if most_alone_s(figures) > MOST_ALONE_S:
            figures = replace(figures, alone_takes_long=True)
        else:
            alone_s = _alone(settings, ranks, make, watch, is_kept=figures.images_stay)
            figures = replace(figures, alone_s=alone_s)
    return None if stop.agreed else figures


def most_alone_s(figures: Figures) -> float:
    """Return the seconds that timing one rank alone takes, if it does the work of all one after another."""
    step_s = figures.again_s * figures.ranks
    steps = READ_AHEAD + 1 + _number_in_a_stretch(step_s)
    return steps * step_s * (2 if figures.images_stay else 1)


class _Stopwatch:
    """Times what all ranks do together, as often as the first says; less once they agree to stop."""

    def __init__(self, ranks: Ranks, stop: AgreedStop) -> None:
        self._ranks, self._stop = ranks, stop

    def seconds(self, do: Callable[[], object], *, untimed: int = SETTLING) -> float:
        """Return the mean time that doing it takes, the same on all ranks."""
        self._time(do, untimed)
        one_s = self._time(do, 1)
        number = self._ranks.from_rank(_number_in_a_stretch(one_s))
        return self._ranks.from_rank(self._time(do, number))

    def _time(self, do: Callable[[], object], number: int) -> float:
        self._wait_for_device()
        began_s = clock()
        for _time in self._stop.watch(_times(number), phase=PHASE):
            do()
        self._wait_for_device()
        return (clock() - began_s) / number

    def _wait_for_device(self) -> None:
        if self._ranks.device.type == "cuda":
            torch.cuda.synchronize(self._ranks.device)


def _number_in_a_stretch(step_s: float) -> int:
    return min(MOST, max(FEWEST, round(STRETCH_S / max(step_s, 1e-6))))


def _times(number: int) -> Generator[None, None, None]:
    yield from repeat(None, number)


def _together(
    settings: TrainingSettings,
    ranks: Ranks,
    make: Make,
    watch: _Stopwatch,
    allotment: Allotment,
    *,
    num_nodes: int,
) -> Figures:
    """Measure all ranks together, as the run is going to train."""
    on_gpu = ranks.device.type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(ranks.device)
    learner, batches = make(settings, ranks)
    step = _step(learner, ranks.device)
    with closing(_training(batches)) as items:
        held = next(items)
    compute_s = watch.seconds(lambda: step(held))
    used_bytes = _bytes_on_a_node(ranks)
    limit_bytes = min(machine_bytes(), allotment.memory_bytes or machine_bytes())
    all_bytes = held.images[:1].nbytes * len(held.step_keys) * batches.steps_per_epoch
    is_kept = ranks.from_rank(all_bytes <= KEPT_FRACTION * (limit_bytes - used_bytes))
    first_s, again_s = _reading(step, batches, watch, is_kept=is_kept)
    validation_s = _validation_s(learner, batches, watch)
    gpu_bytes, gpu_limit_bytes = max(ranks.from_all(_gpu_memory(ranks.device)))
    return Figures(
        ranks=ranks.world_size,
        # On one machine, of which all GPUs are asked for, a node more is no rank more.
        nodes=1 if on_gpu and ranks.num_hosts == 1 else min(num_nodes, ranks.world_size),
        threads=torch.get_num_threads(),
        has_gpu=on_gpu,
        steps_per_epoch=batches.steps_per_epoch,
        epochs=settings.epochs,
        compute_s=compute_s,
        first_s=first_s,
        again_s=again_s,
        images_stay=is_kept,
        validation_s=validation_s,
        memory_bytes=used_bytes,
        memory_limit_bytes=limit_bytes,
        is_of_job=allotment.is_of_job,
        gpu_bytes=gpu_bytes or None,
        gpu_limit_bytes=gpu_limit_bytes or None,
    )


def _alone(
    settings: TrainingSettings, ranks: Ranks, make: Make, watch: _Stopwatch, *, is_kept: bool
) -> float | None:
    """Time steps of the first rank alone, while the others wait; None where no step fits into its GPU.

    The step is the same, so its parts grow. Where the larger ones do not fit, there are more of them; on a
    processor from the start, since there a lack of memory ends the job.
    """
    as_large_as_now = settings.accumulate * ranks.world_size
    tries = [settings.accumulate] if ranks.device.type == "cuda" else []
    for parts in (*tries, as_large_as_now):
        # Two learners at once would take memory that neither of them does.
        step, batches = _Step(), None
        free_memory(ranks.device)
        if ranks.is_first:
            step, batches = _made_alone(replace(settings, accumulate=parts), ranks, make)
        # Of more images than stay in memory, others than those that all ranks have just read.
        _first_s, seconds = _reading(step, batches, watch, is_kept=is_kept, epoch=0 if is_kept else 1)
        if ranks.from_rank(not step.is_too_large):
            return seconds
    return None


def _made_alone(settings: TrainingSettings, ranks: Ranks, make: Make) -> tuple["_Step", Batches | None]:
    """Make the step of this rank alone, and its batches; one that is too large where no learner fits."""
    alone = replace(ranks, place=replace(ranks.place, world_size=1))
    try:
        learner, batches = make(settings, alone)
    except torch.OutOfMemoryError:
        return _Step(is_too_large=True), None
    return _Step(_step(learner, ranks.device)), batches


class _Step:
    """A step that is not done any more once it was too large for the memory of the GPU."""

    def __init__(
        self, do: Callable[[Batch], object] = lambda _batch: None, *, is_too_large: bool = False
    ) -> None:
        self._do = do
        self.is_too_large = is_too_large

    def __call__(self, batch: Batch) -> None:
        if not self.is_too_large:
            try:
                self._do(batch)
            except torch.OutOfMemoryError:
                self.is_too_large = True


def _step(learner: Learner, device: torch.device) -> Callable[[Batch], None]:
    """Make what trains on a batch as the training loop does: on a GPU a loss is read a step later."""
    losses: deque[StepLoss] = deque()
    lag = 1 if device.type == "cuda" else 0

    def step(batch: Batch) -> None:
        loss = learner.train_step(batch, Progress())
        assert loss
        losses.append(loss)
        while len(losses) > lag:
            losses.popleft().value()

    return step


def _reading(
    step: Callable[[Batch], None],
    batches: Batches | None,
    watch: _Stopwatch,
    *,
    is_kept: bool,
    epoch: int = 0,
) -> tuple[float, float]:
    """Time steps with images that are read for the first time, and again where they stay in memory.

    batches: None on a rank that waits for the others.
    """

    def read() -> float:
        if batches is None:
            return watch.seconds(lambda: None, untimed=READ_AHEAD)
        with closing(_training(batches, epoch)) as items:
            return watch.seconds(lambda: step(next(items)), untimed=READ_AHEAD)

    first_s = read()
    return first_s, read() if is_kept else first_s


def _training(batches: Batches, epoch: int = 0) -> Generator[Batch, None, None]:
    """Yield the batches of an epoch, and of those after it."""
    for number in count(epoch):
        yield from batches.training(Progress(epoch=number))


def _validation_s(learner: Learner, batches: Batches, watch: _Stopwatch) -> float:
    """Time a whole validation, by some of its batches."""

    def endless() -> Generator[Batch, None, None]:
        while True:
            yield from batches.of_split("validation")

    number = batches.steps_of("validation")
    if not number:
        return 0.0
    with closing(endless()) as items:
        return number * watch.seconds(lambda: learner.logits(next(items)))


def _nodes_of(run: RunDir, ranks: Ranks) -> int:
    """Return the nodes of this attempt."""
    job = load_job(run)
    return ranks.num_hosts if job.takes_any_number else job.node_range.most


def _bytes_on_a_node(ranks: Ranks) -> int:
    """Return the memory of all ranks of the node on which they have most."""
    of_ranks = ranks.from_all((ranks.place.host, held_bytes()))
    return max(sum(size for host, size in of_ranks if host == one) for one, _size in of_ranks)


def _gpu_memory(device: torch.device) -> tuple[int, int]:
    """Return the most that was taken of the GPU's memory, and all of it; zeros where there is none."""
    if device.type != "cuda":
        return 0, 0
    return torch.cuda.max_memory_reserved(device), torch.cuda.mem_get_info(device)[1]
