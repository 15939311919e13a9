"""Promise 12: a group shares what is published, as its folder and umask say, and never the private folder."""

import os
import stat

import pytest

from mri_hpc import report
from mri_hpc import store as store_command

GROUP = 4711
STORE_KINDS = {"recipe.json", "chunks", "commits", "snapshots", "twins", "private"}
RUN_KINDS = {
    "settings.toml", "provenance.json", "DONE", "attempts", "checkpoints", "metrics.jsonl", "events.jsonl",
    "tensorboard", "model.safetensors", "predictions.csv", "report.html", "review",
}  # fmt: skip


@pytest.fixture
def shared(tmp_path):
    """A group's folder, as an administrator makes it: what is made in it belongs to the group."""
    folder = tmp_path / "shared"
    folder.mkdir()
    if os.geteuid() == 0:
        os.chown(folder, -1, GROUP)
    folder.chmod(0o2770)
    return folder


@pytest.fixture
def with_umask():
    """Sets the umask for one test."""
    before = os.umask(0)
    yield os.umask
    os.umask(before)


def grow_store(shared, preprocess, make_pictures):
    """A store with every kind of file: chunks, all kinds of commits, snapshots, private tables."""
    raw, store = shared.parent / "raw", shared / "store"
    make_pictures(raw, 12)
    assert preprocess(raw, store, "--size", 16, "--chunk-images", 4)[0] == 0
    table = raw / "corrected.csv"
    table.write_text("path,label\n" + f"{next(raw.rglob('*.jpg')).relative_to(raw)},meningeoma\n")
    for words in (
        ["relabel", store, "--labels", table, "--source", raw],
        ["retract", store, "--patient", "patient3", "--yes"],
        ["compact", store, "--keep-days", "7"],
        ["info", store],
    ):
        assert store_command.main([str(word) for word in words]) == 0
    assert {path.name.partition("-")[0] for path in (store / "commits").iterdir()} >= {
        "relabel",
        "retract",
        "compact",
    }
    assert {path.name for path in store.iterdir()} == STORE_KINDS
    return store


def modes(folder, private=None):
    """Mode of each path in a folder of the group, but the private ones."""
    found = [folder, *folder.rglob("*")]
    assert {path.stat().st_gid for path in found} == {folder.parent.stat().st_gid}
    assert all(path.stat().st_mode & stat.S_ISGID for path in found if path.is_dir())
    return {path: path.stat().st_mode & 0o777 for path in found if private not in (path, *path.parents)}


@pytest.mark.parametrize("umask", [0o002, 0o077], ids=["002", "077"])
def test_a_store_is_the_groups_by_folder_and_umask_and_its_private_folder_nobodys_else(
    shared, with_umask, umask, preprocess, make_pictures
):
    with_umask(umask)
    store = grow_store(shared, preprocess, make_pictures)
    private = store / "private"
    for path, mode in modes(store, private).items():
        assert mode == (0o777 if path.is_dir() else 0o666) & ~umask, path
    inside = [private, *private.rglob("*")]
    assert len(inside) >= 5
    for path in inside:
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600), path


def test_a_run_is_the_groups_by_folder_and_umask(shared, with_umask, new_run, start_ranks):
    with_umask(0o002)
    run = new_run("shared/run", model="shufflenet_v2_x0_5", epochs=1)
    world = start_ranks(run, ranks=1, break_all=[["umask", 0o002]])
    assert world.statuses() == [0], world.log()
    # The fixture's own, in place of Slurm's.
    world.logs[0].unlink()
    # Its store is that of other tests' runs, too.
    assert report.main([str(run.path), "--look-again"]) == 0
    assert {path.name for path in run.path.iterdir()} >= RUN_KINDS
    for path, mode in modes(run.path).items():
        assert mode == (0o775 if path.is_dir() else 0o664), path
