import csv
import io
from pathlib import Path

import numpy as np
import pytest

from mri_hpc.intake.decoding.recipe import load_recipe
from mri_hpc.intake.labels.folder_labels import FolderLabels
from mri_hpc.intake.labels.pseudonyms import Pseudonyms, site_key
from mri_hpc.storage.disk.chunk_file import read_header
from mri_hpc.storage.disk.commits import Commit
from mri_hpc.storage.disk.evidence import Evidence, evidence_csv, publish_evidence
from mri_hpc.storage.disk.layout import open_store
from mri_hpc.storage.disk.private_tables import NAMES, names_csv, read_names, read_seen, sources_of
from mri_hpc.storage.snapshot.catalogue import current
from mri_hpc.storage.snapshot.retractions import of_commits
from mri_hpc.storage.upkeep import tidying
from mri_hpc.storage.upkeep.compaction import compact
from mri_hpc.storage.upkeep.retraction import look_for, retract
from mri_hpc.storage.upkeep.salvage import Origin, Salvage
from mri_hpc.storage.upkeep.tidying import tidy
from mri_hpc.storage.upkeep.verify import verify


def row(number, path=None, patient=None):
    key, patient = f"{number:016x}", patient or f"p{number}"
    return (key, path or f"glioma/{patient}/{number}.png", patient, f"P{patient}", "", "", "")


def rows_of(data):
    return [tuple(found.values()) for found in read_names(data)]


def written_plainly(rows):
    """As a CSV that knows nothing of line ends in paths."""
    text = io.StringIO()
    csv.writer(text).writerows([NAMES, *rows])
    return text.getvalue().encode("utf-8", "surrogateescape")


@pytest.fixture
def folded_while_read(filled, monkeypatch):
    """A store of which all tables of names are folded right after the first of them was read."""
    store, read = open_store(filled), Path.read_bytes
    snapshot = current(store)
    monkeypatch.setattr(tidying, "MOST_FILES", 1)

    def read_and_fold(path):
        data = read(path)
        if path.parent == store.names:
            monkeypatch.setattr(Path, "read_bytes", read)
            tidy(store, snapshot.retractions)
        return data

    assert len(list(store.names.iterdir())) == 8
    monkeypatch.setattr(Path, "read_bytes", read_and_fold)
    return store


def test_sources_are_found_in_tables_that_are_folded_meanwhile(folded_while_read):
    keys = current(folded_while_read).key.tolist()
    tables = sorted(folded_while_read.names.iterdir())
    assert len(sources_of(folded_while_read, keys, tables[:2])) == 60
    assert len(list(folded_while_read.names.iterdir())) == 1


def test_a_patient_is_found_in_tables_that_are_folded_meanwhile(folded_while_read, tmp_path):
    name = Pseudonyms(site_key(tmp_path / "site.key")).patient("patient3")
    assert len(look_for(folded_while_read, name, given=name).keys) == 9
    assert len(list(folded_while_read.names.iterdir())) == 1


def test_damaged_images_are_found_in_tables_that_are_folded_meanwhile(folded_while_read, tmp_path):
    store = folded_while_read
    sources = Origin(
        root=tmp_path / "raw",
        recipe=load_recipe(store.recipe),
        labels=FolderLabels(),
        pseudonyms=lambda: Pseudonyms(None),
    )
    columns = read_header(next(store.chunks.iterdir())).columns
    found, lost = Salvage(store, verify(store), sources).pixels_in_sources(columns, range(4))
    assert (len(found), lost) == (4, [])
    assert len(list(store.names.iterdir())) == 1


def test_a_table_that_can_never_be_read_holds_nobody_up(filled):
    store = open_store(filled)
    (store.names / "link.csv").symlink_to("nowhere")
    assert len(sources_of(store, current(store).key.tolist())) == 60


ODD = ("a\nb", "a\r\nb", "\n", 'a,"b"\n', "a\udcffb", "a\u2028b\x0bc", "a\\nb", "nn/n/r")


@pytest.mark.parametrize("path", ODD)
def test_every_path_takes_one_line_and_comes_back(path):
    rows = [row(1), row(2, f"glioma/{path}"), row(3)]
    data = names_csv(rows)
    assert rows_of(data) == rows
    lines = list(csv.reader(io.StringIO(data.decode("utf-8", "surrogateescape"), newline="")))
    assert len(lines) == data.count(b"\n") == 4
    assert tuple(lines[0]) == NAMES


@pytest.mark.parametrize("path", [path for path in ODD if not {"\n", "\r"} & {*path}])
def test_tables_that_were_written_without_a_word_for_line_ends_are_read(path):
    rows = [row(1), row(2, f"glioma/{path}"), row(3)]
    assert rows_of(written_plainly(rows)) == rows


