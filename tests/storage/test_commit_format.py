"""A commit says its format, may gain fields, and its name does not follow from either."""

import pytest

from mri_hpc.base.sealed_json import seal, unseal
from mri_hpc.storage.disk.commits import Relabel, commit_id, publish_commit, publish_relabel, read_commit
from mri_hpc.storage.disk.layout import StoreDir

FACTS = Relabel(key="0" * 16, revision=1, label="glioma", patient="P1", study="", fold=-1, split=-1)


@pytest.fixture
def store(tmp_path):
    found = StoreDir(tmp_path)
    found.commits.mkdir()
    return found


def test_a_commit_says_its_format_and_written_again_it_is_the_one_that_is_there(store):
    publish_commit(store, chunk="", images=0, rejected=[], versions={"numpy": "2"})
    (path,) = store.commits.iterdir()
    assert path.stem == commit_id("", [])
    written = path.read_bytes()
    assert unseal(written)["format"] == 1
    publish_commit(store, chunk="", images=0, rejected=[], versions={"numpy": "3"})
    assert path.read_bytes() == written


def test_a_commit_of_before_and_one_that_has_gained_fields_are_read_alike(store):
    publish_relabel(store, [FACTS], "read again")
    (path,) = store.commits.iterdir()
    wanted, values = read_commit(store, path.stem), unseal(path.read_bytes())
    assert wanted.relabels == [FACTS]
    before = {name: value for name, value in values.items() if name != "format"}
    gained = {**values, "where": "node1", "relabels": [{**one, "by": "a"} for one in values["relabels"]]}
    for other in (before, gained):
        path.write_bytes(seal(other))
        assert read_commit(store, path.stem) == wanted
