"""Promise 2: however many tasks run, wherever each is killed, a snapshot holds every source once."""

import itertools
import multiprocessing
import random
import shutil
import signal
import sys
import threading
import zlib

import numpy as np
from PIL import Image

from mri_hpc import preprocess
from mri_hpc import store as store_command
from mri_hpc.storage.disk.layout import open_store
from mri_hpc.storage.reading.reader import Reader
from mri_hpc.storage.snapshot.catalogue import resolve
from mri_hpc.storage.upkeep.verify import verify
from mri_hpc.testing.file_operations import FileOperations

IMAGES = 400
MOST_ROUNDS = 6
ENOUGH_KILLS = 15


FORK = multiprocessing.get_context("fork")


def start(source, store, task, tasks, chunk_images=4, dies_at=0):
    options = ["--source", source, "--store", store, "--size", 16, "--chunk-images", chunk_images]
    return begin(preprocess.main, [*options, "--task", task, "--tasks", tasks], store, dies_at)


def start_compacting(store, dies_at=0):
    return begin(store_command.main, ["compact", store, "--keep-days", "0"], store, dies_at)


def begin(main, words, store, dies_at):
    """A real process, but with the imports of this one: they would take longer than the work.

    dies_at: which change of the store's files it dies at by SIGKILL, if it comes to that; 0: none.
    """

    def work():
        if dies_at:
            FileOperations(store, dies_at).install()
        sys.exit(main(list(map(str, words))))

    process = FORK.Process(target=work)
    process.start()
    return process


def finish(process):
    process.join()
    assert process.exitcode == 0


def has_died(process):
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode != 0


def test_killed_arrays_of_4_and_7_tasks_at_once_while_files_arrive_give_the_content_of_one_clean_task(
    tmp_path, make_pictures, monkeypatch
):
    monkeypatch.setenv("MRI_KEY_FILE", str(tmp_path / "site.key"))
    chance = random.Random(20)
    pool, source, store = tmp_path / "pool" / "raw", tmp_path / "raw", tmp_path / "store"
    arriving = make_pictures(pool, IMAGES)
    broken = pool / "glioma" / "patient0" / "broken.jpg"
    broken.write_bytes(b"<html>")
    chance.shuffle(arriving)
    copied = iter([*arriving, broken])

    def copy(count):
        for path in itertools.islice(copied, count):
            target = source / path.relative_to(pool)
            target.parent.mkdir(parents=True, exist_ok=True)
            # Not atomic on purpose: a task may see half a file.
            shutil.copy2(path, target)

    copy(IMAGES // 2)
    killed = 0
    for _round in range(MOST_ROUNDS):
        tasks = [start(source, store, i, n, dies_at=chance.randint(1, 150)) for n in (4, 7) for i in range(n)]
        arrival = threading.Thread(target=copy, args=(IMAGES // (3 * MOST_ROUNDS),))
        arrival.start()
        killed += sum(map(has_died, tasks))
        arrival.join()
        # Some have less to do than that.
        if killed >= ENOUGH_KILLS:
            break
    assert killed >= ENOUGH_KILLS
    copy(IMAGES)
    assert 0 < len(resolve(store)) < IMAGES

    finish(start(source, store, 0, 1))
    finish(start(source, tmp_path / "clean", 0, 1, chunk_images=1000))
    messy, clean = resolve(store), resolve(tmp_path / "clean")
    assert len(clean) == len(messy) == IMAGES
    assert messy.content_digest == clean.content_digest
    assert verify(open_store(store)).problems == []
    assert int(messy.is_rejected.sum()) == int(clean.is_rejected.sum()) == 1


def draw_heads(source, patients, numbers):
    """16-bit slices of some patients, each with a scale of its own."""
    for patient in range(patients):
        for number in numbers:
            shades = np.random.default_rng([patient, number]).random((32, 32)) * (
                3000 + 500 * patient + number
            )
            path = source / f"class{patient % 2}" / f"patient{patient}" / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(shades.astype(np.uint16)).save(path)


def test_killed_arrays_over_groups_of_one_window_give_the_content_of_one_clean_task_for_the_same_listings(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("MRI_KEY_FILE", str(tmp_path / "site.key"))
    chance = random.Random(22)
    source, store, clean = tmp_path / "raw", tmp_path / "store", tmp_path / "clean"
    killed = 0
    # Of the second listing half the groups have their window from the first.
    for patients, numbers in ((6, range(4)), (12, range(8))):
        draw_heads(source, patients, numbers)
        enough = killed + ENOUGH_KILLS
        for _round in range(MOST_ROUNDS):
            dying = [
                start(source, store, i, n, dies_at=chance.randint(1, 40)) for n in (2, 3) for i in range(n)
            ]
            killed += sum([has_died(task) for task in dying])
            if killed >= enough:
                break
        for task in [start(source, store, i, 3) for i in range(3)]:
            finish(task)
        finish(start(source, clean, 0, 1, chunk_images=1000))
        messy = resolve(store)
        assert messy.content_digest == resolve(clean).content_digest
        assert len(messy) == patients * len(numbers)
    assert killed >= ENOUGH_KILLS
    assert len(set(messy.windows["group"].tolist())) == 12
    assert verify(open_store(store)).problems == []


def test_two_arrays_at_once_store_copies_that_nobody_sees(tmp_path, make_pictures, monkeypatch):
    monkeypatch.setenv("MRI_KEY_FILE", str(tmp_path / "site.key"))
    make_pictures(tmp_path / "raw", 200)
    stores = {}
    for name, arrays in {"one": [1], "both": [2, 3]}.items():
        processes = [start(tmp_path / "raw", tmp_path / name, i, n) for n in arrays for i in range(n)]
        for process in processes:
            finish(process)
        stores[name] = resolve(tmp_path / name)
    assert stores["one"].content_digest == stores["both"].content_digest
    assert len(stores["both"]) == 200
    assert stores["one"].num_shadowed == 0


def test_compaction_beside_tasks_and_beside_itself_killed_at_random_loses_and_doubles_nothing(
    tmp_path, make_pictures, monkeypatch
):
    monkeypatch.setenv("MRI_KEY_FILE", str(tmp_path / "site.key"))
    chance = random.Random(21)
    source, store = tmp_path / "raw", tmp_path / "store"
    make_pictures(source, IMAGES)
    finish(start(source, tmp_path / "clean", 0, 1, chunk_images=1000))
    clean = resolve(tmp_path / "clean").content_digest
    finish(start(source, store, 0, 3))
    first = resolve(store)
    tasks = [start(source, store, i, 3) for i in (1, 2)]
    killed = 0
    for _round in range(MOST_ROUNDS):
        compactors = [start_compacting(store, dies_at=chance.randint(1, 60)) for _twice in range(2)]
        killed += sum(map(has_died, compactors))
        if killed >= 2:
            break
    for process in tasks:
        finish(process)
    done = [start_compacting(store) for _twice in range(2)]
    for process in done:
        finish(process)
    finish(start_compacting(store))
    assert killed >= 2
    newest = resolve(store)
    assert newest.content_digest == clean
    assert (len(newest), newest.num_shadowed) == (IMAGES, 0)
    assert len(newest.chunks) <= 12
    assert verify(open_store(store)).problems == []
    # The first snapshot's own files have been removed.
    with Reader(store, resolve(store, first.digest)) as reader:
        images = reader.read(np.arange(len(first)))
    assert [zlib.crc32(image.data) for image in images] == first.crc.tolist()
