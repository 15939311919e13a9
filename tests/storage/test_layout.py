import os
from pathlib import Path

import pytest

from mri_hpc.base.errors import UserError
from mri_hpc.storage.disk import layout
from mri_hpc.storage.disk.layout import StoreDir, compaction_id, open_store
from mri_hpc.storage.snapshot.catalogue import resolve


def test_a_private_folder_open_to_others_is_refused_also_by_whoever_finds_it_made_by_another_task(tmp_path):
    store = StoreDir(tmp_path / "store")
    store.private.mkdir(parents=True)
    store.private.chmod(0o755)
    for is_empty in (False, True):
        (store.private / "names").rmdir() if is_empty else (store.private / "names").mkdir()
        with pytest.raises(UserError, match=r"keeps no permissions \(mode 755 in place of 700\)"):
            store.make()
        assert store.private.exists() != is_empty
    store.make()
    store.recipe.touch()
    store.private.chmod(0o755)
    store.make()


@pytest.mark.parametrize("left_out", [{1}, {2}, {3}, {1, 2}, {2, 3}, {1, 2, 3}])
def test_compactions_that_a_listing_has_left_out_are_found(tmp_path, monkeypatch, left_out):
    """A listing is no picture of one moment."""
    store = StoreDir(tmp_path)
    store.commits.mkdir()
    ids = ["add-1", *(compaction_id(number) for number in (1, 2, 3))]
    for name in ids:
        store.commit(name).touch()
    hidden = {store.commit(compaction_id(number)) for number in left_out}
    listed = [path for path in store.commits.iterdir() if path not in hidden]
    monkeypatch.setattr(Path, "iterdir", lambda _folder: iter(listed))
    assert store.commit_ids() == ids


def test_a_compaction_that_is_not_there_is_not_made_up(tmp_path):
    store = StoreDir(tmp_path)
    store.commits.mkdir()
    store.commit(compaction_id(3)).touch()
    assert store.commit_ids() == [compaction_id(3)]


def test_a_folder_with_a_copy_of_a_recipe_as_runs_have_is_told_from_a_store(tmp_path):
    (tmp_path / "recipe.json").touch()
    with pytest.raises(UserError, match=r"found recipe\.json, no commits, as in a run.*name its store"):
        open_store(tmp_path)


def test_what_a_killed_repair_left_in_a_snapshot_is_swept_and_others_are_not_looked_into(filled, monkeypatch):
    store = open_store(filled)
    folder = store.snapshots / resolve(filled).digest
    looked_into = []
    remove = layout._remove
    monkeypatch.setattr(
        layout,
        "_remove",
        lambda folder, *rest, **more: looked_into.append(folder) or remove(folder, *rest, **more),
    )
    store.sweep()
    assert folder not in looked_into
    (folder / ".tmp-a-1-b-key.npy").touch()
    # Of another machine, long ago; a repair changes the time of the folder, as a new file does.
    os.utime(folder / ".tmp-a-1-b-key.npy", (1, 1))
    store.sweep()
    assert folder in looked_into
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


def test_half_written_tables_of_sources_are_swept_and_a_retraction_does_not_wait_until_they_are_old(tmp_path):
    """Of a task of another machine, so that nobody can tell whether it has ended."""
    store = StoreDir(tmp_path)
    store.make()
    left = [store.private / f".tmp-a-1-b-{name}" for name in ("delivery-raw.csv", "twins.csv", "twins.html")]
    made, other = store.made / ".tmp-a-1-b-host.jsonl", store.private / ".tmp-a-1-b-other"
    store.made.mkdir()
    for path in (*left, made, other):
        path.touch()
    store.sweep()
    assert all(path.exists() for path in (*left, made, other)), "a task may be at work on them"
    store.forget_pictures()
    assert not any(path.exists() for path in left)
    for path in (*left, made, other):
        path.touch()
        os.utime(path, (1, 1))
    store.sweep()
    assert not any(path.exists() for path in (*left, made, other))
