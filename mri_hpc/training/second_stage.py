"""The second stage of a run: gated attention on the features of its finished network.

It follows from the network and the training images alone, so that an attempt that is stopped in it leaves
nothing, and the next one begins it anew.
"""

from collections.abc import Generator, Iterator

import numpy as np
import torch

from mri_hpc.loading.batches import Batches
from mri_hpc.rundir.settings import TrainingSettings
from mri_hpc.storage.store import Snapshot
from mri_hpc.training.agreed_stop import AgreedStop
from mri_hpc.training.attention import STEPS, GatedAttention, bags_of, begin, chosen_slices, learn
from mri_hpc.training.learner import Learner
from mri_hpc.training.ranks import Ranks

PHASE = "attention"


def learn_attention(
    learner: Learner,
    batches: Batches,
    snapshot: Snapshot,
    train: np.ndarray,
    *,
    settings: TrainingSettings,
    ranks: Ranks,
    stop: AgreedStop,
) -> GatedAttention | None:
    """Learn it on rank 0, and give it to all; None after an agreed stop, and where no patient is named.

    learner: with the weights of the model. train: rows of the training images, ascending.
    """
    rows = train[chosen_slices(np.asarray(snapshot.patient)[train])]
    if not len(rows):
        return None
    seen = _look(learner, batches, rows, ranks=ranks, stop=stop)
    if stop.agreed:
        return None
    learnt, learning = GatedAttention(learner.num_features, learner.num_classes), None
    if seen is not None:
        logits, features = np.split(seen, [learner.num_classes], axis=1)
        bags = bags_of(features, logits, np.asarray(snapshot.patient)[rows], np.asarray(snapshot.label)[rows])
        learnt = begin(bags, settings.seed)
        learning = learn(learnt, bags, balanced=settings.class_weights == "balanced")
    for _step in stop.watch(_steps(learning), phase=PHASE):
        pass
    if stop.agreed:
        return None
    learnt.load_state_dict(ranks.from_rank(learnt.state_dict() if ranks.is_first else None))
    return learnt.to(ranks.device).eval()


def _steps(learning: Iterator[None] | None) -> Generator[None, None, None]:
    """Yield as often on every rank: the others wait for the first."""
    for _step in range(STEPS):
        if learning:
            next(learning)
        yield


def _look(
    learner: Learner, batches: Batches, rows: np.ndarray, *, ranks: Ranks, stop: AgreedStop
) -> np.ndarray | None:
    """Return logits and features of the rows on rank 0: float32, (n, classes + features); None elsewhere."""
    keys, found = [], []
    for batch in stop.watch(batches.of_rows(rows), phase=PHASE):
        keys.append(batch.keys)
        found.append(torch.cat(learner.logits_and_features(batch), 1).cpu().numpy())
    if stop.agreed:
        return None
    all_keys, parts = ranks.gathered(np.concatenate(keys)), ranks.gathered(np.concatenate(found))
    if all_keys is None or parts is None:
        return None
    return np.ascontiguousarray(np.concatenate(parts)[np.argsort(np.concatenate(all_keys))])
