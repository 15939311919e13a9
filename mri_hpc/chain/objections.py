"""A delivery is held against what the model has learnt, before anything is trained on it.

Each rule is an exact test, at which 1 delivery of 1,000 like those before is stopped by mistake (LEVEL), over
all groups of images that it looks at together (Bonferroni). Images of test patients are asked nothing: only
their pixels are looked at.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from mri_hpc.base.command import counted
from mri_hpc.chain.delivery import Delivery
from mri_hpc.chain.links import CLASSES, LABELS, LEAK, LOOK, Objection
from mri_hpc.chain.suspects import Suspect
from mri_hpc.cohort.kept_twins import leak_text, leaking
from mri_hpc.cohort.splits import TEST, split_by
from mri_hpc.cohort.twins import TwinGroup
from mri_hpc.cohort.whole_patients import whole_patients
from mri_hpc.intake.labels.label import SPLITS
from mri_hpc.registry.gate import NO_GATE, gate_rows
from mri_hpc.results.answers.appearance import appearance_of
from mri_hpc.results.answers.pooling_choice import patient_model_of
from mri_hpc.results.answers.resemblance import ALARM, FEWEST, NOT_LIKE, NoResemblance, load_resemblance
from mri_hpc.results.statistics.patients import Outcomes, image_outcomes, patient_outcomes, pool_patients
from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.predictions import Prediction
from mri_hpc.rundir.settings import TrainingSettings, load_training
from mri_hpc.storage.store import Reader, Store

LEVEL = 0.001
"""Share of deliveries like those before that a rule stops by mistake."""
WORTH_A_LOOK = 0.05
"""Chance below which a note says how far it is from stopping."""
MOST_IMAGES = 5000
"""Images of whole patients that are asked about at most: more would take a node without a GPU long."""
BATCH = 64


@dataclass(frozen=True, kw_only=True)
class Held:
    """Outcome of holding a delivery against a model."""

    objections: tuple[Objection, ...] = ()
    notes: tuple[str, ...] = ()
    """For people: what could not be held against anything."""
    suspects: tuple[Suspect, ...] = ()
    """Images to which objections refer."""


def hold_against(
    store: Store,
    delivery: Delivery,
    model: RunDir | None,
    meant: TrainingSettings,
    twins: Sequence[TwinGroup],
    *,
    refuse_to_go_on: Callable[[], None] = lambda: None,
) -> Held:
    """Hold a delivery against a model that has learnt from earlier ones; None where there is none yet.

    meant: settings of the training to come, as far as they split the data. twins: all of the delivery's
    snapshot. refuse_to_go_on: called between images, raises where a signal has come.
    """
    leaks = _leaks(store, delivery, meant, twins)
    if model is None:
        look = f"look at them (mri-hpc store sheet {store.path} sheet.png)"
        return _joined(leaks, Held(notes=(f"there was no model to hold these images against: {look}",)))
    if not delivery.images:
        return leaks
    answers = _asked(store, delivery, model, refuse_to_go_on)
    return _joined(
        leaks,
        Held(notes=answers.limit),
        _new_classes(delivery, answers.classes),
        _unlike(answers, model),
        _mislabelled(delivery, answers, model),
    )


def _joined(*parts: Held) -> Held:
    return Held(
        objections=tuple(one for part in parts for one in part.objections),
        notes=tuple(one for part in parts for one in part.notes),
        suspects=tuple(one for part in parts for one in part.suspects),
    )


def _leaks(store: Store, delivery: Delivery, meant: TrainingSettings, twins: Sequence[TwinGroup]) -> Held:
    """Object to slices on two sides of a split of the training to come, whenever they came.

    Launch, and the ranks, refuse each of them, too.
    """
    code = split_by(delivery.snapshot, meant)
    found = leaking(list(twins), code)
    if not found:
        return Held()
    words = leak_text(delivery.snapshot, found)
    came = {*delivery.rows.tolist()}
    suspects = [
        Suspect(
            row=row,
            word=LEAK,
            why=f"slice {number}, by {', '.join(group.how)}: {_split(code, row)}"
            f"{', came now' if row in came else ''}",
        )
        for number, group in enumerate(found, 1)
        for row in group.rows
    ]
    return _objected(LEAK, [f"{words}; mri-hpc store audit {store.path} shows them"], suspects=suspects)


def _split(code: np.ndarray, row: int) -> str:
    return SPLITS[code[row]] if code[row] >= 0 else "not used"


def _new_classes(delivery: Delivery, classes: Sequence[str]) -> Held:
    snapshot = delivery.snapshot
    labels = np.asarray(snapshot.label)
    rows = {
        name: np.flatnonzero(labels == snapshot.classes.index(name)).tolist()
        for name in sorted(set(snapshot.classes) - set(classes))
    }
    if not rows:
        return Held()
    counts = ", ".join(f"{name} ({counted(len(own), 'image')})" for name, own in rows.items())
    suspects = [
        Suspect(row=row, word=CLASSES, why=f"class {name} is new")
        for name, own in rows.items()
        for row in own
    ]
    return _objected(CLASSES, [f"the model does not know {counts}"], suspects=suspects)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Asked:
    """A model's answers about images that came."""

    classes: tuple[str, ...]
    rows: list[Prediction]
    """Without those of test patients, of unknown class, or of a class that the model does not know."""
    distances: dict[str, dict[str, list[float]]]
    """From the training images, by group of images and by patient."""
    images: dict[str, list[int]]
    """Rows of all that were looked at, by patient."""
    limit: tuple[str, ...]
    """Says how many were asked about where that is not all; else nothing."""


