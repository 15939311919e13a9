"""The table of images to which a chain objects holds nothing of what is retracted, and all the rest."""

import csv
from pathlib import Path

import pytest

from mri_hpc.base.access import replace_private
from mri_hpc.base.errors import UserError
from mri_hpc.chain import suspects
from mri_hpc.chain.suspects import Suspect, write_suspects
from mri_hpc.storage.store import Store
from mri_hpc.store import main as store_main

IMAGES = 12


@pytest.fixture
def kept(tmp_path, make_pictures, preprocess, monkeypatch):
    """A store of 12 images of several patients, and a suspect for each."""
    make_pictures(tmp_path / "raw", IMAGES)
    assert preprocess(tmp_path / "raw", tmp_path / "store", "--size", 16)[0] == 0
    monkeypatch.chdir(tmp_path)
    store = Store.open(tmp_path / "store")
    return store, store.resolve(), [Suspect(row=row, word="look", why="far off") for row in range(IMAGES)]


def rows_of(table):
    return list(csv.DictReader(Path(table).read_text().splitlines()))


def retract(store, *words):
    assert store_main(["retract", str(store.path), *words, "--why", "wrong", "--yes"]) == 0


def test_a_retraction_takes_its_images_out_of_the_table_and_leaves_the_rest_to_be_worked_through(kept):
    store, snapshot, doubted = kept
    table = write_suspects(store, snapshot, "raw", doubted)
    assert table is not None and table.stat().st_mode & 0o777 == 0o600
    first, *others = rows_of(table)
    retract(store, "--image", first["file"])
    assert rows_of(table) == others
    patient = others[0]["patient"]
    retract(store, "--patient", patient)
    left = [row for row in others if row["patient"] != patient]
    assert rows_of(table) == left and 0 < len(left) < len(others)
    assert table.stat().st_mode & 0o777 == 0o600
    with table.open("a") as file:
        # A line that cannot be read may be anybody's.
        file.write("look,torn\n")
    retract(store, "--image", left[0]["key"])
    assert rows_of(table) == left[1:]
    retract(store, "--image", *(row["key"] for row in left[1:]))
    assert not table.exists()


@pytest.mark.parametrize("when", ["before", "beside"])
def test_a_retraction_that_came_since_the_suspects_were_found_is_not_in_their_table(kept, monkeypatch, when):
    store, snapshot, doubted = kept
    key = f"{int(snapshot.key[3]):016x}"

    def replaced(path, data):
        replace_private(path, data)
        if key in data.decode():
            # Of the very moment: its own tidying does not find the table that is about to be there.
            path.unlink()
            retract(store, "--image", key)
            replace_private(path, data)

    if when == "before":
        retract(store, "--image", key)
    else:
        monkeypatch.setattr(suspects, "replace_private", replaced)
    rows = rows_of(write_suspects(store, snapshot, "raw", doubted))
    assert len(rows) == IMAGES - 1
    assert key not in {row["key"] for row in rows}


@pytest.mark.parametrize("error", [UserError("an ACL lets others in"), OSError("no space")])
def test_a_table_that_may_not_be_written_is_none_and_the_objection_stands(kept, monkeypatch, error):
    store, snapshot, doubted = kept

    def refuse(path, data):
        raise error

    monkeypatch.setattr(suspects, "replace_private", refuse)
    assert write_suspects(store, snapshot, "raw", doubted) is None
