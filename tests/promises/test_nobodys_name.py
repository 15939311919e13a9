"""Promise 12, byte by byte: what is planted in sources is found nowhere outside the private folder."""

import itertools
import json
import logging
import re
import sys
import warnings

import pydicom
import pytest

from mri_hpc import store as store_command
from mri_hpc.storage.store import Store, read_wanted, search_folder
from tests.harness.planted import Planted, plant_pictures, plant_series

SERIES = 200
CLASSES = ("glioma", "none")
CAPTURED = "screenshot or secondary capture, not a slice as the scanner made it"
"""A series whose element for how it was digitised has a value is such a one, whatever that is."""


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
    assert len(wanted.names) == len(lines)
    found = search_folder(folder, wanted.names, passed_over=passed_over, progress=lambda paths: paths).found
    return {lines[one.line - 1]: one for one in found}


def test_each_string_is_in_the_sources(planted):
    assert len(planted.strings) > 10_000
    assert names_in(planted.root, planted).keys() == planted.strings


@pytest.fixture
def loud(capsys):
    """Has libraries say all that they have to say; gives (stdout, stderr) since the last command."""
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        handler = logging.StreamHandler(sys.stderr)
        logging.getLogger().addHandler(handler)
        yield capsys.readouterr
        logging.getLogger().removeHandler(handler)


def test_no_planted_string_is_printed_or_written_outside_the_private_folder(
    planted, tmp_path, preprocess, loud
):
    store = tmp_path / "store"
    _status, out, err = preprocess(planted.root, store, "--size", 32, "--look", "--json")
    printed = [out, err]
    reasons = json.loads(out)["rejected"]
    assert list(reasons) == [CAPTURED] and reasons[CAPTURED] < SERIES // 20
    series_stored = SERIES - reasons[CAPTURED]
    for options in (["--chunk-images", 8], ["--json"], ["--replace"]):
        status, out, err = preprocess(planted.root, store, "--size", 32, *options)
        assert status == 0
        printed += [out, err]
    plane = Store(store).current().plane
    # Pictures have no plane.
    assert int((plane >= 0).sum()) >= series_stored
    table = tmp_path / "new.csv"
    path = next(planted.root.rglob("*.png")).relative_to(planted.root)
    table.write_text(f"path,label\n{path},glioma\nno such,glioma\n")
    for words in (
        ["relabel", store, "--labels", table, "--source", planted.root],
        ["compact", store],
        ["verify", store],
        ["info", store, "--json"],
        ["export", store, "--single", tmp_path / "outside" / "all.h5"],
        ["sheet", store, tmp_path / "outside" / "sheet.png"],
    ):
        (tmp_path / "outside").mkdir(exist_ok=True)
        assert store_command.main([str(word) for word in words]) == 0, words
    printed += loud()
    assert store_command.main(["audit", str(store), "--report-only"]) == 0
    # To whoever may read the private folder, its stdout alone names files.
    out, err = loud()
    assert [line for line in out.splitlines() if "PLANT" in line and not line.startswith("    ")] == []
    printed.append(err)
    said = set(itertools.chain.from_iterable(re.findall(r"[\w.]+", text) for text in printed))
    assert not said & planted.strings
    assert not [one for text in printed for one in re.findall(r"PLANT[0-9A-F]+Q", text)]
    private = Store(store).private
    assert names_in(store, planted, passed_over=[private]) == {}
    assert names_in(tmp_path / "outside", planted) == {}
    assert len(names_in(private, planted)) > len(CLASSES)


def test_nor_of_a_table_of_ids_by_which_series_are_labelled(tmp_path, preprocess, loud):
    found = Planted(tmp_path / "raw")
    for number in range(1, 5):
        plant_series(found, number, "all", slices=1)
    heads = [pydicom.dcmread(file, stop_before_pixels=True) for file in found.root.rglob("*.dcm")]
    names = [found.text() for _head in heads]
    table = tmp_path / "ids.tsv"
    rows = [
        f"{head.StudyInstanceUID}\t{name}\t{'ab'[number % 2]}"
        for number, (head, name) in enumerate(zip(heads, names, strict=True))
    ]
    table.write_text("\n".join(["StudyInstanceUID\tsubject\tdiagnosis", *rows, f"{found.text()}\t\tc"]))
    printed = []
    for options in (["--look"], ["--json"], []):
        status, out, err = preprocess(
            found.root, tmp_path / "store", "--size", 32, "--labels", table, *options
        )
        assert status == 0
        printed += [out, err]
    printed += loud()
    assert not [text for text in printed for planted in found.strings if planted in text]
    private = Store(tmp_path / "store").private
    assert names_in(tmp_path / "store", found, passed_over=[private]) == {}
    assert {*names} & names_in(private, found).keys()
