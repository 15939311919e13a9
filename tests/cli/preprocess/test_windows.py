"""Pictures of more than 8 bits: the slices of one head have one window, for good."""

import json

import numpy as np
import pytest
import tifffile
from PIL import Image

from mri_hpc import store as store_command
from mri_hpc.intake.decoding import group_reader
from mri_hpc.intake.labels.pseudonyms import Pseudonyms, site_key
from mri_hpc.storage.adding import windowed
from mri_hpc.storage.disk.commits import read_commits
from mri_hpc.storage.disk.layout import StoreDir
from mri_hpc.storage.reading.reader import Reader
from mri_hpc.storage.snapshot.catalogue import current, load_snapshot, resolve
from mri_hpc.storage.snapshot.windows import window_that_holds
from mri_hpc.storage.upkeep.verify import verify

SIDE = 32
PEAKS = (4000, 4100, 4050, 4200)


def head(seed, peak=4000):
    """A slice of all shades up to a peak, with air around it."""
    y, x = np.mgrid[-1 : 1 : SIDE * 1j, -1 : 1 : SIDE * 1j]
    shades = 0.52 + 0.48 * np.sin(5 * x + seed) * np.cos(4 * y)
    return np.where(np.hypot(x, y) < 0.9, np.rint(shades * peak), 0).astype(np.uint16)


def save(path, grey):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(grey).save(path)


def pixels(store, root, pattern="**/*.*"):
    """The stored image of each source, by its name."""
    snapshot = resolve(store)
    key_of = Pseudonyms(site_key(store.with_name("site.key"))).source_key
    with Reader(store, snapshot) as reader:
        images = reader.read(np.arange(len(snapshot)))
    rows = {key: row for row, key in enumerate(snapshot.key.tolist())}
    keys = {path.name: key_of(root.name, path.relative_to(root).as_posix()) for path in root.glob(pattern)}
    return {name: images[rows[key]] for name, key in keys.items() if key in rows}


@pytest.fixture
def heads(tmp_path):
    """Four slices of one head of each of two patients, and a picture of 8 bits."""
    for patient, scale in (("anna", 1), ("bela", 4)):
        for number, peak in enumerate(PEAKS):
            save(
                tmp_path / "heads" / "glioma" / patient / f"{patient}{number}.png", head(number, peak * scale)
            )
    save(
        tmp_path / "heads" / "glioma" / "carl" / "flat.png",
        np.tile(np.arange(SIDE, dtype=np.uint8), (SIDE, 1)),
    )
    return tmp_path / "heads"


def windows(store):
    return {(low, high) for _group, _commit, _patient, low, high in current(StoreDir(store)).windows.tolist()}


def test_slices_of_one_head_agree_and_keep_their_levels_whatever_one_spike_holds(heads, store, preprocess):
    assert preprocess(heads, store, "--size", SIDE)[0] == 0
    found = pixels(store, heads)
    assert windows(store) == {(0, 4096), (0, 16384)}
    for number in range(4):
        grey = head(number, PEAKS[number]).astype(float)
        expected = np.rint(np.clip(grey, 0, 4096) * 255 / 4096)
        assert np.array_equal(found[f"anna{number}.png"], expected)
        assert np.abs(found[f"anna{number}.png"].astype(int) - found[f"bela{number}.png"]).max() <= 1
    assert np.array_equal(found["flat.png"][0], np.arange(SIDE))
    for name, value, kind in (
        ("spiked", 65535, np.uint16),
        ("huge", 10**6, np.int32),
        ("float", 1e6, np.float32),
    ):
        spiked = head(1, PEAKS[1]).astype(kind)
        spiked[0, 0] = value
        (heads / "glioma" / "anna" / "anna1.png").unlink(missing_ok=True)
        save(heads / "glioma" / "anna" / "anna1.tif", spiked)
        other = store.with_name(name)
        preprocess(heads, other, "--size", SIDE)
        again = pixels(other, heads)
        assert windows(other) == windows(store)
        assert again["anna1.tif"][0, 0] == 255
        again["anna1.tif"][0, 0] = 0
        assert np.array_equal(again["anna1.tif"], found["anna1.png"])


