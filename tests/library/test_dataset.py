"""Datasets and loaders: what torch's own loaders, forked and spawned workers, and training loops get."""

import gc
import pickle
import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from mri_hpc import Dataset, Loader, Store
from mri_hpc.base.errors import UserError
from mri_hpc.cohort.splits import rows_of, set_apart, split_by
from mri_hpc.rundir.settings import TrainingSettings
from mri_hpc.storage.store import Reader


def as_float(image):
    return image.float() / 255


def test_an_item_is_the_image_of_its_row_and_its_label(store_path):
    dataset = Dataset(store_path, "test")
    with dataset.reader as reader:
        wanted = reader.read(dataset.rows)
    for number in range(len(dataset)):
        image, label = dataset[number]
        assert image.dtype == torch.uint8 and image.shape == (1, 32, 32)
        assert np.array_equal(image[0].numpy(), wanted[number])
        assert label == dataset.labels[number]
    assert dataset.classes == ("glioma", "meningioma")


def test_splits_share_no_patient_and_all_has_every_image(store_path):
    parts = {split: Dataset(store_path, split) for split in ("train", "validation", "test", "all")}
    patients = {split: set(dataset.patients) for split, dataset in parts.items()}
    assert not patients["train"] & (patients["test"] | patients["validation"])
    assert not patients["test"] & patients["validation"]
    assert len(parts["all"]) == 120
    assert sum(len(parts[split]) for split in ("train", "validation", "test")) == 120


# Of more workers than cores, and of forking beside the threads of torch, which read nothing here.
@pytest.mark.filterwarnings("ignore:This DataLoader will create", "ignore:.*use of fork")
@pytest.mark.parametrize(("workers", "start"), [(0, None), (3, "fork"), (1, "spawn")])
def test_any_number_of_workers_give_the_same_batches(store_path, workers, start):
    dataset = Dataset(store_path, "train", transform=as_float)
    dataset[0]  # The parent has its files open by then.
    loader = DataLoader(dataset, batch_size=16, num_workers=workers, multiprocessing_context=start)
    images, labels = (torch.cat(parts) for parts in zip(*loader, strict=True))
    assert torch.equal(images[:, 0] * 255, torch.from_numpy(dataset.reader.read(dataset.rows)).float())
    assert np.array_equal(labels.numpy(), dataset.labels)


def test_a_forked_worker_opens_files_of_its_own(store_path, monkeypatch):
    dataset = Dataset(store_path, "all")
    parents = dataset.reader
    monkeypatch.setattr("os.getpid", lambda: 1)  # As it looks in another process.
    assert dataset.reader is not parents


def test_splits_of_a_store_share_their_open_files_and_close_them_when_they_are_forgotten(store_path):
    # What tests before this one have forgotten may still be open.
    gc.collect()
    before = len(list(Path("/proc/self/fd").iterdir()))
    parts = [Dataset(store_path, split) for split in ("train", "validation", "test")]
    assert len({id(part.reader) for part in parts}) == 1
    assert [len(part[0][0]) for part in parts] == [1, 1, 1]
    assert len(list(Path("/proc/self/fd").iterdir())) > before
    del parts
    gc.collect()
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_threads_read_what_one_reads(store_path, monkeypatch):
    dataset = Dataset(store_path, "all")
    reading, most = [], []

    def read(self, rows, read=Reader.read):
        reading.append(rows)
        most.append(len(reading))
        try:
            return read(self, rows)
        finally:
            reading.pop()

    monkeypatch.setattr(Reader, "read", read)
    with ThreadPoolExecutor(8) as threads:
        images = list(threads.map(lambda number: dataset[number][0], list(range(len(dataset))) * 5))
    assert max(most) == 1
    assert torch.equal(torch.stack(images[: len(dataset)]), torch.stack([image for image, _ in dataset]))


def test_each_epoch_reads_by_a_reader_of_its_own(store_path, monkeypatch):
    dataset = Dataset(store_path, "train")
    loader = Loader(dataset, batch_size=16)
    readers = set()

    def read(self, rows, read=Reader.read):
        readers.add(id(self))
        return read(self, rows)

    monkeypatch.setattr(Reader, "read", read)
    keys = [(one.keys[0], other.keys[0]) for one, other in zip(*map(loader.epoch, (0, 1)), strict=True)]
    assert len(keys) == len(loader)
    assert len(readers) == 2 and id(dataset.reader) not in readers


def test_a_pickled_dataset_is_small_and_of_the_same_snapshot(store_path):
    dataset = Dataset(Store.open(store_path), "train")
    assert len(dataset.labels) == len(dataset.patients)
    pickled = pickle.dumps(dataset)
    assert len(pickled) < 2000 + dataset.rows.nbytes
    again = pickle.loads(pickled)
    assert again.snapshot.digest == dataset.snapshot.digest
    assert torch.equal(again[3][0], dataset[3][0])


def test_a_dataset_is_read_from_another_folder_too(store_path, tmp_path, monkeypatch):
    monkeypatch.chdir(store_path.parent)
    dataset = Dataset(store_path.name, "test")
    monkeypatch.chdir(tmp_path)
    assert pickle.loads(pickle.dumps(dataset))[0][0].shape == (1, 32, 32)


