"""The page on what lies on disk names every column, field and event that the code writes, and no other."""

import dataclasses
import re

import numpy as np
import pytest

from mri_hpc.rundir.layout import RunDir
from mri_hpc.rundir.ledger import Kind
from mri_hpc.rundir.manifests import Manifest
from mri_hpc.storage.disk.columns import COLUMNS, TEXTS
from mri_hpc.storage.disk.commits import KINDS, Commit, Rejection, Relabel
from mri_hpc.storage.disk.layout import StoreDir
from mri_hpc.storage.disk.private_tables import HEADER, SEEN
from mri_hpc.storage.snapshot.catalogue import array_names
from mri_hpc.storage.snapshot.table import CHUNKS, COMPACTED, REJECTED, WITHHELD
from tests.docs.pages import ROOT, section_of

LAYOUT = ROOT / "docs" / "layout.md"
CHUNK, COMMIT, SNAPSHOT, PRIVATE, RUN = (
    section_of(LAYOUT, title)
    for title in ("chunks/ID.h5", "commits/ID.json", "snapshots/DIGEST/", "private/", "A run")
)


def first_cells(section):
    """What stands between backticks in the first cell of each row of the tables of a section."""
    cells = re.findall(r"^\| (.*?) \|", section, re.MULTILINE)
    return [name for cell in cells for name in re.findall(r"`([^`]+)`", cell)]


def row_of(section, name):
    return next(
        line for line in section.splitlines() if re.match(rf"\| [^|]*`{re.escape(name)}`[^|]* \|", line)
    )


def test_every_dataset_of_a_chunk_has_its_row():
    assert first_cells(CHUNK) == ["images", *(column.name for column in COLUMNS), *TEXTS]


@pytest.mark.parametrize("column", COLUMNS, ids=lambda column: column.name)
def test_the_type_of_a_column_is_that_of_the_code(column):
    width = f", (n, {column.width})" if column.width > 1 else ""
    assert f"| {np.dtype(column.dtype).name}{width} |" in row_of(CHUNK, column.name)


def test_every_field_of_a_commit_has_its_place():
    fields = [field.name for field in dataclasses.fields(Commit)]
    shown = [name for name in first_cells(COMMIT) if name in fields]
    assert sorted(shown) == sorted(fields)
    for name, kind in (("rejected", Rejection), ("relabels", Relabel)):
        row = row_of(COMMIT, name)
        assert [field.name for field in dataclasses.fields(kind) if f"`{field.name}`" not in row] == []
    assert [kind for kind in KINDS if f"`{kind}`" not in row_of(COMMIT, "kind")] == []


def test_every_column_of_a_snapshot_has_its_place():
    assert sorted(first_cells(SNAPSHOT)) == sorted(array_names())
    for name, dtype in (
        ("chunks", CHUNKS), ("compacted", COMPACTED), ("withheld", WITHHELD), ("rejected", REJECTED),
    ):  # fmt: skip
        assert [field for field in dtype.names if f"`{field}`" not in row_of(SNAPSHOT, name)] == []


def test_the_private_tables_are_those_of_the_code():
    assert f"`{HEADER}`" in PRIVATE
    assert f"records of {SEEN.itemsize} bytes" in PRIVATE
    assert [name for name in SEEN.names if f"`{name}` {SEEN[name].name}" not in PRIVATE] == []


def test_every_event_of_the_ledger_has_its_row():
    assert [name for name in first_cells(RUN) if name in list(Kind)] == [kind.value for kind in Kind]


def test_every_field_of_a_manifest_is_named():
    row = row_of(RUN, "checkpoints/STEP/")
    assert [field.name for field in dataclasses.fields(Manifest) if f"`{field.name}`" not in row] == []


def test_the_trees_name_what_a_store_and_a_run_hold():
    store, run = StoreDir(LAYOUT.parent), RunDir(LAYOUT.parent)
    of_store = (store.recipe, store.chunks, store.commits, store.snapshots, store.private)
    of_run = (
        run.settings, run.batch_size, run.recipe, run.attempts, run.submitit, run.checkpoints, run.metrics,
        run.events, run.tensorboard, run.model, run.predictions, run.provenance, run.report, run.done,
    )  # fmt: skip
    for title, paths in (("A store", of_store), ("A run", of_run)):
        tree = section_of(LAYOUT, title)
        assert [path.name for path in paths if not re.search(rf"^  {path.name}\b", tree, re.MULTILINE)] == []
