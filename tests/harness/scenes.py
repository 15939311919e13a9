"""What is killed: preprocessing, compaction, relabelling and retraction, by one task or by four at once."""

import contextlib
import os
import pickle
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from mri_hpc import preprocess as preprocessing
from mri_hpc.intake.labels.pseudonyms import site_key
from mri_hpc.storage.adding import known
from mri_hpc.storage.disk.layout import open_store
from mri_hpc.storage.reading.reader import Reader
from mri_hpc.storage.snapshot.catalogue import current, resolve
from mri_hpc.storage.upkeep import tidying
from mri_hpc.store_actions.compact import Compact, compact_store
from mri_hpc.store_actions.relabel import Relabel, relabel_images
from mri_hpc.store_actions.retract import Retract, retract
from mri_hpc.testing import processes
from mri_hpc.testing.file_operations import FileOperations

IMAGES, PATIENTS, DEEP_PATIENTS, CHUNK_IMAGES, SIDE = 10, 5, 2, 2, 16

Step = Callable[[], object]
Tasks = Callable[["Place", int], Sequence[Step]]
"""What a number of tasks do at once."""


@dataclass(frozen=True)
class Place:
    """A folder in which a scene is played, with the sources that all places share."""

    root: Path
    sources: Path

    @property
    def store(self) -> Path:
        """The store."""
        return self.root / "store"

    @property
    def raw(self) -> Path:
        """Folder of pictures."""
        return self.sources / "raw"

    def preprocess(self, task: int = 0, tasks: int = 1) -> Step:
        """Adds a share of the pictures."""
        options = preprocessing.Options(
            source=self.raw, store=self.store, size=SIDE, chunk_images=CHUNK_IMAGES, task=task, tasks=tasks
        )  # fmt: skip
        return lambda: preprocessing.preprocess(options)

    def compact(self, keep_days: float = 0) -> Step:
        """Compacts, and removes what is superseded."""
        return lambda: compact_store(Compact(store=self.store, keep_days=keep_days))

    def relabel(self, number: int) -> Step:
        """Corrects one share of four of the labels."""
        labels = self.sources / f"corrected-{number}.csv"
        return lambda: relabel_images(Relabel(store=self.store, labels=labels, source=self.raw))

    def retract(self, patient: int) -> Step:
        """Takes one patient out."""
        return lambda: retract(Retract(store=self.store, patient=f"patient{patient}", yes=True))


@dataclass(frozen=True, kw_only=True)
class Scene:
    """One operation that is killed."""

    name: str
    prepare: Callable[[Place], Sequence[Step]]
    """Steps that make the store as it is before."""
    tasks: Tasks
    """What is killed."""
    again: Callable[[Place, int, int], Sequence[Step]]
    """What is run after the kill, at once; of a number of tasks, in one of two ways, 0 or 1."""
    withdrawn: int = 0
    """Patients of which nothing may be left, from patient 0; a task takes out one."""


def _again_as_before(of: Tasks) -> Callable[[Place, int, int], Sequence[Step]]:
    """Once more, or twice at once."""
    return lambda place, tasks, way: [*of(place, tasks), *(of(place, tasks) if way else ())]


def _adding(place: Place, tasks: int) -> Sequence[Step]:
    return [place.preprocess(task, tasks) for task in range(tasks)]


def _adding_otherwise(place: Place, _tasks: int, way: int) -> Sequence[Step]:
    """By one task, or by arrays of two and of three at once."""
    return [*_adding(place, 2), *_adding(place, 3)] if way else _adding(place, 1)


def _relabelling(place: Place, tasks: int) -> Sequence[Step]:
    return [place.relabel(number) for number in range(tasks)]


def _compacting(place: Place, tasks: int) -> Sequence[Step]:
    return [place.compact()] * tasks


def _retracting(place: Place, tasks: int) -> Sequence[Step]:
    return [place.retract(patient) for patient in range(tasks)]


SCENES = (
    Scene(
        name="preprocess",
        prepare=lambda place: [],
        tasks=_adding,
        again=_adding_otherwise,
    ),
    Scene(
        name="compact",
        prepare=lambda place: _adding(place, 1),
        tasks=_compacting,
        again=_again_as_before(_compacting),
    ),
    Scene(
        name="relabel",
        prepare=lambda place: _adding(place, 1),
        tasks=_relabelling,
        again=_again_as_before(_relabelling),
    ),
    Scene(
        name="retract",
        # Some of the patient's pixels lie in two files.
        prepare=lambda place: [*_adding(place, 1), place.compact(keep_days=7)],
        tasks=_retracting,
        again=_again_as_before(_retracting),
        withdrawn=4,
    ),
)


