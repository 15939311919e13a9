"""Pictures of a finished run's test patients: its answers, its store's pixels and its heat maps together."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from mri_hpc.base.command import counted
from mri_hpc.cohort.splits import FEW_PATIENTS
from mri_hpc.intake.decoding.grey_values import to_8_bits
from mri_hpc.results.answers.whole_predictions import read_whole
from mri_hpc.results.pages.pictures import Pictures, Selection, answer_of, select, show
from mri_hpc.results.runs.heat_score import centre_of_head, compare, measures_of
from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.predictions import Prediction
from mri_hpc.rundir.provenance import read_provenance
from mri_hpc.rundir.settings import load_training
from mri_hpc.rundir.where_it_looks import WhereItLooks, write_where_it_looks
from mri_hpc.storage.store import Snapshot, Store
from mri_hpc.training.heat_maps import HeatMaps, NoFeatureMap
from mri_hpc.training.prediction import load_model

MOST_SCORED = 4096
"""Images whose heat maps are scored, spread evenly over keys: minutes on a processor."""
BATCH = 256
"""Images in memory at a time."""


def make_pictures(run: RunDir, store: Path | None = None) -> Pictures:
    """Choose and draw pictures of test patients, and keep the score of the heat maps in the run.

    store: where it lies by now; None: where the run had it. UserError where the run is not finished, or the
    store is gone.
    """
    classes, rows = read_whole(run)
    tested = [row for row in rows if row.split == "test" and row.label]
    images = _Images(store or Path(load_training(run).store), str(read_provenance(run).get("snapshot", "")))
    there = [row for row in tested if images.holds(row)]
    boxed = [row for row in there if np.isfinite(images.box(row)).all()]
    maps, score = _scored_maps(run, classes, images, boxed)
    write_where_it_looks(run, score)
    selection = select(classes, there, {row.key for row in boxed})
    shown_maps = maps if score.beats_centre else None
    return _drawn(classes, selection, images, shown_maps, num_gone=len(tested) - len(there))


class _Images:
    """Pixels and boxes of a run's images, as long as the store has them as they were."""

    def __init__(self, path: Path, digest: str) -> None:
        """Open the store. digest: of the run's snapshot."""
        self._store = Store.open(path)
        # What was retracted since is in the run's snapshot, and not in this one.
        self.now: Snapshot = self._store.current()
        self._then = self._store.recall(digest)

    def holds(self, row: Prediction) -> bool:
        """Tell whether the image is there, with the pixels that the run was asked about."""
        now, then = self._find(self.now, row), self._find(self._then, row)
        return now >= 0 and then >= 0 and bool(self.now.crc[now] == self._then.crc[then])

    def box(self, row: Prediction) -> np.ndarray:
        """Return the box around its finding; NaN none."""
        return np.asarray(self.now.box[self._find(self.now, row)])

    def read(self, rows: Sequence[Prediction]) -> np.ndarray:
        """Read pixels as they are stored, (n, H, W)."""
        at = np.array([self._find(self.now, row) for row in rows], np.int64)
        with self._store.reader(self.now, is_read_once=True) as reader:
            return np.array(reader.read(at))

    @staticmethod
    def _find(snapshot: Snapshot, row: Prediction) -> int:
        key = np.uint64(int(row.key, 16))
        at = int(np.searchsorted(snapshot.key, key))
        return at if at < len(snapshot) and snapshot.key[at] == key else -1


def _scored_maps(
    run: RunDir, classes: Sequence[str], images: _Images, boxed: Sequence[Prediction]
) -> tuple[HeatMaps | None, WhereItLooks]:
    """Return what draws heat maps, if their score is known, and that score."""
    digest = str(read_provenance(run).get("model_digest", ""))
    named = [row for row in boxed if row.patient]
    scored = [named[at] for at in np.linspace(0, len(named) - 1, min(len(named), MOST_SCORED)).astype(int)]
    num_patients = len({row.patient for row in scored})
    score = WhereItLooks(model_digest=digest, patients=num_patients, images=len(scored))
    if num_patients < FEW_PATIENTS:
        have = f"{counted(num_patients, 'test patient')} with a box around a finding"
        return None, replace(score, reason=f"scoring it needs {FEW_PATIENTS}, and there are {have}")
    try:
        maps = HeatMaps(load_model(run), images.now.image_shape)
    except NoFeatureMap as error:
        return None, replace(score, reason=str(error))
    network, centre = _measured(classes, images, scored, maps)
    hits, energy = compare(network, centre, [row.patient for row in scored])
    return maps, replace(score, layer=maps.layer, side=maps.side, hits=hits, energy=energy)


def _measured(
    classes: Sequence[str], images: _Images, rows: Sequence[Prediction], maps: HeatMaps
) -> tuple[np.ndarray, np.ndarray]:
    """Measure heat maps and the centre of the head against boxes: float64, (n, 2) each."""
    network, centre = [], []
    for start in range(0, len(rows), BATCH):
        part = rows[start : start + BATCH]
        pixels, boxes = images.read(part), np.stack([images.box(row) for row in part])
        network.append(measures_of(maps.of(pixels, _answers(classes, part)), boxes))
        centre.append(measures_of(centre_of_head(to_8_bits(pixels)), boxes))
    return np.concatenate(network), np.concatenate(centre)


def _answers(classes: Sequence[str], rows: Sequence[Prediction]) -> np.ndarray:
    return np.array([classes.index(answer_of(classes, row)) for row in rows], np.int64)


def _drawn(
    classes: Sequence[str], selection: Selection, images: _Images, maps: HeatMaps | None, num_gone: int
) -> Pictures:
    """Draw what is selected, with heat maps where something draws them."""
    rows = selection.all()
    shown = {}
    if rows:
        pixels = images.read(rows)
        heat = maps.of(pixels, _answers(classes, rows)) if maps else [None] * len(rows)
        grey = to_8_bits(pixels)
        shown = {
            row.key: show(classes, row, grey[at], heat[at], images.box(row)) for at, row in enumerate(rows)
        }
    return Pictures(
        examples={name: [shown[row.key] for row in found] for name, found in selection.examples.items()},
        wrong=[shown[row.key] for row in selection.wrong],
        looked_at=[shown[row.key] for row in selection.looked_at],
        num_gone=num_gone,
    )
