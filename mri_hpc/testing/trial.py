"""A store and its model, changed alike: by whole changes, by changes that are killed, by two at once."""

import os
import shutil
import signal
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from mri_hpc.base.atomic import publish_new_bytes
from mri_hpc.intake.decoding.recipe import Bits
from mri_hpc.intake.files.units import Share
from mri_hpc.testing import processes
from mri_hpc.testing.file_operations import FileOperations
from mri_hpc.testing.invariants import problems, rows_of, wanted_rows, windows_of
from mri_hpc.testing.model import Image, StoreModel
from mri_hpc.testing.workbench import LARGE_BYTES, ONE_TASK, Workbench, draw


@dataclass(frozen=True, kw_only=True)
class Change:
    """One thing that is done to a store."""

    name: str
    step: Callable[[], object]
    to_model: Callable[[StoreModel], object]
    purges: bool = False
    """Once it has ended, no pixels of retracted patients are on the disk."""


class Trial:
    """A store below a folder of its own, and what it must hold."""

    def __init__(self, root: Path, *, bits: Bits = 8) -> None:
        """bits: of the pixels that the store holds."""
        self.bench = Workbench(root=root, bits=bits)
        self.model = StoreModel()
        self.folder: dict[str, Image] = {}
        """Pictures in the source folder, by path."""
        self._version = 0
        self.logs = root / "logs"
        self.logs.mkdir(parents=True)
        # The same key each time, and so the same order of sources: a moment is the same in every trial.
        publish_new_bytes(self.bench.key_file, b"0123456789abcdef" * 4, is_private=True)

    def put(self, path: str, label: str, patient: str, *, is_deep: bool = False) -> None:
        """Put a picture into the source folder, in place of the one that may be there.

        is_deep: one of 16 bits.
        """
        self._version += 1
        source = draw(path, self._version, self.bench.side, is_deep=is_deep)
        self.bench.write(path, source, self._version)
        self.folder[path] = Image(source=source, label=label, patient=patient, is_deep=is_deep)

    def adding(self, share: Share = ONE_TASK, *, is_replacing: bool = False) -> Change:
        """Adds a share of the pictures; of those stored, the labels say what the store says."""
        rows = {path: self._labelled(path, image) for path, image in self.folder.items()}
        self.bench.write_labels(rows)
        given = {path: row for path, row in rows.items() if self.bench.is_of(share, path, row)}
        windows = windows_of(rows)
        return Change(
            name="replace" if is_replacing else "add",
            step=lambda: self.bench.add(share, is_replacing=is_replacing),
            to_model=lambda model: (model.replace if is_replacing else model.add)(given, windows),
        )

    def _labelled(self, path: str, image: Image) -> Image:
        held = self.model.images.get(path, image)
        return replace(image, label=held.label, patient=held.patient)

    def relabelling(self, rows: Mapping[str, Image]) -> Change:
        """Relabels images that are there, or gives them to other patients."""
        return Change(
            name="relabel",
            step=lambda: self.bench.relabel(rows),
            to_model=lambda model: model.relabel(rows),
        )

    def retracting(self, patient: str) -> Change:
        """Takes out a patient of whom images are there."""
        return Change(
            name="retract",
            step=lambda: self.bench.retract(patient),
            to_model=lambda model: model.retract(patient),
            purges=True,
        )

    def retracting_image(self, path: str) -> Change:
        """Takes out one image that is there."""
        return Change(
            name="retract image",
            step=lambda: self.bench.retract_image(path),
            to_model=lambda model: model.retract_image(path),
            purges=True,
        )

    def joining(self, first: str, second: str) -> Change:
        """Makes one patient of two who are not retracted."""
        one, other = sorted((first, second), key=self.bench.pseudonyms.patient)
        return Change(
            name="join",
            step=lambda: self.bench.join(first, second),
            to_model=lambda model: model.join(one, other),
        )

    def compacting(self, *, keep_s: float = 0.0, target_bytes: int = LARGE_BYTES) -> Change:
        """Compacts; what the store holds stays."""
        return Change(
            name="compact",
            step=lambda: self.bench.compact(keep_s=keep_s, target_bytes=target_bytes),
            to_model=lambda model: None,
            purges=True,
        )

    def run(self, change: Change) -> None:
        """Make a change as a whole, in this process."""
        change.step()
        self._note(change)

    def kill(self, change: Change, at: int) -> bool:
        """Make a change in a process that dies at a moment; False where it had ended before."""
        with processes.none_left():
            was_killed = processes.wait(self._start(change, at, signal.SIGKILL), self.logs) != 0
        if not was_killed:
            self._note(change)
            return False
        after = self.model.copy()
        change.to_model(after)
        self.model = self._settled(after)
        return True

    def together(self, changes: Sequence[Change]) -> None:
        """Make changes at once that allow one another, each in a process of its own."""
        processes.together([change.step for change in changes], self.logs)
        for change in changes:
            self._note(change)

    def beside(self, change: Change, at: int, other: Change) -> bool:
        """Make a change that stands still at a moment until another one, which it allows, has been made.

        False where it had ended before.
        """
        with processes.none_left():
            halted = self._start(change, at, signal.SIGSTOP)
            is_stopped = processes.wait_until_stopped(halted)
            codes = [processes.wait(processes.start(other.step, self.logs), self.logs)]
            if is_stopped:
                os.kill(halted, signal.SIGCONT)
            codes.append(processes.wait(halted, self.logs))
            assert codes == [0, 0], f"{other.name} and {change.name} ended with {codes}"
        self._note(change)
        self._note(other)
        return is_stopped

    def publish(self) -> None:
        """Publish a snapshot, which stays readable."""
        self.model.publish(self.bench.store.resolve().digest)

    def problems(self) -> list[str]:
        """List every way in which the store is not as it must be."""
        return problems(self.bench, self.model)

    def problems_beside_clean(self) -> list[str]:
        """List where the content differs from what one undisturbed task makes of the same sources."""
        images = self.model.images
        windows = windows_of(images)
        # Windows of the files that are there now may be others than those of the first.
        if not images or any(
            image.is_deep and image.window != windows[image.patient] for image in images.values()
        ):
            return []
        with tempfile.TemporaryDirectory(prefix="clean-", dir=self.bench.root) as folder:
            clean = replace(self.bench, root=Path(folder))
            for path, image in self.model.images.items():
                clean.write(path, image.source)
            shutil.copy(self.bench.key_file, clean.key_file)
            clean.write_labels(self.model.images)
            clean.add()
            wanted = clean.store.current().content_digest
        found = self.bench.store.current().content_digest
        return [] if found == wanted else [f"content {found} is not {wanted}, that of one undisturbed task"]

    def _start(self, change: Change, at: int, by: signal.Signals) -> int:
        def watch() -> Callable[[], None]:
            FileOperations(self.bench.path, at, by=by).install()
            return lambda: None

        return processes.start(change.step, self.logs, watch)

    def _note(self, change: Change) -> None:
        change.to_model(self.model)
        self.model.is_purged |= change.purges

    def _settled(self, after: StoreModel) -> StoreModel:
        """The model after a change that was killed, as far as the store has come."""
        if not self.bench.has_store:
            return self.model
        snapshot = self.bench.store.current()
        rows, name_of = rows_of(snapshot), self.bench.pseudonyms.patient
        names = {name.decode() for name in snapshot.retracted_patients.tolist()}

        def holds(path: str, image: Image | None) -> bool:
            key = self.bench.key_of(path)
            return rows.get(key) == (wanted_rows(self.bench, {path: image})[key] if image else None)

        merged = self.model.settled(after, holds, lambda patient: name_of(patient) in names)
        if merged.one_of != self.model.one_of:
            joined = snapshot.persons.other_names.tolist()
            merged.one_of = {
                other: one for other, one in after.one_of.items() if name_of(other).encode() in joined
            }
        merged.is_purged = self.model.is_purged and merged.retracted == self.model.retracted
        merged.is_purged &= merged.gone == self.model.gone
        return merged
