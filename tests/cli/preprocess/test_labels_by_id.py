"""Labels of DICOM by what stands in headers: series, study, accession number, patient."""

import csv
import json

import numpy as np
import pytest

from mri_hpc.storage.store import Store
from tests.harness import dicom_phantoms as phantoms

SHAPE = (40, 48, 2)
AFFINE = np.diag([3.0, 4.0, 5.0, 1.0])
SERIES = ((1, 1, "PLANTED-A"), (2, 1, "PLANTED-A"), (3, 2, "PLANTED-A"), (4, 3, "007"))
"""Number, study and patient of each."""
STUDIES = {number: str(phantoms.uid(9, number)) for number in (1, 2, 3)}


@pytest.fixture(scope="module")
def scans(tmp_path_factory):
    """Four series of three studies of two patients, all in one folder."""
    root = tmp_path_factory.mktemp("scans") / "raw"
    (root / "all").mkdir(parents=True)
    where = np.moveaxis(np.indices(SHAPE), 0, -1) - (np.array(SHAPE) - 1) / 2
    inside = np.linalg.norm(where[..., :2] / (21, 25), axis=-1) < 1
    for number, study, patient in SERIES:
        noise = np.random.default_rng(number).integers(0, 200, SHAPE)
        ids = {
            "StudyInstanceUID": STUDIES[study],
            "PatientID": patient,
            "AccessionNumber": f"PLANT{study:03d}",
        }
        voxels = (inside * (600 + 100 * number) + noise).astype(np.uint16)
        for place, made in enumerate(phantoms.classic(voxels, AFFINE, series=number, **ids)):
            (root / "all" / f"IM{number}_{place}").write_bytes(phantoms.as_bytes(made))
    return root


@pytest.fixture
def label(scans, store, preprocess, tmp_path):
    """Stores the scans with a table; returns the classes of the images, the counts, and what was said."""

    def label(text, *options):
        table = tmp_path / "labels.tsv"
        table.write_text(text)
        words = ("--size", 32, "--labels", table, "--json", *options)
        status, out, err = preprocess(scans, store, *words)
        assert status == 0, err
        return json.loads(out), err

    return label


def classes_in(store):
    snapshot = Store(store).current()
    return sorted(snapshot.text("label", row) for row in range(len(snapshot)))


@pytest.mark.parametrize(
    ("text", "classes"),
    [
        (f"SeriesInstanceUID,label\n{phantoms.uid(1)},x\n{phantoms.uid(4)},y\n", "xxyy"),
        (f"StudyInstanceUID\tdiagnosis\n{STUDIES[1]}\tx\n{STUDIES[3]}\ty\n", "xxxxyy"),
        ("Accession Number;class\nPLANT001;x\nPLANT003;y\n", "xxxxyy"),
        ("PatientID,label\nPLANTED-A,x\n007,y\n", "xxxxxxyy"),
        ("subject,label\nPLANTED-A,x\n", "xxxxxx"),
        (f"patient,study,label\nPLANTED-A,{STUDIES[2]},x\n007,,y\n", "xxyy"),
        (f"series_uid,study_uid,label\n{phantoms.uid(2)},,y\n,{STUDIES[1]},x\n", "xxyy"),
    ],
)  # fmt: skip
def test_a_table_labels_series_by_what_stands_in_their_headers(label, store, text, classes):
    counts, err = label(text)
    assert "".join(classes_in(store)) == classes
    missing = len(SERIES) - len(classes) // 2
    assert counts["rejected"] == missing == sum(counts["reasons"].values())
    assert all(reason.startswith("no label in CSV: no row of its") for reason in counts["reasons"])
    assert "PLANT" not in err and phantoms.ROOT not in err


def test_the_patient_and_the_study_of_a_row_by_series_are_those_of_the_header_unless_it_names_them(
    label, store
):
    rows = "".join(f"{phantoms.uid(number)},x,{'other' if number == 4 else ''}\n" for number in (1, 3, 4))
    label(f"series_uid,label,patient\n{rows}", "--ids", "as-given")
    snapshot = Store(store).current()
    found = {(snapshot.text("patient", row), snapshot.text("study", row)) for row in range(len(snapshot))}
    assert found == {("PLANTED-A", STUDIES[1]), ("PLANTED-A", STUDIES[2]), ("other", STUDIES[3])}


def test_rows_and_series_that_find_nothing_are_counted_and_named_in_the_private_folder_alone(label, store):
    _counts, err = label(f"accession,label\nPLANT001,x\nPLANT077,x\n{'PLANT078,y'}\n")
    assert (
        "2 rows of the CSV are of series or studies that are not in the source (the first: line 3 of" in err
    )
    assert "rejected 2: no label in CSV: no row of its series or study" in err
    assert "PLANT" not in err
    shown = b"".join(
        file.read_bytes()
        for file in store.rglob("*")
        if file.is_file() and store / "private" not in file.parents
    )
    assert b"PLANT" not in shown and phantoms.ROOT.encode() not in shown
    private = b"".join(file.read_bytes() for file in (store / "private" / "names").iterdir())
    assert b"all/IM3_" in private


def test_a_look_writes_a_row_a_study_which_labels_all_of_its_series(
    scans, store, preprocess, label, tmp_path
):
    table = tmp_path / "fill in.csv"
    _status, _out, _err = preprocess(scans, store, "--look", "--write-labels", table)
    assert table.stat().st_mode & 0o777 == 0o600
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert [list(row.values()) for row in rows] == [
        ["007", STUDIES[3], "PLANT003", ""],
        ["PLANTED-A", STUDIES[1], "PLANT001", ""],
        ["PLANTED-A", STUDIES[2], "PLANT002", ""],
    ]
    text = "".join(",".join([*list(row.values())[:3], f"class{number}\n"]) for number, row in enumerate(rows))
    counts, err = label(f"{','.join(rows[0])}\n{text}")
    assert (counts["stored"], counts["rejected"]) == (4, 0)
    assert classes_in(store) == ["class0"] * 2 + ["class1"] * 4 + ["class2"] * 2
    assert "ignored" not in err


def test_a_row_of_no_series_and_a_series_with_two_labels_are_refused_by_their_lines(
    scans, store, preprocess, tmp_path
):
    for text, says in (
        (
            "series_uid,label\n1.2.3,x\n,y\n",
            "line 3: series_uid is empty: name a series or a study, or remove",
        ),
        (
            "series_uid,label\n1.2.3,x\n1.2.3,y\n",
            "line 3: the same series_uid stands on line 2 too, with other",
        ),
    ):
        table = tmp_path / "labels.csv"
        table.write_text(text)
        status, _out, err = preprocess(scans, store, "--labels", table)
        assert status == 2 and says in err and "1.2.3" not in err
