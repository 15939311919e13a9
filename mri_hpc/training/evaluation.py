"""Answers of the network about a whole split, over all ranks, in the order of keys."""

from dataclasses import dataclass

import numpy as np
import torch

from mri_hpc.loading.batches import Batches
from mri_hpc.training.agreed_stop import AgreedStop
from mri_hpc.training.attention import GatedAttention
from mri_hpc.training.learner import Learner
from mri_hpc.training.ranks import Ranks


@dataclass(frozen=True, kw_only=True)
class Answers:
    """Answers of the network about the images of a split, by key."""

    keys: np.ndarray
    """uint64, (n,)."""
    labels: np.ndarray
    """int64, (n,)."""
    losses: np.ndarray
    """Weighted by class: float32, (n,)."""
    weights: np.ndarray
    """Those weights: float32, (n,)."""
    logits: np.ndarray
    """float32, (n, classes)."""
    attention: np.ndarray | None = None
    """float32, (n, 1 + classes), as GatedAttention gives it; None where it was not asked."""

    @property
    def mean_loss(self) -> float:
        """Weighted mean; summed in float64 in the order of keys, so that ranks do not matter for its bits."""
        return float(self.losses.sum(dtype=np.float64) / self.weights.sum(dtype=np.float64))

    @property
    def balanced_accuracy(self) -> float:
        """Mean, over the classes that occur, of the fraction of their images that is recognised."""
        num_classes = self.logits.shape[1]
        total = np.bincount(self.labels, minlength=num_classes)
        right = np.bincount(self.labels[self.logits.argmax(1) == self.labels], minlength=num_classes)
        return float((right[total > 0] / total[total > 0]).mean())


def softmax(logits: np.ndarray) -> np.ndarray:
    """Compute probabilities: float64, (n, classes), adding up to 1. logits: float32, (n, classes)."""
    powers = np.exp(logits.astype(np.float64) - logits.max(1, keepdims=True))
    return powers / powers.sum(1, keepdims=True)


def answer(
    learner: Learner,
    batches: Batches,
    split: str,
    *,
    stop: AgreedStop,
    ranks: Ranks,
    is_exact: bool = False,
    attention: GatedAttention | None = None,
) -> Answers | None:
    """Ask the network about a split; all answers on rank 0, None elsewhere and after an agreed stop.

    attention: to be asked as well, then exactly.
    """
    keys: list[np.ndarray] = []
    answers: list[torch.Tensor] = []
    phase = "prediction" if is_exact else "validation"
    for batch in stop.watch(batches.of_split(split), phase=phase):
        if attention is None:
            logits = learner.logits(batch, is_exact=is_exact)
            also = logits[:, :0]
        else:
            logits, features = learner.logits_and_features(batch)
            sizes = list(map(len, batch.micro_batches))
            with torch.no_grad():
                also = torch.cat(list(map(attention, features.split(sizes), logits.split(sizes))))
        losses, weights = learner.losses(logits, batch)
        keys.append(batch.keys)
        answers.append(torch.cat([torch.stack([losses, weights, batch.labels.float()], 1), logits, also], 1))
    if stop.agreed:
        return None
    parts = ranks.gathered(_joined(keys, torch.cat(answers).cpu().numpy()))
    return _by_key(np.concatenate(parts), learner.num_classes) if parts else None


def _joined(keys: list[np.ndarray], answers: np.ndarray) -> np.ndarray:
    """Join keys and answers into one array of records."""
    rows = np.empty(len(answers), [("key", "<u8"), ("answer", "<f4", (answers.shape[1],))])
    rows["key"], rows["answer"] = np.concatenate(keys), answers
    return rows


def _by_key(rows: np.ndarray, num_classes: int) -> Answers:
    rows = rows[np.argsort(rows["key"])]
    losses, weights, labels = rows["answer"][:, :3].T
    logits, attention = np.split(rows["answer"][:, 3:], [num_classes], axis=1)
    return Answers(
        keys=rows["key"],
        labels=labels.astype(np.int64),
        losses=np.ascontiguousarray(losses),
        weights=np.ascontiguousarray(weights),
        logits=logits,
        attention=attention if attention.shape[1] else None,
    )