@pytest.mark.parametrize("count", [20, 5000])
def test_a_quote_that_begins_a_cell_takes_no_other_line_with_it(count):
    rows = [row(number) for number in range(count)]
    data = bytearray(names_csv(rows))
    data[data.index(b"glioma/p7/")] = ord('"')
    found = rows_of(bytes(data))
    assert found[7] == row(7, '"lioma/p7/7.png')
    assert found[:7] + found[8:] == rows[:7] + rows[8:]


def test_one_flipped_bit_costs_at_most_the_two_lines_that_it_lies_between():
    rows = [row(1), row(2, "glioma/a, b.png"), row(3, 'glioma/"a".png'), row(4)]
    good = names_csv(rows)
    for position in range(len(good)):
        for bit in range(8):
            data = bytearray(good)
            data[position] ^= 1 << bit
            line = good[:position].count(b"\n")
            others = {*rows[: max(line - 1, 0)], *rows[line + (good[position : position + 1] == b"\n") :]}
            assert others <= {*rows_of(bytes(data))}, (position, bit)


def test_a_retracted_patient_is_found_in_a_damaged_table_and_no_line_of_theirs_stays(filled, tmp_path):
    store, name = open_store(filled), Pseudonyms(site_key(tmp_path / "site.key")).patient("patient3")
    retracted = len(look_for(store, name, given=name).keys)
    table = [found for file in store.names.iterdir() for found in rows_of(file.read_bytes())]
    for file in store.names.iterdir():
        file.unlink()
    others = [row(number) for number in range(3000)]
    data = bytearray(names_csv([*table, *others]))
    first = data.index(b"patient3/")
    start = data.rindex(b"\n", 0, first) + 1
    data[start] = ord('"')
    data[data.index(b",", start) + 1] = ord('"')
    (store.names / "all.csv").write_bytes(data)
    retraction = look_for(store, name, given=name)
    assert (len(retraction.keys), retraction.images) == (retracted, retracted)
    retract(store, retraction, "")
    compact(store)
    left = b"".join(file.read_bytes() for file in store.names.iterdir())
    assert b"patient3" not in left
    assert len(rows_of(left)) == 60 - retracted + len(others)


def test_only_tables_in_which_something_was_retracted_are_written_anew(filled, tmp_path):
    store, name = open_store(filled), Pseudonyms(site_key(tmp_path / "site.key")).patient("patient3")
    apart = store.names / f"add-{0:032x}.csv"
    apart.write_bytes(names_csv([row(2), row(1)]))
    before = {file: file.read_bytes() for file in (*store.names.iterdir(), *store.seen.iterdir())}
    retraction = look_for(store, name, given=name)
    retract(store, retraction, "")
    for file, data in before.items():
        is_of = b"patient3" in data if file.suffix == ".csv" else _holds(data, retraction.keys)
        assert file.exists() != is_of
    assert apart.read_bytes() == before[apart]
    after = {file: file.stat().st_ino for file in (*store.names.iterdir(), *store.seen.iterdir())}
    compact(store)
    assert {file: file.stat().st_ino for file in (*store.names.iterdir(), *store.seen.iterdir())} == after


def test_retracted_images_are_no_longer_among_what_was_seen(filled, tmp_path):
    store, name = open_store(filled), Pseudonyms(site_key(tmp_path / "site.key")).patient("patient3")
    retraction = look_for(store, name, given=name)
    assert any(_holds(file.read_bytes(), retraction.keys) for file in store.seen.iterdir())
    retract(store, retraction, "")
    assert not any(_holds(file.read_bytes(), retraction.keys) for file in store.seen.iterdir())
    assert sum(len(read_seen(file.read_bytes())) for file in store.seen.iterdir()) == 60 - retraction.images


def _holds(data, keys):
    return bool(np.isin(read_seen(data)["key"], np.array(keys, "<u8")).any())


def test_a_line_of_who_is_one_person_that_cannot_be_read_goes_with_the_next_retraction(filled):
    """It may be of the patient who was retracted."""
    store = open_store(filled)
    rows = [
        Evidence(patient_name=f"P{n}", patient=f"id {n}", where="test", other_name="P0", is_same="yes")
        for n in range(3)
    ]
    publish_evidence(store, rows)
    (path,) = store.persons.iterdir()
    path.write_bytes(path.read_bytes().replace(b"P1,", b"P1?"))
    tidy(store, of_commits([Commit(id="", kind="retract", retracted_patients=["P9"])]))
    (path,) = store.persons.iterdir()
    assert path.read_bytes() == evidence_csv([rows[0], rows[2]])