def _asked(store: Store, delivery: Delivery, model: RunDir, refuse_to_go_on: Callable[[], None]) -> _Asked:
    """Ask a model about what came, some images at a time."""
    # torch, which only this needs.
    from mri_hpc.training.prediction import load_finished

    snapshot, finished, resemblance = delivery.snapshot, load_finished(model), load_resemblance(model)
    code = split_by(snapshot, load_training(model))
    chosen = whole_patients(snapshot, delivery.rows, MOST_IMAGES)
    of_units: dict[str, list[int]] = defaultdict(list)
    predictions: list[Prediction] = []
    distances: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    with store.reader(snapshot, is_read_once=True) as reader:
        for rows, images in _in_batches(reader, chosen):
            refuse_to_go_on()
            for row in rows.tolist():
                of_units[_unit(delivery, row)].append(row)
            if not isinstance(resemblance, NoResemblance):
                far = resemblance.space.distances(appearance_of(images)).tolist()
                for row, distance in zip(rows.tolist(), far, strict=True):
                    for group in _groups(delivery, row):
                        distances[group][_unit(delivery, row)].append(distance)
            is_asked = np.array([_may_ask(delivery, row, code, finished.classes) for row in rows.tolist()])
            if is_asked.any():
                answers = finished.ask(images[is_asked])
                predictions += _predictions(delivery, rows[is_asked], answers, len(finished.classes))
    limit = f"{len(chosen):,} of {counted(delivery.images, 'image')} were asked about, of patients by chance"
    return _Asked(
        classes=finished.classes,
        rows=predictions,
        distances=distances,
        images=of_units,
        limit=(limit,) if len(chosen) < delivery.images else (),
    )


def _in_batches(reader: Reader, rows: np.ndarray) -> Iterable[tuple[np.ndarray, np.ndarray]]:
    for start in range(0, len(rows), BATCH):
        some = rows[start : start + BATCH]
        yield some, reader.read(some)


def _may_ask(delivery: Delivery, row: int, code: np.ndarray, classes: Sequence[str]) -> bool:
    """Tell whether a model may be asked about the label of an image: not where its patient tests models."""
    label = int(delivery.snapshot.label[row])
    return code[row] != TEST and label >= 0 and delivery.snapshot.classes[label] in classes


def _unit(delivery: Delivery, row: int) -> str:
    """Name whose image it is; one without a patient counts as of one of its own."""
    patient = int(delivery.snapshot.patient[row])
    return str(patient) if patient >= 0 else f"image {row}"