def draw_sources(folder: Path) -> None:
    """Pictures of two classes and five patients, of two 16 bits, a broken one, four tables of corrections."""
    rows = []
    for number in range(IMAGES):
        pixels = np.random.default_rng(number).integers(20, 200, (4, 4), dtype=np.uint8)
        path = Path(f"class{number % 2}") / f"patient{number % PATIENTS}" / f"{number}.png"
        (folder / "raw" / path).parent.mkdir(parents=True, exist_ok=True)
        grey = np.asarray(Image.fromarray(pixels).resize((SIDE, SIDE)))
        # Of the last patients, which have one window each.
        is_deep = number % PATIENTS >= PATIENTS - DEEP_PATIENTS
        Image.fromarray(grey.astype(np.uint16) * (20 + number) if is_deep else grey).save(
            folder / "raw" / path
        )
        rows.append(f"{path},corrected{number % 3},{number % 4}\n")
    site_key(folder / "site.key")
    (folder / "raw" / "class0" / "patient0" / "broken.png").write_bytes(b"<html>")
    for part in range(4):
        (folder / f"corrected-{part}.csv").write_text("path,label,fold\n" + "".join(rows[part::4]))


@contextlib.contextmanager
def small_limits() -> Iterator[None]:
    """A store of ten images comes to what otherwise only large ones come to."""
    before = tidying.MOST_FILES, known.UNFOLDED_COMMITS
    tidying.MOST_FILES, known.UNFOLDED_COMMITS = 2, 2
    try:
        yield
    finally:
        tidying.MOST_FILES, known.UNFOLDED_COMMITS = before


def start(place: Place, step: Step, watch: processes.Watch = lambda: lambda: None) -> int:
    """Fork a process that takes a step; returns its number. `watch` as in processes.start."""

    def with_key() -> None:
        os.environ["MRI_KEY_FILE"] = str(place.sources / "site.key")
        step()

    return processes.start(with_key, place.sources, watch)


def wait(place: Place, child: int) -> int:
    """Status of a process that has ended, negative where a signal ended it; its traceback is raised."""
    return processes.wait(child, place.sources)


def take(place: Place, steps: Sequence[Step]) -> None:
    """Take steps at once, each in a process of its own, and wait for all of them."""
    for child in [start(place, step) for step in steps]:
        assert wait(place, child) == 0


class Stage:
    """Plays one scene again and again, from the same beginning."""

    def __init__(self, scene: Scene, tasks: int, folder: Path) -> None:
        self.scene = scene
        self.num_tasks = tasks
        self.sources = folder / "sources"
        self._pattern = Place(folder / "pattern", self.sources)
        self._folder = folder
        if not self.sources.exists():
            draw_sources(self.sources)
        shutil.rmtree(self._pattern.root, ignore_errors=True)
        self._pattern.root.mkdir(parents=True)
        for step in scene.prepare(self._pattern):
            take(self._pattern, [step])
        self.before = resolve(self._pattern.store) if self._pattern.store.exists() else None
        if self.before is not None:
            with Reader(self._pattern.store, self.before) as reader:
                self.pixels = reader.read(np.arange(len(self.before)))
        whole = self.place()
        take(whole, scene.tasks(whole, tasks))
        take(whole, scene.tasks(whole, tasks))
        self.after = current(open_store(whole.store))

    def place(self) -> Place:
        """A new copy of the beginning."""
        root = self._folder / "place"
        shutil.rmtree(root, ignore_errors=True)
        shutil.copytree(self._pattern.root, root)
        return Place(root, self.sources)

    def play(self, at: int, victim: int = 0) -> tuple[Place, bool]:
        """Let all tasks run, one of which dies at a moment; says whether it came to that."""
        place = self.place()

        def watch() -> Callable[[], None]:
            FileOperations(place.root, at).install()
            return lambda: None

        steps = self.scene.tasks(place, self.num_tasks)
        children = [
            start(place, step, watch) if number == victim else start(place, step)
            for number, step in enumerate(steps)
        ]
        codes = [wait(place, child) for child in children]
        assert all(code == 0 for number, code in enumerate(codes) if number != victim), codes
        return place, codes[victim] != 0

    def operations(self) -> FileOperations:
        """What the first task does to files, uninterrupted and alone."""
        place = self.place()
        found = self.sources / "operations"
        operations = FileOperations(place.root)

        def watch() -> Callable[[], None]:
            operations.install()

            def note() -> None:
                found.write_bytes(pickle.dumps((operations.done, operations.moments)))

            return note

        assert wait(place, start(place, self.scene.tasks(place, self.num_tasks)[0], watch)) == 0
        operations.done, operations.moments = pickle.loads(found.read_bytes())
        found.unlink()
        return operations
