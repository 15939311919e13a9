"""``store verify --privacy``: which names stand in what may be shared, without telling them."""

import json
from pathlib import Path

import pytest

from mri_hpc.store import main

FINISHED = Path(__file__).parents[2] / "fixtures/v0.1.0/whole/shufflenet_v2_x0_5-f538d417"
NAMES = "Zacharias\nLi\npatient3\n"


@pytest.fixture
def store(tmp_path, make_pictures, preprocess):
    """Its sources lie below a folder of a clinic; each patient's folder is named by the id."""
    make_pictures(tmp_path / "zacharias clinic", 20)
    assert preprocess(tmp_path / "zacharias clinic", tmp_path / "store", "--size", 16)[0] == 0
    return tmp_path / "store"


@pytest.fixture
def look(tmp_path, capsys):
    """Runs the check; returns its exit status, stdout and stderr."""

    def run(folder, *options, names=NAMES):
        (tmp_path / "NAMES.txt").write_text(names)
        capsys.readouterr()
        status = main(["verify", str(folder), "--privacy", str(tmp_path / "NAMES.txt"), *options])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run


def num_files(folder):
    return sum(path.is_file() for path in folder.rglob("*"))


def test_a_store_of_pseudonyms_names_nobody_outside_its_private_folder(store, look, tmp_path):
    status, out, err = look(store)
    assert (status, err) == (0, "")
    left_out, found = out.splitlines()
    assert left_out == f"left out, too short to mean anything: line 2 of {tmp_path}/NAMES.txt"
    files = num_files(store) - num_files(store / "private")
    assert found.startswith(f"none of the 2 names were found in {files} files (")
    assert any(b"patient3" in path.read_bytes() for path in (store / "private" / "names").iterdir())


def test_a_store_of_ids_as_given_names_them_and_the_check_says_where_but_not_whom(
    look, tmp_path, make_pictures, preprocess
):
    make_pictures(tmp_path / "raw", 20)
    store = tmp_path / "store"
    assert preprocess(tmp_path / "raw", store, "--size", 16, "--ids", "as-given")[0] == 0
    status, out, err = look(store)
    assert status == 2
    assert "patient3" not in out + err
    chunk = next((store / "chunks").iterdir())
    offset = chunk.read_bytes().index(b"patient3")
    place = f"line 3 of {tmp_path}/NAMES.txt in chunks/{chunk.name}, byte {offset}"
    assert f"  found: {place}\n" in out
    assert f"{store}: 1 of the 2 names in {tmp_path}/NAMES.txt was found, the first: {place}" in err
    status, out, _err = look(store, "--json")
    found = json.loads(out)
    assert (status, found["names"], found["too_short"]) == (2, 2, [2])
    assert {"line": 3, "file": f"chunks/{chunk.name}", "offset": offset} in found["found"]


def test_a_runs_folder_can_be_looked_through(look):
    status, out, _err = look(FINISHED)
    assert status == 0
    assert f"were found in {num_files(FINISHED)} files" in out
    assert look(FINISHED, names="nobody here")[1].startswith("the name was not found in ")
    status, out, _err = look(FINISHED, names="model.safetensors")
    assert "in the name of ***\n" in out
    assert status == 2


@pytest.mark.parametrize("option", [["--sample", "1%"], ["--repair", "--source", "raw"]])
def test_it_goes_with_no_other_way_to_verify(option, store, look):
    status, _out, err = look(store, *option)
    assert (status, "leave --repair and --sample out" in err) == (2, True)


def test_neither_a_store_nor_a_run_is_refused(look, tmp_path):
    assert "is not a store" in look(tmp_path)[2]