def _groups(delivery: Delivery, row: int) -> list[str]:
    """Name the groups of which an image is one: all, its class, its site."""
    snapshot = delivery.snapshot
    label, site = int(snapshot.label[row]), int(snapshot.site[row])
    return [
        "",
        *([f" of class {snapshot.classes[label]}"] if label >= 0 else []),
        *([f" of site {snapshot.site_names[site].decode()}"] if site >= 0 else []),
    ]


def _predictions(
    delivery: Delivery, rows: np.ndarray, answers: np.ndarray, num_classes: int
) -> list[Prediction]:
    """Pair answers with labels. answers: as `FinishedRun.ask` gives them."""
    snapshot = delivery.snapshot
    return [
        Prediction(
            key=f"{int(snapshot.key[row]):016x}",
            patient=f"{int(snapshot.patient[row])}" if snapshot.patient[row] >= 0 else "",
            split="new",
            label=snapshot.classes[int(snapshot.label[row])],
            probabilities=tuple(one[:num_classes].tolist()),
            attention=tuple(one[num_classes:].tolist()),
        )
        for row, one in zip(rows.tolist(), answers, strict=True)
    ]


def _unlike(asked: _Asked, model: RunDir) -> Held:
    """Object where more patients are unlike the training data than could come by chance."""
    resemblance = load_resemblance(model)
    if isinstance(resemblance, NoResemblance):
        return Held(notes=(f"looks were held against nothing: {resemblance.reason}",))
    num = len(resemblance.validation)
    if num < FEWEST:
        return Held(notes=(f"looks were held against nothing: {num} validation patients are too few",))
    found, notes, shown = [], [], _distinct(asked.distances)
    rows: set[int] = set()
    for group, patients in shown.items():
        unlike = [name for name, far in patients.items() if resemblance.verdict(far).is_unlike]
        chance = chance_of_unlike(len(unlike), len(patients), num)
        are = "is" if len(patients) == 1 else "are"
        words = f"{len(unlike)} of {counted(len(patients), 'patient')}{group} {are} {NOT_LIKE}"
        notes += [] if group else [words]
        if chance <= LEVEL / len(shown):
            found.append(f"{words}, where 1 in {1 / ALARM:g} is expected (chance {chance:.1g})")
            rows.update(row for name in unlike for row in asked.images[name])
    suspects = [Suspect(row=row, word=LOOK, why=NOT_LIKE) for row in sorted(rows)]
    return _objected(LOOK, found, limit=asked.limit, notes=notes, suspects=suspects)


def _mislabelled(delivery: Delivery, asked: _Asked, model: RunDir) -> Held:
    """Object where the model contradicts more labels than it does of gate patients."""
    classes, gate = gate_rows(model)
    if not gate:
        return Held(notes=(f"labels were held against nothing: {NO_GATE}",))
    if not asked.rows:
        return Held()
    known, _ = _outcomes(model, classes, gate)
    new, names = _outcomes(model, classes, asked.rows)
    groups = {"": (np.ones(len(known), bool), np.ones(len(new), bool))}
    for number, name in enumerate(classes):
        groups[f" of class {name}"] = (known.label == number, new.label == number)
    groups = {name: both for name, both in groups.items() if both[0].any() and both[1].any()}
    found, notes = [], []
    answers: dict[str, str] = {}
    for group, (of_gate, of_new) in groups.items():
        wrong, wrong_before = (
            int((one.predicted != one.label)[units].sum()) for one, units in ((new, of_new), (known, of_gate))
        )
        num, num_before = int(of_new.sum()), int(of_gate.sum())
        chance = chance_of_wrong(wrong, num, wrong_before, num_before)
        of_gate_words = f"{wrong_before} of {num_before} of the gate"
        words = f"the model contradicts {wrong} of {num} labels{group}, {of_gate_words}"
        stops = LEVEL / len(groups)
        near = f" (chance {chance:.1g}; {stops:.2g} stops it)" if stops < chance <= WORTH_A_LOOK else ""
        notes += [] if group else [f"{words}{near}"]
        if chance <= stops:
            found.append(f"{words} (chance {chance:.1g})")
            contradicted = np.flatnonzero(of_new & (new.predicted != new.label)).tolist()
            answers |= {
                names[unit]: f"the model says {classes[new.predicted[unit]]}" for unit in contradicted
            }
    suspects = [
        Suspect(row=row, word=LABELS, why=answers[unit])
        for row, unit in _rows_and_units(delivery, asked, names)
        if unit in answers
    ]
    return _objected(LABELS, found, limit=asked.limit, notes=notes, suspects=suspects)