@pytest.mark.parametrize("share", [0.0, 0.5])
def test_folds_by_hash_and_patients_who_choose_nothing_are_those_of_a_run_with_the_same_options(
    store_path, share
):
    tested = []
    for fold in (1, 2, 3):
        options = {
            "test_fold": fold, "from_train": "validation", "hash_folds": 3, "calibration_share": share,
            "train_share": 0.5,
        }  # fmt: skip
        parts = {name: Dataset(store_path, name, **options) for name in ("train", "validation", "test")}
        parts["calibration"] = Dataset(store_path, "calibration", **options)
        snapshot, settings = parts["train"].snapshot, TrainingSettings(**options)
        of_run = rows_of(set_apart(snapshot, split_by(snapshot, settings), settings.calibration_share))
        for name, part in parts.items():
            assert np.array_equal(part.rows, getattr(of_run, name)), name
        assert bool(len(parts["calibration"])) == bool(share)
        assert not set(parts["calibration"].patients) & set(parts["validation"].patients)
        tested += parts["test"].rows.tolist()
    assert sorted(tested) == list(range(120))


def test_a_split_that_is_none_is_refused(store_path):
    with pytest.raises(UserError, match="--hash-folds goes with --test-fold K and --from-train validation"):
        Dataset(store_path, "train", hash_folds=3)
    with pytest.raises(UserError, match="--calibration-share must be at least 0 and below 1, got 1"):
        Dataset(store_path, "calibration", calibration_share=1)
    with pytest.raises(UserError, match="--val-fold and --test-fold go together"):
        Dataset(store_path, "train", val_fold=1)
    with pytest.raises(UserError, match="--val-fold 1 holds no image: the data name no fold"):
        Dataset(store_path, "train", val_fold=1, test_fold=2)
    with pytest.raises(UserError, match="there is no split 'trian'; did you mean 'train'"):
        Dataset(store_path, "trian")
    with pytest.raises(UserError, match="there is no from_train 'bth'; did you mean 'both'"):
        Dataset(store_path, "train", from_train="bth")


@pytest.mark.parametrize(
    ("given", "refusal"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"rank": 2, "world_size": 2}, "rank must be from 0 to world_size - 1, got 2 of 2"),
        ({"rank": 0, "world_size": 0}, "rank must be from 0 to world_size - 1, got 0 of 0"),
    ],
)
def test_a_loader_that_cannot_be_is_refused(store_path, given, refusal):
    with pytest.raises(UserError, match=refusal):
        Loader(Dataset(store_path, "train"), **given)


def test_a_loader_leaves_no_transform_out_in_silence(store_path):
    with pytest.raises(UserError, match="leave the dataset's transform out"):
        Loader(Dataset(store_path, "train", transform=as_float))


def test_an_epoch_is_taken_up_at_a_step_that_it_has(store_path):
    loader = Loader(Dataset(store_path, "train"))
    assert list(loader.epoch(0, first_step=len(loader))) == []
    for step in (-1, len(loader) + 1):
        with pytest.raises(UserError, match=f"first_step must be from 0 to {len(loader)}.* got {step}"):
            loader.epoch(0, first_step=step)


def test_a_store_may_be_named_by_a_text(store_path):
    assert Store(str(store_path)) == Store.open(store_path)
    assert Store(str(store_path)).resolve().digest == Dataset(Store(str(store_path))).snapshot.digest


def test_a_loader_gives_every_image_once_in_an_order_of_seed_and_epoch(store_path):
    dataset = Dataset(store_path, "train")
    loader = Loader(dataset, batch_size=16, seed=3)
    epochs = [np.concatenate([batch.keys for batch in loader.epoch(number)]) for number in (0, 1, 0)]
    assert np.array_equal(epochs[0], epochs[2]) and not np.array_equal(epochs[0], epochs[1])
    assert np.array_equal(np.sort(epochs[1]), np.sort(dataset.snapshot.key[dataset.rows]))
    assert len(loader) == len(list(loader.epoch(0)))


def test_a_loader_takes_an_epoch_up_where_it_was_left_and_deals_it_to_ranks(store_path):
    dataset = Dataset(store_path, "train")
    whole = [batch.keys for batch in Loader(dataset, batch_size=16).epoch(0)]
    rest = [batch.keys for batch in Loader(dataset, batch_size=16).epoch(0, first_step=2)]
    assert all(map(np.array_equal, whole[2:], rest)) and len(rest) == len(whole) - 2
    ranks = [Loader(dataset, batch_size=16, rank=rank, world_size=2).epoch(0) for rank in range(2)]
    for step, shares in zip(whole, zip(*ranks, strict=True), strict=True):
        assert np.array_equal(step, np.concatenate([share.keys for share in shares]))


def test_texts_of_a_snapshot_are_of_one_row_or_of_several(store_path):
    snapshot = Dataset(store_path, "all").snapshot
    rows = np.flatnonzero(snapshot.label == 0)[:2]
    assert snapshot.text("label", rows[0]) == snapshot.text("label", int(rows[0])) == "glioma"
    assert snapshot.text("label", rows).tolist() == [b"glioma", b"glioma"]
    assert snapshot.text("study", rows[0]) == ""
    with pytest.raises(
        UserError, match="column 'plane' is not of texts; those that are: label, patient, study"
    ):
        snapshot.text("plane", rows)


def test_a_store_without_published_snapshots_names_none(store_path, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(store_path, copy)
    for folder in (copy / "snapshots").iterdir():
        shutil.rmtree(folder)
    with pytest.raises(UserError, match=r"has no snapshot 'zz'; there are: newest$"):
        Store.open(copy).resolve("zz")
