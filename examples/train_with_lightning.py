"""Train with Lightning's Trainer, where it is installed (pip install lightning).

`Loader` gives whole batches in the order of `mri-hpc train`: the same for the same seed, on any machine.
Run it: python examples/train_with_lightning.py data/store
"""

import sys
from collections.abc import Iterator
from typing import Any

import lightning
import torch
from torch import nn
from torch.utils.data import IterableDataset

from mri_hpc import Dataset, Loader

path = sys.argv[1] if len(sys.argv) > 1 else "data/store"
epochs = int(sys.argv[2]) if len(sys.argv) > 2 else 3


class Epochs(IterableDataset[tuple[torch.Tensor, torch.Tensor]]):
    """One epoch after the other of a loader: batches, as Lightning wants them."""

    def __init__(self, loader: Loader) -> None:
        self._loader, self._epoch = loader, 0

    def __len__(self) -> int:
        return len(self._loader)

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for batch in self._loader.epoch(self._epoch):
            yield batch.images[:, None].float() / torch.iinfo(batch.images.dtype).max, batch.labels
        self._epoch += 1


class Classifier(lightning.LightningModule):
    """A small network over grey images."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.network = nn.Sequential(
            nn.Conv2d(1, 16, 3, stride=2, padding=1), nn.ReLU(),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, num_classes),
        )  # fmt: skip

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], _number: int) -> torch.Tensor:
        """The loss of one batch."""
        images, labels = batch
        loss = nn.functional.cross_entropy(self.network(images), labels)
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> Any:
        """AdamW over all weights."""
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


dataset = Dataset(path, "train")
batches = torch.utils.data.DataLoader(Epochs(Loader(dataset, batch_size=32)), batch_size=None)
trainer = lightning.Trainer(max_epochs=epochs, accelerator="cpu", logger=False, enable_checkpointing=False)
trainer.fit(Classifier(len(dataset.classes)), batches)
print(f"loss {float(trainer.callback_metrics['loss']):.3f}")
