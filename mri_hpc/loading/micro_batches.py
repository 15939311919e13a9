"""A step as a sequence of micro-batches, each dealt to a rank."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class MicroBatch:
    """Samples of a step that pass through the network together."""

    samples: slice
    """Their positions in the step."""
    rank: int
    """The rank that it is dealt to."""
    stream: tuple[int, ...]
    """Integers that, with the seed and the step, its random numbers are a function of."""

    def __len__(self) -> int:
        return self.samples.stop - self.samples.start


def deal(
    num_samples: int, *, world_size: int, accumulate: int = 1, micro_batches: int = 0
) -> list[MicroBatch]:
    """Cut a step into the micro-batches of all ranks, in the order of its samples.

    Each rank is dealt `accumulate` of them, which follow each other. Shares of ranks differ by at most one
    sample, and so do the micro-batches of one rank. Of 7 samples, 2 ranks and 2 micro-batches each:
    rank 0 is dealt 0–1 and 2–3, rank 1 is dealt 4–5 and 6.

    micro_batches: of the whole step, alike for any number of ranks, which are dealt as many, or one fewer.
    Of 7 samples and 3 of them: rank 0 is dealt 0–2 and 3–4, rank 1 is dealt 5–6.
    """
    if micro_batches:
        return [
            MicroBatch(samples=equal_part(num_samples, micro_batches, number), rank=rank, stream=(number,))
            for rank in range(world_size)
            for number in range(micro_batches)[equal_part(micro_batches, world_size, rank)]
        ]
    dealt = []
    for rank in range(world_size):
        own = equal_part(num_samples, world_size, rank)
        for number in range(accumulate):
            part = equal_part(own.stop - own.start, accumulate, number)
            samples = slice(own.start + part.start, own.start + part.stop)
            dealt.append(MicroBatch(samples=samples, rank=rank, stream=(rank, number)))
    return dealt


def equal_part(num_items: int, num_parts: int, part: int) -> slice:
    """Find the items of one part, where all parts differ by at most one item."""
    size, larger = divmod(num_items, num_parts)
    start = part * size + min(part, larger)
    return slice(start, start + size + (part < larger))
