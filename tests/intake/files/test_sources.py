import hashlib
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from mri_hpc.base.errors import UserError
from mri_hpc.intake.files.sources import (
    Source,
    Sources,
    check_root,
    list_sources,
    listing,
    root_name,
    source_key,
)
from mri_hpc.intake.files.units import Share, cut


def touch(root, *paths):
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).touch()


def test_a_key_is_the_beginning_of_a_hash_of_root_and_path():
    expected = hashlib.sha256("raw/glioma/ö 1.jpg".encode()).hexdigest()[:16]
    assert f"{source_key('raw', 'glioma/ö 1.jpg'):016x}" == expected
    assert source_key("raw", "a.dcm", "3") == source_key("raw", "a.dcm#3")


def test_where_a_root_lies_does_not_matter_but_its_name_does(tmp_path, monkeypatch):
    (tmp_path / "raw" / "inner").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "raw")
    assert root_name(Path()) == root_name(tmp_path / "raw") == root_name(Path("inner/..")) == "raw"


def test_leftovers_of_systems_and_hidden_folders_are_passed_over(tmp_path):
    touch(
        tmp_path, "a/1.jpg", "a/.DS_Store", "a/._1.jpg", ".git/2.jpg", "__MACOSX/a/1.jpg", "a/Thumbs.db",
        "a/.ipynb_checkpoints/1-checkpoint.jpg", "b c/'2'.jpg",
    )  # fmt: skip
    assert list(list_sources(tmp_path)) == ["a/1.jpg", "b c/'2'.jpg"]


def test_loops_of_links_end_and_linked_folders_are_followed(tmp_path):
    touch(tmp_path, "raw/a/1.jpg", "elsewhere/2.jpg")
    (tmp_path / "raw/a/up").symlink_to(tmp_path / "raw")
    (tmp_path / "raw/b").symlink_to(tmp_path / "elsewhere")
    assert list(list_sources(tmp_path / "raw")) == ["a/1.jpg", "b/2.jpg"]


def test_names_that_are_not_utf8_are_listed(tmp_path):
    (tmp_path / os.fsdecode(b"m\xfcller.jpg")).touch()
    (name,) = list_sources(tmp_path)
    assert os.fsencode(name) == b"m\xfcller.jpg"
    assert source_key("raw", name)
    assert listing(tmp_path, tmp_path / ".listing") == listing(tmp_path, tmp_path / ".listing") == [name]


def test_the_first_listing_of_a_job_serves_its_other_tasks(tmp_path):
    touch(tmp_path, "raw/1.jpg")
    assert listing(tmp_path / "raw", tmp_path / "shared") == ["1.jpg"]
    touch(tmp_path, "raw/2.jpg")
    assert listing(tmp_path / "raw", tmp_path / "shared") == ["1.jpg"]
    assert listing(tmp_path / "raw", None) == ["1.jpg", "2.jpg"]
    assert (tmp_path / "shared").stat().st_mode & 0o777 == 0o600


def test_a_source_that_is_no_folder_is_named(tmp_path):
    touch(tmp_path, "file")
    with pytest.raises(UserError, match="file is not a folder"):
        check_root(tmp_path / "file")
    with pytest.raises(UserError, match="gone does not exist"):
        check_root(tmp_path / "gone")


def test_every_key_belongs_to_exactly_one_share():
    keys = np.array([source_key("raw", f"{number}.jpg") for number in range(500)], "<u8")
    assert keys.max() > 2**63
    for count in (1, 4, 7):
        taken = sum(Share(index=i, count=count).holds(keys).astype(int) for i in range(count))
        assert taken.tolist() == [1] * len(keys)


@pytest.mark.parametrize(("index", "count"), [(4, 4), (-1, 4), (0, 0)])
def test_a_share_that_cannot_be_is_refused(index, count):
    with pytest.raises(UserError, match="--task must be between"):
        Share(index=index, count=count)


def test_units_hold_at_most_their_size():
    assert [list(unit) for unit in cut(range(7), 3)] == [[0, 1, 2], [3, 4, 5], [6]]


@pytest.fixture
def deep_root(tmp_path, monkeypatch):
    """A file below 1,200 folders, one whose path is longer than the system takes, and one beside them."""
    root = tmp_path / "raw"
    touch(root, "z.jpg")
    for letters, depth in ((1, 1200), (250, 20)):
        monkeypatch.chdir(root)
        for _level in range(depth):
            Path("d" * letters).mkdir()
            os.chdir("d" * letters)
        Path("1.jpg").touch()
    monkeypatch.chdir(tmp_path)
    yield root
    # Deeper than what pytest can remove.
    subprocess.run(["rm", "-rf", root], check=True)


def test_folders_deeper_than_the_stack_and_paths_longer_than_the_system_takes_end_nothing(deep_root):
    deep, too_long, last = list_sources(deep_root)
    assert deep == "d/" * 1200 + "1.jpg"
    assert set(too_long) == {"d", "/"}
    assert last == "z.jpg"


def test_sources_of_several_files_keep_them_wherever_they_are_taken():
    keys, starts = np.array([5, 6, 7], "<u8"), np.array([0, 1, 3, 4])
    sources = Sources(keys=keys, files=["a", "b.hdr", "b.img", "c"], starts=starts)
    one, pair, last = (
        Source(key=5, files=("a",)),
        Source(key=6, files=("b.hdr", "b.img")),
        Source(key=7, files=("c",)),
    )
    assert list(sources) == [one, pair, last]
    assert list(sources.take(np.array([2, 1]))) == [last, pair]
    assert list(sources.take(np.array([1])).take(np.array([0]))) == [pair]
    assert list(sources[1:]) == [pair, last]
    assert list(sources[1:][1:5]) == [last]
    assert sources.paths == ["a", "b.hdr", "c"]


def test_a_share_takes_whole_sources():
    keys = np.array([4, 5, 6], "<u8")
    sources = Sources(keys=keys, files=["a", "b", "c.hdr", "c.img"], starts=np.array([0, 1, 2, 4]))
    assert [source.files for source in Share(index=0, count=2).of(sources)] == [("a",), ("c.hdr", "c.img")]
    files = Sources.of_files(keys, ["a", "b", "c"])
    assert list(Share(index=1, count=2).of(files)) == [Source(key=5, files=("b",))]
