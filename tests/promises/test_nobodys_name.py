"""Promise 12, byte by byte: what is planted in sources is found nowhere outside the private folder."""

import itertools
import logging
import re
import sys
import warnings

import pytest

from mri_hpc import store as store_command
from mri_hpc.storage.store import Store, read_wanted, search_folder
from tests.harness.planted import Planted, plant_pictures, plant_series

SERIES = 200
CLASSES = ("glioma", "none")


@pytest.fixture(scope="module")
def planted(tmp_path_factory):
    """A tree of series and pictures, and what was planted in them."""
    found = Planted(tmp_path_factory.mktemp("planted") / "raw")
    for number in range(SERIES):
        plant_series(found, number, CLASSES[number % 2], slices=1 if number % 20 else 3)
    for label in CLASSES:
        plant_pictures(found, label, 4)
    return found


def names_in(folder, planted, passed_over=()):
    """Strings among those planted that are found below a folder, and where."""
    file = folder.parent / "planted.txt"
    lines = sorted(planted.strings)
    file.write_text("\n".join(lines))
    wanted = read_wanted(file)
    assert len(wanted.names) == len(lines) > 10_000
    found = search_folder(folder, wanted.names, passed_over=passed_over, progress=lambda paths: paths).found
    return {lines[one.line - 1]: one for one in found}


def test_each_string_is_in_the_sources(planted):
    assert names_in(planted.root, planted).keys() == planted.strings


@pytest.fixture
def loud(capsys):
    """Has libraries say all that they have to say; gives what was printed since the last command."""
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        handler = logging.StreamHandler(sys.stderr)
        logging.getLogger().addHandler(handler)
        yield lambda: "".join(capsys.readouterr())
        logging.getLogger().removeHandler(handler)


def test_no_planted_string_is_printed_or_written_outside_the_private_folder(
    planted, tmp_path, preprocess, loud
):
    store = tmp_path / "store"
    printed = ["".join(preprocess(planted.root, store, "--size", 32, "--look", "--json")[1:])]
    for options in (["--chunk-images", 8], ["--json"], ["--replace"]):
        status, out, err = preprocess(planted.root, store, "--size", 32, *options)
        assert status == 0
        printed += [out, err]
    table = tmp_path / "new.csv"
    path = next(planted.root.rglob("*.png")).relative_to(planted.root)
    table.write_text(f"path,label\n{path},glioma\nno such,glioma\n")
    for words in (
        ["relabel", store, "--labels", table, "--source", planted.root],
        ["compact", store],
        ["audit", store, "--report-only"],
        ["verify", store],
        ["info", store, "--json"],
        ["export", store, "--single", tmp_path / "outside" / "all.h5"],
        ["sheet", store, tmp_path / "outside" / "sheet.png"],
    ):
        (tmp_path / "outside").mkdir(exist_ok=True)
        assert store_command.main([str(word) for word in words]) == 0, words
    printed.append(loud())
    said = set(itertools.chain.from_iterable(re.findall(r"[\w.]+", text) for text in printed))
    assert not said & planted.strings
    assert not [one for text in printed for one in re.findall(r"PLANT[0-9A-F]+Q", text)]
    private = Store(store).private
    assert names_in(store, planted, passed_over=[private]) == {}
    assert names_in(tmp_path / "outside", planted) == {}
    assert len(names_in(private, planted)) > len(CLASSES)
