"""Gated attention over the slices of a patient, learnt on the features of a finished network.

Ilse, Tomczak and Welling, "Attention-based deep multiple instance learning", ICML 2018. What they weigh and
then classify is classified and then weighed here, which is the same where the classifier is linear: so a
slice is one weight and one logit a class, and a patient may have any number of slices. It begins as the mean
of the network's own logits, since the network has seen the training patients: from random weights, what is
learnt on their features is of little use for others. Measured: docs/measurements.md.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from mri_hpc.loading.order import seed_of

ATTENTION_STREAM = 3
"""Sets the seed of the gates apart from those of weights and steps."""
HIDDEN = 128
STEPS = 100
LEARNING_RATE = 1e-4
WEIGHT_DECAY = 0.01
MOST_PATIENTS, MOST_SLICES = 1024, 64
"""Patients that it learns from, and slices of each: so that its memory and time have a bound."""
SLICES_AT_ONCE = 4096
LEAST_DEVIATION = 0.1
"""Of a feature, as a fraction of that of all: none counts as smaller."""


class GatedAttention(nn.Module):
    """Says of each slice how much it counts for its patient, and what it says of the patient's class."""

    mean: torch.Tensor
    deviation: torch.Tensor

    def __init__(self, num_features: int, num_classes: int) -> None:
        """Begin with equal weights, and with what the network says."""
        super().__init__()
        self.register_buffer("mean", torch.zeros(num_features))
        self.register_buffer("deviation", torch.ones(num_features))
        self.content = nn.Linear(num_features, HIDDEN)
        self.gate = nn.Linear(num_features, HIDDEN)
        self.score = nn.Linear(HIDDEN, 1, bias=False)
        self.change = nn.Linear(num_features, num_classes)
        for part in (self.score, self.change):
            nn.init.zeros_(part.weight)
        nn.init.zeros_(self.change.bias)

    def forward(self, features: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        """Return the logarithm of each slice's weight, then logits of its patient: (n, 1 + classes).

        features: (n, d), logits: (n, classes), of the network.
        """
        seen = (features - self.mean) / self.deviation
        gated = torch.tanh(self.content(seen)) * torch.sigmoid(self.gate(seen))
        return torch.cat([self.score(gated), logits + self.change(seen)], 1)


@dataclass(frozen=True, kw_only=True, eq=False)
class Bags:
    """Training slices, and whose they are."""

    features: torch.Tensor
    """float32, (n, d)."""
    logits: torch.Tensor
    """float32, (n, classes), of the network."""
    slices: torch.Tensor
    """Positions of the slices of each patient, some twice where others have more: int64, (p, most)."""
    is_slice: torch.Tensor
    """False where one stands for nothing: bool, (p, most)."""
    labels: torch.Tensor
    """int64, (p,)."""


def chosen_slices(patient: np.ndarray) -> np.ndarray:
    """Return positions of slices to learn from, ascending: int64, (n,).

    The first by key, which is a hash: of MOST_PATIENTS patients, MOST_SLICES of each. patient: int, by key,
    below 0 none.
    """
    named = np.flatnonzero(patient >= 0)
    _names, first, number = np.unique(patient[named], return_index=True, return_inverse=True)
    rank_of_patient = np.argsort(np.argsort(first))[number]
    order = np.argsort(number, kind="stable")
    starts = np.append(0, np.flatnonzero(np.diff(number[order])) + 1)
    place = np.empty(len(named), np.int64)
    place[order] = np.arange(len(named)) - np.repeat(starts, np.diff(np.append(starts, len(named))))
    return named[(rank_of_patient < MOST_PATIENTS) & (place < MOST_SLICES)]


def bags_of(features: np.ndarray, logits: np.ndarray, patient: np.ndarray, label: np.ndarray) -> Bags:
    """Gather slices by patient, whose class is that of most of them, of equals the first.

    features: float32, (n, d), logits: float32, (n, classes), patient and label: int, (n,).
    """
    names, number, counts = np.unique(patient, return_inverse=True, return_counts=True)
    votes = np.zeros((len(names), logits.shape[1]), np.int64)
    np.add.at(votes, (number, label), 1)
    most = int(counts.max(axis=0))
    slices = np.zeros((len(names), most), np.int64)
    is_slice = np.arange(most) < counts[:, None]
    slices[is_slice] = np.argsort(number, kind="stable")
    return Bags(
        features=torch.from_numpy(features),
        logits=torch.from_numpy(logits),
        slices=torch.from_numpy(slices),
        is_slice=torch.from_numpy(is_slice),
        labels=torch.from_numpy(votes.argmax(1)),
    )


def begin(bags: Bags, seed: int) -> GatedAttention:
    """Make the attention as it is before its first step, on the processor."""
    torch.manual_seed(seed_of(seed, ATTENTION_STREAM))
    attention = GatedAttention(bags.features.shape[1], bags.logits.shape[1])
    attention.mean.copy_(bags.features.mean(0))
    deviation = bags.features.std(0, correction=0)
    # Of a feature that hardly moves in training patients, others must not make one that outweighs the rest.
    least = LEAST_DEVIATION * deviation.square().mean().sqrt().clamp_min(LEAST_DEVIATION)
    attention.deviation.copy_(deviation.clamp_min(float(least)))
    return attention


def learn(attention: GatedAttention, bags: Bags, *, balanced: bool) -> Iterator[None]:
    """Yield after each step. balanced: patients of rare classes count more."""
    num_classes = bags.logits.shape[1]
    optimizer = torch.optim.AdamW(attention.parameters(), lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY)
    counts = torch.bincount(bags.labels, minlength=num_classes)
    of_class = 1 / counts.clamp_min(1) if balanced else torch.ones(num_classes)
    weights = of_class[bags.labels] / of_class[bags.labels].sum()
    for _step in range(STEPS):
        optimizer.zero_grad(set_to_none=True)
        for patients in _parts(bags):
            logits = _of_patients(attention, bags, patients)
            losses = cross_entropy(logits, bags.labels[patients], reduction="none")
            (losses * weights[patients]).sum().backward()
        optimizer.step()
        yield


def _parts(bags: Bags) -> Iterator[slice]:
    """Cut patients into parts that fit into memory together."""
    num, most = bags.slices.shape
    at_once = max(1, SLICES_AT_ONCE // most)
    for start in range(0, num, at_once):
        yield slice(start, start + at_once)


def _of_patients(attention: GatedAttention, bags: Bags, patients: slice) -> torch.Tensor:
    """Return logits of some patients: (p, classes)."""
    slices, is_slice = bags.slices[patients], bags.is_slice[patients]
    flat = slices.flatten()
    found = attention(bags.features[flat], bags.logits[flat]).unflatten(0, slices.shape)
    weights = found[..., 0].masked_fill(~is_slice, -torch.inf).softmax(1)
    return (weights[..., None] * found[..., 1:]).sum(1)
