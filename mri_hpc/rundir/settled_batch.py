"""The batch size settled for ``auto``: found once, by the first ranks, and the same for all later ones."""

import json
from dataclasses import asdict, dataclass, replace

from mri_hpc.base.atomic import publish_new_bytes
from mri_hpc.base.documents import convert, parse, with_format, without_format
from mri_hpc.base.errors import UserError
from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.settings import TrainingSettings

FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class SettledBatch:
    """A batch size, and the learning rates that go with it."""

    batch_size: int
    """Images a step, over all ranks together."""
    lr: float
    """Highest learning rate at that batch size."""
    head_lr: float | None
    """Learning rate of the head; None where it is that of the rest."""
    images_a_rank: int
    """Images of a step that each of the ranks took which measured."""
    ranks: int
    """Number of ranks that measured."""
    device: str
    """Model of their device."""

    def __post_init__(self) -> None:
        for name in ("batch_size", "lr", "images_a_rank", "ranks"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)!r}")


def publish_settled(run: RunDir, settled: SettledBatch) -> None:
    """Publish the settled batch size, unless another attempt was first."""
    document = json.dumps(with_format(FORMAT, asdict(settled)), indent=1)
    publish_new_bytes(run.batch_size, document.encode() + b"\n")


def read_settled(run: RunDir) -> SettledBatch | None:
    """Read the settled batch size; None before. UserError where the file is not what a run wrote."""
    try:
        values = parse(run.batch_size.read_bytes())
        return convert(without_format(values, of=run.batch_size, reads=FORMAT), SettledBatch)
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise UserError(
            f"{run.batch_size} is not what a run wrote ({error}): restore it from a backup"
        ) from None


def settled(run: RunDir, settings: TrainingSettings) -> TrainingSettings:
    """Return the settings with the settled batch size and rates in place of auto, where these are known."""
    found = read_settled(run) if settings.batch_size == "auto" else None
    return with_batch(settings, found, ranks=found.ranks) if found else settings


def with_batch(settings: TrainingSettings, found: SettledBatch, *, ranks: int) -> TrainingSettings:
    """Return the settings with a batch size in place of auto, and the rates that go with it.

    Fewer ranks than those that measured cut their larger shares into parts of the size that fitted.
    """
    parts = -(-found.batch_size // (found.images_a_rank * ranks))
    return replace(
        settings, batch_size=found.batch_size, lr=found.lr, head_lr=found.head_lr, accumulate=parts
    )