def _objected(
    word: str,
    found: Sequence[str],
    *,
    suspects: Sequence[Suspect],
    limit: Sequence[str] = (),
    notes: Sequence[str] = (),
) -> Held:
    """Return what was found as one objection, with its images; nothing found is none. limit: of _Asked."""
    words = f"{word}: {'; '.join([*found, *limit])}"
    objections = (Objection(word=word, words=words, images=len(suspects)),) if found else ()
    return Held(objections=objections, notes=tuple(notes), suspects=tuple(suspects))


def _distinct(distances: dict[str, dict[str, list[float]]]) -> dict[str, dict[str, list[float]]]:
    """Leave out groups that are all that came: they would be counted twice."""
    whole = distances.get("", {})
    return {group: patients for group, patients in distances.items() if not group or {*patients} != {*whole}}


def _outcomes(
    model: RunDir, classes: tuple[str, ...], rows: Sequence[Prediction]
) -> tuple[Outcomes, list[str]]:
    """Take patients as units, where the model pools them and the data name them; else images.

    Returns the units' names, too: of patients, or keys.
    """
    patient_model = patient_model_of(model, classes)
    if patient_model and all(row.patient for row in rows):
        pooled = pool_patients(classes, rows, patient_model)
        return patient_outcomes(classes, pooled), [one.patient for one in pooled]
    return image_outcomes(classes, rows), [row.key for row in rows]


def _rows_and_units(delivery: Delivery, asked: _Asked, names: Sequence[str]) -> Iterable[tuple[int, str]]:
    """Pair the row of each image that was asked about with its unit. names: of the units."""
    keys = np.array([int(one.key, 16) for one in asked.rows], np.uint64)
    rows = np.searchsorted(np.asarray(delivery.snapshot.key), keys).tolist()
    # The number of a patient has fewer digits than a key.
    units = {*names}
    return zip(rows, [one.patient if one.patient in units else one.key for one in asked.rows], strict=True)


def chance_of_unlike(unlike: int, num: int, num_validation: int) -> float:
    """Return the chance of so many unlike patients, or more, among new ones drawn as those of validation.

    Of a patient drawn so, the rank among validation patients is any with like chance; of several together,
    who share these patients, the number below the limit is beta-binomial. It is exact, whatever the distance
    measures.
    """
    limit = math.floor(ALARM * (num_validation + 1) + 1e-9)
    a, b = limit, num_validation + 1 - limit
    terms = (
        math.exp(_log_beta(k + a, num - k + b) - _log_beta(a, b) - _log_beta(k + 1, num - k + 1))
        for k in range(unlike, num + 1)
    )
    # Of so many out of all there are 1 / ((num + 1) B(k + 1, num - k + 1)) ways.
    return min(1.0, math.fsum(terms) / (num + 1))


def chance_of_wrong(wrong: int, num: int, wrong_before: int, num_before: int) -> float:
    """Return the chance of so many wrong answers, or more, among new units: Fisher's exact test, one side."""
    all_wrong, total = wrong + wrong_before, num + num_before
    most = min(num, all_wrong)
    ways = sum(
        math.comb(all_wrong, k) * math.comb(total - all_wrong, num - k) for k in range(wrong, most + 1)
    )
    return ways / math.comb(total, num)


def _log_beta(a: float, b: float) -> float:
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)
