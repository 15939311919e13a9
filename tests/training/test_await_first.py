"""While rank 0 looks at what it has written, its signs of life keep the others from counting as hung."""

from dataclasses import dataclass, field
from queue import Queue
from threading import Thread
from typing import Any

import torch

from mri_hpc.rundir.place import Place
from mri_hpc.training.ranks import Ranks


@dataclass(frozen=True, kw_only=True)
class OfThreads(Ranks):
    """Two ranks in one process."""

    told: Queue[Any] = field(default_factory=Queue)

    def from_rank(self, value: Any, rank: int = 0) -> Any:
        if self.is_first:
            self.told.put(value)
            return value
        return self.told.get(timeout=120)


def test_each_sign_of_life_of_rank_0_is_one_of_all_ranks_until_it_is_done():
    told: Queue[Any] = Queue()
    beats: list[list[int]] = [[], []]
    worked = []

    def work(beat):
        worked.append("began")
        for _ in range(3):
            beat()

    def rank(number):
        place = Place(rank=number, world_size=2)
        ranks = OfThreads(place=place, device=torch.device("cpu"), backend="none", num_hosts=1, told=told)
        ranks.await_first(work, beat=lambda: beats[number].append(1))

    threads = [Thread(target=rank, args=(number,), daemon=True) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=120)
    assert not any(thread.is_alive() for thread in threads)
    assert worked == ["began"]
    assert (len(beats[0]), len(beats[1])) == (4, 3)
