"""Promise 2: however many tasks run, wherever each is killed, a snapshot holds every source once."""

import itertools
import multiprocessing
import random
import shutil
import signal
import sys
import threading
import time
import zlib
from pathlib import Path

import numpy as np

from mri_hpc import preprocess
from mri_hpc import store as store_command
from mri_hpc.chunks.layout import open_store
from mri_hpc.chunks.reader import Reader
from mri_hpc.chunks.snapshots import resolve
from mri_hpc.chunks.verify import verify

IMAGES = 400
MOST_ROUNDS = 6
ENOUGH_KILLS = 8


FORK = multiprocessing.get_context("fork")


def start(source, store, task, tasks, chunk_images=4):
    options = ["--source", source, "--store", store, "--size", 16, "--chunk-images", chunk_images]
    return begin(preprocess.main, [*options, "--task", task, "--tasks", tasks])


def begin(main, words):
    """A real process, but with the imports of this one: they would take longer than the work."""
    process = FORK.Process(target=lambda: sys.exit(main(list(map(str, words)))))
    process.start()
    return process


def finish(process):
    process.join()
    assert process.exitcode == 0


def end_by_kill(process):
    process.kill()
    process.join()
    return process.exitcode == -signal.SIGKILL


def names_in(folder: Path):
    return len(list(folder.iterdir())) if folder.is_dir() else 0


def kill_amid_work(processes, store, chance):
    """SIGKILL each process at a random moment of a time in which files keep appearing in the store."""
    killed = 0
    for process in chance.sample(processes, len(processes)):
        target = names_in(store / "chunks") + chance.randint(1, 3)
        while process.is_alive() and names_in(store / "chunks") < target:
            time.sleep(0.002)
        time.sleep(chance.random() * 0.03)
        killed += end_by_kill(process)
    return killed


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
        tasks = [start(source, store, i, n) for n in (4, 7) for i in range(n)]
        arrival = threading.Thread(target=copy, args=(IMAGES // (3 * MOST_ROUNDS),))
        arrival.start()
        killed += kill_amid_work(tasks, store, chance)
        arrival.join()
        # Some end before their kill comes: how many, the machine decides.
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
        compactors = [start_compacting(store) for _twice in range(2)]
        for process in compactors:
            killed += kill_when_it_has_begun(process, store, chance)
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


def start_compacting(store):
    return begin(store_command.main, ["compact", store, "--keep-days", "0"])


def kill_when_it_has_begun(process, store, chance):
    """SIGKILL once something in the store has changed, or it has ended."""
    before = names_in(store / "chunks"), names_in(store / "commits")
    while process.is_alive() and (names_in(store / "chunks"), names_in(store / "commits")) == before:
        time.sleep(0.001)
    time.sleep(chance.random() * 0.02)
    return end_by_kill(process)