def test_real_heads_of_16_bits_keep_200_levels(real_data, tmp_path, store, preprocess):
    for number, path in enumerate(sorted((real_data / "cheng").glob("*/*.jpg"))[::300][:6]):
        grey = np.asarray(Image.open(path).convert("L")).astype(np.uint16) * 16 + number % 3
        save(tmp_path / "raw" / "glioma" / f"p{number}" / f"{number}.png", grey)
    preprocess(tmp_path / "raw", store)
    assert all(len(np.unique(image)) >= 200 for image in pixels(store, tmp_path / "raw").values())


def test_later_slices_take_the_window_that_is_recorded_and_what_it_cuts_off_is_said(heads, store, preprocess):
    preprocess(heads, store, "--size", SIDE)
    before = windows(store)
    save(heads / "glioma" / "anna" / "late.png", head(9, 4100))
    save(heads / "glioma" / "anna" / "bright.png", head(9, 9000))
    status, out, err = preprocess(heads, store, "--json")
    assert status == 0
    assert json.loads(out)["stored"] == 2
    assert json.loads(out)["outside_window"] == 1
    assert "\n1 new image: more than 1 % of the pixels lie outside the window of grey values" in f"\n{err}"
    assert windows(store) == before
    bright = np.rint(np.clip(head(9, 9000).astype(float), 0, 4096) * 255 / 4096)
    assert np.array_equal(pixels(store, heads)["bright.png"], bright)
    assert json.loads(preprocess(heads, store, "--json")[1])["outside_window"] == 0


