"""What each case of the corpus works at: a folder with good images, a store and a run, and the commands."""

import contextlib
import hashlib
import importlib
import io
import os
import resource
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mri_hpc.rundir.layout import Attempt, RunDir
from mri_hpc.rundir.settings import JobSettings, TrainingSettings, save_settings
from mri_hpc.storage.disk.layout import StoreDir
from mri_hpc.storage.snapshot.catalogue import current
from mri_hpc.training.saver import WaitingSaver
from tests.harness.handlers import handlers_kept

CLASSES = ("glioma", "pituitary")
GOOD = 40
# Not of the site on which the tests run.
ENVIRONMENT = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "COLUMNS": "200"}


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a command came to."""

    status: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        """What it complained of."""
        return self.err.splitlines()


@dataclass(frozen=True)
class Desk:
    """A folder of its own for one case. What is asked for is made; what is not asked for is not there."""

    root: Path
    patterns: "Patterns"
    environment: dict[str, str] = field(default_factory=dict)

    @cached_property
    def raw(self) -> Path:
        """40 good pictures of 20 patients and two classes: CLASS/PATIENT/NUMBER.png."""
        return self._copy("raw")

    @cached_property
    def store(self) -> Path:
        """A store of these 40, as 32 x 32."""
        return self._copy("store")

    @cached_property
    def run(self) -> RunDir:
        """A run that was trained on the store for two epochs, and finished."""
        return RunDir(self._copy("run", without="checkpoints"))

    @property
    def checkpoints(self) -> Path:
        """The folder of its checkpoints: 5 and 10 steps."""
        path = self.run.checkpoints
        if not path.exists():
            shutil.copytree(self.patterns.run / "checkpoints", path)
        return path

    @property
    def unfinished(self) -> RunDir:
        """The run as it was before its end."""
        for path in (self.run.done, self.run.model, self.run.predictions, self.run.provenance):
            path.unlink()
        return self.run

    @property
    def images(self) -> int:
        """Images in the store now."""
        return len(current(StoreDir(self.store)))

    def file(self, name: str, content: bytes | str = b"") -> Path:
        """A file, with the folders above it."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def beside(self, name: str, content: bytes) -> list[str]:
        """Good pictures and one file more, to be added to the store; the command line for that."""
        path = self.raw / CLASSES[0] / "P99" / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        return self.preprocess()

    def preprocess(self, *options: object) -> list[str]:
        """The command line that adds the source to the store."""
        words = ["preprocess", "--source", self.raw, "--store", self.store, *options]
        return [str(word) for word in words]

    def labels(self, text: str | bytes) -> list[str]:
        """The command line that adds the source with a CSV of labels."""
        return self.preprocess("--labels", self.file("labels.csv", text))

    def digests(self) -> dict[str, str]:
        """What lies here now, by path."""
        found = {}
        for path in self.root.rglob("*"):
            if path.is_symlink():
                found[str(path)] = str(path.readlink())
            elif path.is_file() and os.access(path, os.R_OK):
                found[str(path)] = hashlib.sha256(path.read_bytes()).hexdigest()
        return found

    def shown(self, text: str) -> str:
        """A message without the name of this folder."""
        return text.replace(f"{self.root}/", "").replace(str(self.root), ".")

    def _copy(self, name: str, without: str = "") -> Path:
        path = self.root / name
        shutil.copytree(getattr(self.patterns, name), path, ignore=shutil.ignore_patterns(without))
        return path


class Patterns:
    """The source, the store and the run of which desks have copies; each made once, when first needed."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @cached_property
    def raw(self) -> Path:
        """See Desk."""
        path = self.root / "raw"
        for number in range(GOOD):
            label = number % 2
            draw(path / CLASSES[label] / f"P{number // 2:02d}" / f"{number}.png", number, label)
        return path

    @cached_property
    def store(self) -> Path:
        """See Desk."""
        path = self.root / "store"
        options = ["--source", self.raw, "--store", path, "--size", 32, "--ids", "as-given"]
        self._call("preprocess", *options)
        return path

    @cached_property
    def run(self) -> Path:
        """See Desk."""
        run = RunDir(self.root / "run")
        run.path.mkdir()
        shutil.copy(self.store / "recipe.json", run.recipe)
        settings = TrainingSettings(
            model="squeezenet1_1",
            store=str(self.store),
            snapshot=current(StoreDir(self.store)).digest,
            epochs=2,
            schedule_epochs=2,
            batch_size=8,
            augment=False,
            lr=1e-4,
        )
        save_settings(run, settings, JobSettings(cluster="local"))
        with pytest.MonkeyPatch.context() as patch:
            # In so short a training the save of the second epoch would at times overtake the first.
            patch.setattr("mri_hpc.training.rank.BackgroundSaver", _waiting)
            self._call("train", "--run", run.path)
        return run.path

    def _call(self, *words: object) -> None:
        outcome = call([str(word) for word in words], self.root, {})
        assert outcome.status == 0, outcome.err


def _waiting(run: RunDir, attempt: Attempt, *, keep: int, ranks_on_node: int) -> WaitingSaver:
    return WaitingSaver(run, attempt, keep=keep)


def draw(path: Path, number: int, label: int) -> None:
    """A grey picture with a bright spot, whose place tells the class."""
    pixels = np.random.default_rng(number).integers(0, 90, (40, 48))
    pixels[8 + 14 * label : 20 + 14 * label, 10:30] += 120
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels.astype(np.uint8)).save(path)


def call(argv: Sequence[str], folder: Path, environment: dict[str, str], most_bytes: int = 0) -> Outcome:
    """Run a command in this process, in a folder; whatever escapes it escapes here, too."""
    command = importlib.import_module("mri_hpc.__main__")
    out, err = io.StringIO(), io.StringIO()
    words = sys.argv
    with (
        _environment({**ENVIRONMENT, "MRI_KEY_FILE": str(folder / "site.key"), **environment}),
        handlers_kept(),
        _file_size(most_bytes),
        contextlib.chdir(folder),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
    ):
        sys.argv = ["mri-hpc", *argv]
        try:
            status = command.main()
        except SystemExit as left:
            status = int(left.code or 0)
        finally:
            sys.argv = words
    return Outcome(status=status, out=out.getvalue(), err=err.getvalue())


@contextlib.contextmanager
def new_folder() -> Iterator[Path]:
    """An empty folder."""
    with tempfile.TemporaryDirectory(prefix="rubbish-", dir=_in_memory()) as name:
        # Somewhere the temporary folder is itself a link.
        yield Path(name).resolve()


def _in_memory() -> str | None:
    """Where thousands of small folders cost little; None: in the usual place."""
    try:
        return "/dev/shm" if not os.statvfs("/dev/shm").f_flag & (os.ST_NOEXEC | os.ST_RDONLY) else None
    except FileNotFoundError:
        return None


@contextlib.contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    for name in before:
        if name.startswith(("SLURM_", "SBATCH_", "MRI_", "TORCHELASTIC_")):
            del os.environ[name]
    os.environ.update(values)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextlib.contextmanager
def _file_size(most_bytes: int) -> Iterator[None]:
    """Have every write beyond this place of a file fail, as on a disk with a quota; 0: no limit."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    if most_bytes:
        resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
