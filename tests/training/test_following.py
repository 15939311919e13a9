"""Following a growing store: what is not sure ends nothing for good."""

import torch

from mri_hpc.base.stop_flag import StopFlag
from mri_hpc.rundir.place import Place
from mri_hpc.rundir.progress import Progress
from mri_hpc.rundir.settings import TrainingSettings
from mri_hpc.training.agreed_stop import AgreedStop
from mri_hpc.training.loop import train
from mri_hpc.training.ranks import Ranks

ALONE = Ranks(place=Place(), device=torch.device("cpu"), backend="none", num_hosts=1)


class Stops:
    """Following whose audit of newer images the ranks leave."""

    has_caught_up = False

    def __init__(self, stop):
        self._stop = stop

    def at_epoch_start(self, progress):
        self._stop.request("SIGTERM")
        assert self._stop.is_agreed("audit")
        return progress


class Idle:
    """A learner and its batches that are asked for no step."""

    def training(self, progress):
        yield from ()

    def is_finite(self):
        return True


class Saves:
    """A journal that remembers what was saved."""

    def __init__(self):
        self.saved, self.stopped = [], []

    def steps(self, steps):
        assert not list(steps)

    def stop_agreed(self, progress):
        self.stopped.append(progress)

    def save(self, progress, *, reason):
        self.saved.append((progress, reason))
        return True


def test_ranks_that_stop_amid_the_audit_of_newer_images_do_not_begin_the_last_epochs():
    stop, journal = AgreedStop(StopFlag(), ALONE), Saves()
    settings = TrainingSettings(store="", epochs=6, decay_epochs=2)
    due = Progress(epoch=4, step=9)
    assert due.with_decay(6, settings.patience, settings.whole_decay_epochs).decay_epoch == 4
    left = train(
        settings, due, Idle(), Idle(), ranks=ALONE, stop=stop, journal=journal, following=Stops(stop)
    )
    # With decay begun, the next attempt would look for newer images no more.
    assert left == due
    assert (journal.saved, journal.stopped) == ([(due, "stop")], [due])