def test_empty_constant_and_damaged_files_of_a_group_do_not_decide(heads, store, preprocess):
    preprocess(heads, store, "--size", SIDE)
    folder = heads / "glioma" / "anna"
    save(folder / "empty.png", np.zeros((SIDE, SIDE), np.uint16))
    save(folder / "constant.png", np.full((SIDE, SIDE), 500, np.uint16))
    damaged = (folder / "anna0.png").read_bytes()
    (folder / "damaged.png").write_bytes(damaged[: len(damaged) // 2])
    save(folder / "nan.tif", np.full((SIDE, SIDE), np.nan, np.float32))
    other = store.with_name("other")
    assert "stored 11, already there 0, rejected 2" in preprocess(heads, other, "--size", SIDE)[1]
    assert windows(other) == windows(store)
    before, after = pixels(store, heads), pixels(other, heads)
    assert all(np.array_equal(before[name], after[name]) for name in before)
    assert not after["empty.png"].any()


def test_a_group_that_is_empty_at_first_gets_its_window_when_there_is_something(tmp_path, store, preprocess):
    raw = tmp_path / "raw"
    save(raw / "glioma" / "anna" / "0.png", np.zeros((SIDE, SIDE), np.uint16))
    preprocess(raw, store, "--size", SIDE)
    assert windows(store) == set()
    save(raw / "glioma" / "anna" / "1.png", head(1))
    preprocess(raw, store, "--size", SIDE)
    assert len(windows(store)) == 1
    assert len(np.unique(pixels(store, raw)["1.png"])) > 100


def test_each_slice_of_a_group_is_read_and_decoded_once(heads, store, preprocess, monkeypatch):
    read = []
    for module in (windowed, group_reader):
        real = module.read_content

        def noted(root, files, real=real):
            read.extend(files)
            return real(root, files)

        monkeypatch.setattr(module, "read_content", noted)
    preprocess(heads, store, "--size", SIDE, "--chunk-images", 2)
    assert len(read) == len(set(read)) == 9
    read.clear()
    monkeypatch.setattr(group_reader, "KEPT_BYTES", 3 * SIDE * SIDE * 2)
    other = store.with_name("other")
    preprocess(heads, other, "--size", SIDE)
    assert len(set(read)) == 9 < len(read)
    assert resolve(other).content_digest == resolve(store).content_digest


@pytest.mark.parametrize("tasks", [2, 5])
def test_a_group_is_dealt_as_a_whole_and_pictures_of_8_bits_by_their_keys(heads, store, preprocess, tasks):
    save(heads / "glioma" / "anna" / "eight.png", np.full((SIDE, SIDE), 3, np.uint8))
    stored = []
    for task in range(tasks):
        before = set(resolve(store).key.tolist()) if stored and sum(map(len, stored)) else set()
        status, out, _err = preprocess(
            heads, store, "--size", SIDE, "--task", task, "--tasks", tasks, "--json"
        )
        assert status == 0
        total = json.loads(out)["stored"]
        stored.append(set(resolve(store).key.tolist()) - before if total else set())
    name = root_key_of(store, heads)
    for patient in ("anna", "bela"):
        keys = {name(path) for path in heads.glob(f"*/{patient}/{patient}*.png")}
        assert sum(bool(keys & part) for part in stored) == 1
    for path in (*heads.glob("*/*/flat.png"), *heads.glob("*/*/eight.png")):
        assert name(path) in stored[name(path) % tasks]
    assert sum(map(len, stored)) == len(resolve(store)) == 10


def root_key_of(store, root):
    key_of = Pseudonyms(site_key(store.with_name("site.key"))).source_key
    return lambda path: key_of(root.name, path.relative_to(root).as_posix())


def test_a_picture_whose_name_promises_8_bits_wrongly_has_the_window_of_its_group(heads, store, preprocess):
    preprocess(heads, store, "--size", SIDE)
    expected = pixels(store, heads)["anna2.png"]
    (heads / "glioma" / "anna" / "anna2.png").rename(heads / "glioma" / "anna" / "anna2.jpg")
    other = store.with_name("other")
    preprocess(heads, other, "--size", SIDE)
    assert np.array_equal(pixels(other, heads)["anna2.jpg"], expected)
    assert windows(other) == windows(store)


def test_commits_name_groups_by_digests_and_a_store_without_them_is_as_before(heads, store, preprocess):
    preprocess(heads, store, "--size", SIDE)
    store_dir = StoreDir(store)
    text = "".join(store_dir.commit(name).read_text() for name in store_dir.commit_ids())
    for secret in ("anna", "bela", "glioma", "heads"):
        assert secret not in text
    commits = read_commits(store_dir, store_dir.commit_ids())
    (commit,) = [commit for commit in commits if commit.windows]
    assert [len(one.images) for one in commit.windows] == [4, 4]
    small = heads.with_name("small")
    save(small / "glioma" / "a" / "0.png", np.zeros((SIDE, SIDE), np.uint8))
    preprocess(small, store.with_name("eight"), "--size", SIDE)
    eight = StoreDir(store.with_name("eight"))
    (name,) = eight.commit_ids()
    assert "windows" not in json.loads(eight.commit(name).read_bytes())
    folder = eight.snapshots / resolve(eight.path).digest
    assert not (folder / "windows.npy").exists()
    assert len(load_snapshot(folder).windows) == 0


@pytest.mark.parametrize("key", range(4))
def test_what_was_made_in_a_window_that_does_not_hold_is_made_again(
    heads, store, preprocess, monkeypatch, key
):
    """Two tasks at once, with other listings: each finds a window of its own, and either's may hold."""
    store.with_name("site.key").write_text(f"{key}" * 64)
    store.with_name("site.key").chmod(0o600)
    # The first slice, by whose key the stack is known, has the same pixels in either window.
    slices = [np.zeros((SIDE, SIDE), np.uint16), *(head(number, 3500) for number in range(1, 7))]
    tifffile.imwrite(heads / "glioma" / "anna" / "stack.tif", np.stack(slices), photometric="minisblack")
    real = windowed.read_content
    inside = []

    def race(root, files):
        # The first task has looked at the store, and found its sources, when the second begins and ends.
        if not inside:
            inside.append(True)
            save(heads / "glioma" / "anna" / "bright.png", head(3, 30000))
            assert preprocess(heads, store, "--size", SIDE)[0] == 0
        return real(root, files)

    with monkeypatch.context() as patched:
        patched.setattr(windowed, "read_content", race)
        preprocess(heads, store, "--size", SIDE)
    assert len(windows(store)) == 3
    snapshot = current(StoreDir(store))
    groups = sorted(set(snapshot.windows["group"].tolist()))
    (high,) = {window_that_holds(snapshot.windows, group.decode()).high for group in groups} - {16384}

    def expected(number, peak):
        return np.rint(np.clip(head(number, peak).astype(float), 0, high) * 255 / high)

    # The task that ended last has made its own again; what it had not listed, the next one makes.
    found = pixels(store, heads)
    for number in range(4):
        assert np.array_equal(found[f"anna{number}.png"], expected(number, PEAKS[number]))
    snapshot = resolve(store)
    with Reader(store, snapshot) as reader:
        for number in range(1, 7):
            (image,) = reader.read(np.flatnonzero(snapshot.slice_index == number))
            assert np.array_equal(image, expected(number, 3500))
    preprocess(heads, store)
    assert np.array_equal(pixels(store, heads)["bright.png"], expected(3, 30000))
    assert verify(StoreDir(store)).problems == []
    assert preprocess(heads, store)[1].startswith("stored 0, already there 11, rejected 0")


def test_windows_are_kept_by_snapshots_and_compaction_and_go_with_their_patient(
    heads, store, preprocess, capsys
):
    preprocess(heads, store, "--size", SIDE, "--chunk-images", 2)
    expected = current(StoreDir(store)).windows.tolist()
    resolve(store)
    assert store_command.main(["compact", str(store), "--keep-days", "0"]) == 0
    snapshot = current(StoreDir(store))
    assert snapshot.windows.tolist() == expected
    assert load_snapshot(store / "snapshots" / resolve(store).digest).windows.tolist() == expected
    assert store_command.main(["retract", str(store), "--patient", "anna", "--yes"]) == 0
    assert windows(store) == {(0, 16384)}
    assert store_command.main(["verify", str(store)]) == 0
    capsys.readouterr()


def test_a_damaged_slice_is_made_again_in_the_window_that_is_recorded(heads, store, preprocess, capsys):
    preprocess(heads, store, "--size", SIDE)
    save(heads / "glioma" / "anna" / "late.png", head(9, 9000))
    preprocess(heads, store)
    before = pixels(store, heads)
    for chunk in (store / "chunks").glob("*.h5"):
        data = bytearray(chunk.read_bytes())
        for image in before.values():
            at = data.find(image.tobytes())
            if at >= 0 and image.any():
                data[at : at + image.size] = bytes(image.size)
        chunk.write_bytes(data)
    assert store_command.main(["verify", str(store)]) != 0
    assert store_command.main(["verify", str(store), "--repair", "--source", str(heads)]) == 0
    after = pixels(store, heads)
    assert all(np.array_equal(before[name], after[name]) for name in before)
    chunk.unlink()
    assert store_command.main(["verify", str(store), "--repair", "--source", str(heads)]) == 0
    assert all(np.array_equal(before[name], image) for name, image in pixels(store, heads).items())
    capsys.readouterr()


def test_of_a_large_group_some_pictures_spread_over_it_are_enough(heads, store, preprocess, monkeypatch):
    preprocess(heads, store, "--size", SIDE)
    counted = []
    real = group_reader.Histogram.add
    monkeypatch.setattr(
        group_reader.Histogram, "add", lambda self, grey: counted.append(grey) or real(self, grey)
    )
    monkeypatch.setattr(group_reader, "MOST_COUNTED", 2)
    other = store.with_name("other")
    preprocess(heads, other, "--size", SIDE)
    # The probe counts one of its own.
    assert [grey.shape for grey in counted].count((SIDE, SIDE)) == 4
    assert len(windows(other)) == 2
    save(heads / "glioma" / "anna" / "anna0.png", np.zeros((SIDE, SIDE), np.uint16))
    (heads / "glioma" / "anna" / "anna2.png").write_bytes(b"damaged")
    preprocess(heads, store.with_name("third"), "--size", SIDE)
    assert len(windows(store.with_name("third"))) == 2


def test_a_group_of_which_tasks_have_parts_has_the_window_of_the_whole(heads, store, preprocess):
    """By names that promise 8 bits, its pictures are dealt by their keys."""
    for number in range(6):
        save(heads / "glioma" / "dora" / f"{number}.png", head(number, 1000 * 2**number))
        (heads / "glioma" / "dora" / f"{number}.png").rename(heads / "glioma" / "dora" / f"{number}.jpg")
    preprocess(heads, store, "--size", SIDE)
    other = store.with_name("other")
    for task in range(3):
        preprocess(heads, other, "--size", SIDE, "--task", task, "--tasks", 3)
    assert windows(other) == windows(store)
    assert resolve(other).content_digest == resolve(store).content_digest
