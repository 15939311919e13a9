"""What two runs that are the same have in common, to the bit."""

import json
from typing import Any

from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.ledger import read_events
from mri_hpc.rundir.metrics_log import read_metrics

DIGESTS = ("weights_digest", "samples_digest", "model_digest")


def results_of(run: RunDir) -> dict[str, Any]:
    """Weights after the last step, all samples in order, the model, every metric, every answer."""
    provenance = json.loads(run.provenance.read_text())
    metrics = [
        {name: value for name, value in line.items() if name not in ("attempt", "seconds")}
        for line in read_metrics(run)
    ]
    digests = {name: provenance[name] for name in DIGESTS}
    digests |= {name: provenance[name] for name in ("attention_digest",) if name in provenance}
    written = [run.predictions, run.attention_answers, run.pooling]
    return {**digests, "metrics": metrics, **{one.name: one.read_text() for one in written if one.exists()}}


def events(run: RunDir, kind: str) -> list[dict[str, Any]]:
    """What the ledger says of every event of a kind."""
    return [dict(event.values) for event in read_events(run) if event.kind == kind]
