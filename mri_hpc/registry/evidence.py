"""Requirements on a model: each as met, not met or not known, with its figures."""

from pathlib import Path

from mri_hpc.base.command import counted
from mri_hpc.base.errors import UserError
from mri_hpc.cohort.kept_twins import kept_twins, leak_text, leaking
from mri_hpc.cohort.splits import split_by
from mri_hpc.registry.gate import (
    MOST_LOG_LOSS,
    NO_GATE,
    Pair,
    better_by,
    gate_rows,
    log_loss_above,
    own_calibration,
)
from mri_hpc.registry.record import Evidence, Verdict
from mri_hpc.registry.retracted import Retracted
from mri_hpc.results.answers.pooling_choice import patient_model_of
from mri_hpc.results.answers.whole_predictions import read_whole
from mri_hpc.results.runs.control_run import NoControls
from mri_hpc.results.runs.controls import judge_controls
from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.provenance import read_provenance
from mri_hpc.rundir.settings import load_training
from mri_hpc.storage.store import Store

NOT_WORSE, CALIBRATION, CONTROLS, AUDIT, RETRACTED = (
    "not-worse", "calibration", "controls", "audit", "retracted",
)  # fmt: skip
WORDS = (NOT_WORSE, CALIBRATION, CONTROLS, AUDIT, RETRACTED)
NO_CURRENT = "there is no current model to compare it with"


def beside_current(
    run: RunDir, pair: Pair | str | None, *, margin: float, comparisons: int
) -> tuple[Evidence, Evidence]:
    """Compare a model with the current one: figures and calibration. pair: None where there is no current."""
    if pair is None:
        is_calibrated, words = own_calibration(run)
        verdict = Verdict.MET if is_calibrated else Verdict.NOT_KNOWN
        return (
            Evidence(word=NOT_WORSE, verdict=Verdict.NOT_KNOWN, words=NO_CURRENT),
            Evidence(word=CALIBRATION, verdict=verdict, words=words),
        )
    if isinstance(pair, str):
        unknown = (Evidence(word=word, verdict=Verdict.NOT_KNOWN, words=pair) for word in WORDS[:2])
        return next(unknown), next(unknown)
    return _not_worse(pair, margin, comparisons), _as_calibrated(pair, comparisons)


def _not_worse(pair: Pair, margin: float, comparisons: int) -> Evidence:
    found = better_by(pair, comparisons)
    if isinstance(found, str):
        return Evidence(word=NOT_WORSE, verdict=Verdict.NOT_KNOWN, words=found)
    value, low, high = (f"{100 * part:+.1f}" for part in (found.value, found.low, found.high))
    words = (
        f"{found.title} {value} points against the current model's ({low} to {high}; {found.interval}), on "
        f"{_gate(pair)}; asked for: above −{100 * margin:g}"
    )
    return Evidence(word=NOT_WORSE, verdict=_met(found.low > -margin), words=words)


def _as_calibrated(pair: Pair, comparisons: int) -> Evidence:
    found = log_loss_above(pair, comparisons)
    if isinstance(found, str):
        return Evidence(word=CALIBRATION, verdict=Verdict.NOT_KNOWN, words=found)
    words = (
        f"{found.title} {found.value:+.3f} against the current model's ({found.low:+.3f} to "
        f"{found.high:+.3f}; {found.interval}), on {_gate(pair)}; asked for: below {MOST_LOG_LOSS:+g}"
    )
    return Evidence(word=CALIBRATION, verdict=_met(found.high < MOST_LOG_LOSS), words=words)


def _gate(pair: Pair) -> str:
    units = counted(len(pair.new), f"gate {pair.unit}")
    return units if pair.unit == "patient" else f"{units} of {counted(pair.new.num_clusters, 'patient')}"


def _met(is_met: bool) -> Verdict:
    return Verdict.MET if is_met else Verdict.NOT_MET


def beside_controls(run: RunDir) -> Evidence:
    """Compare a model with controls that have not learnt to see, on its gate patients."""
    classes, gate = gate_rows(run)
    if not gate:
        return Evidence(word=CONTROLS, verdict=Verdict.NOT_KNOWN, words=NO_GATE)
    rows = read_whole(run)[1]
    found, _answers = judge_controls(run, classes, rows, gate, patient_model_of(run, classes))
    if isinstance(found, NoControls):
        return Evidence(word=CONTROLS, verdict=Verdict.NOT_KNOWN, words=found.reason)
    verdict = _met(found.is_clearly_beaten) if found.is_judged else Verdict.NOT_KNOWN
    return Evidence(word=CONTROLS, verdict=verdict, words=f"{found.verdict}; on gate patients")


def of_audit(run: RunDir) -> Evidence:
    """Tell whether an audit of the data has found images that are both trained on and judged on."""
    training, provenance = load_training(run), read_provenance(run)
    try:
        store = Store.open(Path(training.store))
        snapshot = store.recall(str(provenance.get("snapshot") or training.snapshot))
        twins = kept_twins(store, snapshot)
    except (UserError, OSError):
        return _audited_before(provenance.get("test_images_trained_on"))
    if twins is None:
        words = "nobody has looked for images that are the same slice: mri-hpc store audit"
        return Evidence(word=AUDIT, verdict=Verdict.NOT_KNOWN, words=words)
    found = leaking(twins, split_by(snapshot, training))
    if found:
        return Evidence(word=AUDIT, verdict=Verdict.NOT_MET, words=leak_text(snapshot, found))
    words = "no slice is both trained on and judged on, by pixels and looks"
    return Evidence(word=AUDIT, verdict=Verdict.MET, words=words)


def _audited_before(num: int | None) -> Evidence:
    if num is None:
        words = "its store is not where it was, and nobody had looked for images of the same slice"
        return Evidence(word=AUDIT, verdict=Verdict.NOT_KNOWN, words=words)
    words = f"{counted(num, 'test image')} had the same slice in training, as the run wrote down"
    return Evidence(word=AUDIT, verdict=_met(num == 0), words=words)


def of_retractions(found: Retracted) -> Evidence:
    """Tell whether images that the model has learnt from were retracted since."""
    if found.commits:
        num = counted(len(found.commits), "retraction")
        words = f"it has learnt from images that {num} took out since; train one without them"
        return Evidence(word=RETRACTED, verdict=Verdict.NOT_MET, words=words)
    if found.reason:
        return Evidence(word=RETRACTED, verdict=Verdict.NOT_KNOWN, words=found.reason)
    words = "none of the images that it has learnt from was retracted since"
    return Evidence(word=RETRACTED, verdict=Verdict.MET, words=words)
