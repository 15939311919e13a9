#!/usr/bin/env bash
# The guess: torchmetrics gives the AUROC of the scores that it was handed, however they were cut into batches. It says that
#   scores outside of 0 to 1 are taken for logits, and a sigmoid is put upon them; AUROC asks for their order alone.
# What happens: each batch is looked at by itself. One whose logits happen to lie between 0 and 1 is kept as it is, the
#   others go through the sigmoid, and both are ranked together: a logit of 0.9 that was kept stands above one of 2, which
#   is 0.881 by then. The same 400 logits have an AUROC of 0.9813 in batches of 4 or more, 0.9786 in twos and 0.9624 one by
#   one; where logits are small, 0.7505 at once, 0.7347 in fours and 0.7002 one by one. Average precision changes alike.
#   Handed over as probabilities, all are the same. Nothing warns.
# Versions: torchmetrics 1.9.0, torch 2.14.1, numpy 2.4.6, CPython 3.11, Linux x86-64.
# Why it matters: volumes are validated one at a time, and a last batch is often short. The figure, and with it the epoch that
#   early stopping keeps, then depends on the size of a batch. Put the sigmoid on all scores before update().
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/python" -m pip install --quiet --disable-pip-version-check torchmetrics==1.9.0 torch==2.14.1 numpy==2.4.6
cd "$folder"

cat >measure.py <<'PYTHON'
import warnings

import torch
from torchmetrics.classification import BinaryAUROC, BinaryAveragePrecision

warnings.simplefilter("error")
FINDINGS = torch.arange(400) % 2
NOISE = torch.randn(400, generator=torch.Generator().manual_seed(0))


def measured(metric, scores: torch.Tensor, size: int) -> str:
    for of_batch, findings in zip(scores.split(size), FINDINGS.split(size), strict=True):
        metric.update(of_batch, findings)
    return f"{metric.compute():.4f}"


well_apart = 2.5 * (2 * FINDINGS - 1) + 1.8 * NOISE
small = 0.5 * FINDINGS + 0.5 * NOISE + 0.2
for name, scores in (("logits well apart", well_apart), ("small logits", small)):
    print(name)
    for size in (400, 64, 4, 2, 1):
        auroc, precision = measured(BinaryAUROC(), scores, size), measured(BinaryAveragePrecision(), scores, size)
        print(f"  {size:3} a batch: AUROC {auroc}, as probabilities {measured(BinaryAUROC(), scores.sigmoid(), size)};"
              f" average precision {precision}")
PYTHON

expected="logits well apart
  400 a batch: AUROC 0.9813, as probabilities 0.9813; average precision 0.9824
   64 a batch: AUROC 0.9813, as probabilities 0.9813; average precision 0.9824
    4 a batch: AUROC 0.9813, as probabilities 0.9813; average precision 0.9824
    2 a batch: AUROC 0.9786, as probabilities 0.9813; average precision 0.9809
    1 a batch: AUROC 0.9624, as probabilities 0.9813; average precision 0.9620
small logits
  400 a batch: AUROC 0.7505, as probabilities 0.7505; average precision 0.7684
   64 a batch: AUROC 0.7505, as probabilities 0.7505; average precision 0.7684
    4 a batch: AUROC 0.7347, as probabilities 0.7505; average precision 0.7548
    2 a batch: AUROC 0.7156, as probabilities 0.7505; average precision 0.7233
    1 a batch: AUROC 0.7002, as probabilities 0.7505; average precision 0.7015"

found=$(venv/bin/python measure.py)
echo "$found"
if [ "$found" = "$expected" ]; then
    echo "as described above"
else
    echo "it has changed" >&2
    exit 1
fi
