"""Images of a store one by one, for ``torch.utils.data.DataLoader`` and others who take them by number."""

import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args
from weakref import WeakValueDictionary

import numpy as np
import torch

from mri_hpc.base.errors import UserError
from mri_hpc.base.settings import nearest
from mri_hpc.cohort.splits import FromTrain, rows_of, set_apart, split_by
from mri_hpc.rundir.settings import TrainingSettings
from mri_hpc.storage.store import Reader, Snapshot, Store

Part = Literal["train", "validation", "calibration", "test", "all"]
PARTS = get_args(Part)
Transform = Callable[[torch.Tensor], Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class _Opened:
    """A snapshot as one process has it open."""

    process: int
    snapshot: Snapshot
    reader: Reader
    lock: threading.Lock
    """Held while the reader reads: it is for one thread at a time."""


_OPENED: WeakValueDictionary[tuple[int, Path, str], _Opened] = WeakValueDictionary()
"""By process, store and digest: a reader may keep hundreds of files open, and splits are more than one."""


class Dataset:
    """Images and labels of one split of a store: map-style, and picklable for any number of workers.

    Splits are those of `mri-hpc launch` with the same options: by patient. Each process opens the store's
    files when it first reads, so that neither forked nor spawned workers share what their parent had open.
    """

    def __init__(
        self,
        store: Store | str | os.PathLike[str],
        split: Part = "train",
        *,
        snapshot: str = "newest",
        val_fold: int | None = None,
        test_fold: int | None = None,
        from_train: FromTrain = "none",
        hash_folds: int = 0,
        calibration_share: float = 0.0,
        train_share: float = 1.0,
        transform: Transform | None = None,
    ) -> None:
        """Open a snapshot of the store, and choose the rows of a split.

        snapshot: its digest, or newest. val_fold, test_fold, from_train, hash_folds, calibration_share,
        train_share: as of `mri-hpc launch`; a fold of `launch --folds` N is test_fold, from_train
        "validation" and hash_folds N, or 0 where the labels name folds. split: calibration takes the
        validation patients whom calibration_share sets apart; all takes every image, of known class or not.
        transform: called with each image, uint8, or uint16 in a store of 16 bits, (1, H, W).
        Raises UserError where there is no such store, snapshot or split. Any number of threads may read.
        """
        opened_at = store if isinstance(store, Store) else Store.open(store)
        # Workers, and who reads later, may be in another folder.
        self.store = Store(opened_at.path.absolute())
        self.transform = transform
        for what, given, known in (("split", split, PARTS), ("from_train", from_train, get_args(FromTrain))):
            if given not in known:
                hint = nearest(str(given), known)
                raise UserError(f"there is no {what} {given!r}{hint}; known: {', '.join(known)}")
        opened = self.store.resolve(snapshot)
        self._digest = opened.digest
        if split == "all":
            self.rows = np.arange(len(opened), dtype=np.int64)
        else:
            settings = TrainingSettings(
                val_fold=val_fold,
                test_fold=test_fold,
                from_train=from_train,
                hash_folds=hash_folds,
                calibration_share=calibration_share,
                train_share=train_share,
            )
            code = set_apart(opened, split_by(opened, settings), calibration_share)
            self.rows = getattr(rows_of(code), split)
        self._opened: _Opened | None = None

    store: Store
    rows: np.ndarray
    """Rows of the snapshot, in the order of their keys: int64, (n,)."""
    transform: Transform | None
    """Called with each image before it is given out."""

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        """Return an image, (1, H, W), or what `transform` makes of it; and its label, -1 unknown."""
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[int]) -> list[tuple[Any, int]]:
        """Read several at a time, which torch's loaders ask for: together, as fast as memory is copied."""
        rows = self.rows[np.asarray(indices, np.int64)]
        opened = self._open()
        with opened.lock:
            images = torch.from_numpy(opened.reader.read(rows))[:, np.newaxis]
        shown = images if self.transform is None else map(self.transform, images)
        labels = np.asarray(self.snapshot.label)[rows].tolist()
        return list(zip(shown, labels, strict=True))

    def __getstate__(self) -> dict[str, Any]:
        """Return all that another process needs: no open file, and no column of the snapshot."""
        plain = {name: value for name, value in vars(self).items() if name not in ("labels", "patients")}
        return {**plain, "_opened": None}

    @property
    def snapshot(self) -> Snapshot:
        """The snapshot that the images are of; its digest names exactly what it holds."""
        return self._open().snapshot

    @property
    def reader(self) -> Reader:
        """Reads rows of the snapshot as arrays, in this process, for one thread at a time."""
        return self._open().reader

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes; a label is an index into them."""
        return self.snapshot.classes

    @cached_property
    def labels(self) -> np.ndarray:
        """Label of every image, -1 unknown: int64, (n,)."""
        return np.asarray(self.snapshot.label)[self.rows].astype(np.int64)

    @cached_property
    def patients(self) -> list[str]:
        """Name, in the store, of every image's patient; empty where the data name none."""
        return [name.decode() for name in self.snapshot.text("patient", self.rows).tolist()]

    def _open(self) -> _Opened:
        """Open the snapshot and its reader, of this process and no other; all datasets of it share them."""
        opened, process = self._opened, os.getpid()
        if opened is None or opened.process != process:
            name = (process, self.store.path, self._digest)
            opened = _OPENED.get(name)
            if opened is None:
                snapshot = self.store.resolve(self._digest)
                reader = self.store.reader(snapshot)
                new = _Opened(process=process, snapshot=snapshot, reader=reader, lock=threading.Lock())
                opened = _OPENED.setdefault(name, new)
            self._opened = opened
        return opened
