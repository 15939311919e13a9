"""Train with a plain PyTorch loop, and torch's own DataLoader, on the splits by patient of a store.

Nothing here survives a preemption: for that, python -m mri_hpc.launch.
Run it: python examples/train_with_pytorch.py data/store
"""

import sys

import torch
from torch import nn
from torch.utils.data import DataLoader

from mri_hpc import Dataset

path = sys.argv[1] if len(sys.argv) > 1 else "data/store"
epochs = int(sys.argv[2]) if len(sys.argv) > 2 else 3


def as_float(image: torch.Tensor) -> torch.Tensor:
    """Grey levels from 0 to 1: float32, (1, H, W). A function of the module, so that workers can have it."""
    return image.float() / torch.iinfo(image.dtype).max


def main() -> None:
    """Train a small network, and say after each epoch how it does on patients it has not seen."""
    torch.manual_seed(0)
    training = Dataset(path, "train", transform=as_float)
    validation = Dataset(path, "validation", transform=as_float)
    network = nn.Sequential(
        nn.Conv2d(1, 16, 3, stride=2, padding=1), nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, len(training.classes)),
    )  # fmt: skip
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    for epoch in range(epochs):
        network.train()
        for images, labels in DataLoader(training, batch_size=32, shuffle=True, num_workers=2):
            loss = nn.functional.cross_entropy(network(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        network.eval()
        right = 0
        with torch.inference_mode():
            for images, labels in DataLoader(validation, batch_size=64):
                right += int((network(images).argmax(1) == labels).sum())
        print(f"epoch {epoch + 1}: {right} of {len(validation)} validation slices right")


if __name__ == "__main__":
    main()
