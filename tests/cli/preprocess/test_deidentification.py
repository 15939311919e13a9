"""A store of DICOM says by which codes it is de-identified, and counts what its files say of themselves."""

import datetime
import json
import warnings

import numpy as np
import pytest
from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from mri_hpc.intake.decoding.dicom.dates import date_of
from mri_hpc.intake.decoding.dicom.deidentification import MEANINGS, statements_of
from mri_hpc.intake.decoding.dicom.reader import ask_pydicom, read_elements
from mri_hpc.storage.store import Store
from mri_hpc.store import main as store_main
from tests.cli.preprocess.test_dicom import SMALL, write
from tests.harness import dicom_phantoms as phantoms


def codes(*values):
    """The sequence of codes that a file lists."""
    items = []
    for value in values:
        item = Dataset()
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = value, "DCM", "Planted Meaning"
        items.append(item)
    return Sequence(items)


@pytest.fixture
def filled(tmp_path, preprocess, make_pictures):
    """A store of three series, of which two say something of themselves, and of pictures."""
    raw, store = tmp_path / "raw", tmp_path / "store"
    make_pictures(raw, 4)
    (raw / "glioma").mkdir(exist_ok=True)
    said = {
        "PatientIdentityRemoved": "YES",
        "DeidentificationMethod": "by Planted^Name",
        "LongitudinalTemporalInformationModified": "MODIFIED",
    }
    write(raw / "glioma", 1, DeidentificationMethodCodeSequence=codes("113100", "113107"), **said)
    write(raw / "glioma", 2, DeidentificationMethodCodeSequence=codes("113100", "4711023"), **said)
    write(raw / "glioma", 3, RecognizableVisualFeatures="PLANTED")
    preprocess(raw, store, *SMALL)
    return store


SAID = {
    "113100": 2, "113107": 1, "LongitudinalTemporalInformationModified MODIFIED": 2,
    "PatientIdentityRemoved YES": 2, "RecognizableVisualFeatures other": 1, "another code": 1,
}  # fmt: skip


def info(store, capsys, *options):
    capsys.readouterr()
    assert store_main(["info", str(store), *options]) == 0
    return capsys.readouterr().out


def test_the_store_says_what_was_done_and_what_files_say(filled, capsys):
    found = json.loads(info(filled, capsys, "--json"))["deidentified"]
    assert found == {"sources": 3, "by": ["113100"], "dates": "REMOVED", "statements": SAID}
    # Once more, of the totals that are kept.
    Store.open(filled).resolve()
    assert json.loads(info(filled, capsys, "--json"))["deidentified"] == found
    shown = " ".join(info(filled, capsys).split())
    basic = "de-identified 113100 Basic Application Confidentiality Profile"
    assert f"{basic} (of 3 DICOM sources, dates removed)" in shown
    assert "as files say 113100: 2, 113107: 1, " in shown
    assert store_main(["verify", str(filled)]) == 0


def test_what_files_say_is_added_up_over_commits(filled, tmp_path, capsys, preprocess):
    write(tmp_path / "raw" / "glioma", 4, PatientIdentityRemoved="YES")
    Store.open(filled).resolve()
    preprocess(tmp_path / "raw", filled, *SMALL)
    found = json.loads(info(filled, capsys, "--json"))["deidentified"]
    assert (found["sources"], found["statements"]) == (4, {**SAID, "PatientIdentityRemoved YES": 3})


def test_a_store_of_pictures_has_no_such_field(tmp_path, make_pictures, preprocess, capsys):
    make_pictures(tmp_path / "raw", 4)
    preprocess(tmp_path / "raw", tmp_path / "store", *SMALL)
    Store.open(tmp_path / "store").resolve()
    texts = [file.read_text() for file in (tmp_path / "store").rglob("*.json")]
    assert len(texts) > 2 and not [text for text in texts if "deidentified" in text]
    assert "de-identified" not in info(tmp_path / "store", capsys)


def test_with_ids_as_given_no_code_is_claimed(tmp_path, preprocess, capsys):
    (tmp_path / "raw" / "glioma").mkdir(parents=True)
    write(tmp_path / "raw" / "glioma", 1)
    preprocess(tmp_path / "raw", tmp_path / "store", *SMALL, "--ids", "as-given")
    assert json.loads(info(tmp_path / "store", capsys, "--json"))["deidentified"]["by"] == []
    assert "none: ids are as given" in info(tmp_path / "store", capsys)


def test_a_source_says_what_all_of_its_files_say(tmp_path, preprocess, capsys):
    folder = tmp_path / "raw" / "glioma"
    folder.mkdir(parents=True)
    write(folder, 1, which=range(3), BurnedInAnnotation="NO", PatientIdentityRemoved="YES")
    write(folder, 1, which=range(3, 6), BurnedInAnnotation="NO")
    preprocess(tmp_path / "raw", tmp_path / "store", *SMALL)
    found = json.loads(info(tmp_path / "store", capsys, "--json"))["deidentified"]
    assert found["statements"] == {"BurnedInAnnotation NO": 1}


def test_both_ways_of_reading_find_the_same_statements():
    made = phantoms.header(
        DeidentificationMethodCodeSequence=codes(*MEANINGS),
        BurnedInAnnotation="NO",
        PatientIdentityRemoved="NO",
    )
    data = phantoms.as_bytes(phantoms.with_pixels(made, np.zeros((8, 8), np.uint16)))
    expected = {*MEANINGS, "BurnedInAnnotation NO", "PatientIdentityRemoved NO"}
    assert statements_of(read_elements(data)) == statements_of(ask_pydicom(data)) == expected


DAYS = ("20190131", "20190302", "20240229")


def days_between(store):
    """Days from the first to the last date of each patient, and all dates."""
    found = Store.open(store).current()
    dates = [date.decode() for date in found.text("date", slice(None)).tolist()]
    of_patients = {}
    for patient, date in zip(found.text("patient", slice(None)).tolist(), dates, strict=True):
        of_patients.setdefault(patient, set()).add(datetime.date.fromisoformat(date))
    return {name: (max(days) - min(days)).days for name, days in of_patients.items()}, set(dates)


@pytest.fixture
def dated(tmp_path):
    """A source of three series of two patients, each with another date."""
    folder = tmp_path / "raw" / "glioma"
    folder.mkdir(parents=True)
    for number, day in enumerate(DAYS):
        patient = "P1" if number < 2 else "P2"
        write(folder, number + 1, PatientID=patient, StudyDate="20010101", AcquisitionDate=day)
    return tmp_path / "raw"


def test_dates_are_dropped_unless_they_are_asked_for_shifted(dated, tmp_path, preprocess, capsys):
    preprocess(dated, tmp_path / "plain", *SMALL)
    assert set(Store.open(tmp_path / "plain").current().text("date", slice(None)).tolist()) == {b""}
    status, _out, err = preprocess(dated, tmp_path / "plain", "--dates", "shifted")
    assert status == 2 and "dates dropped there, shifted here" in err
    preprocess(dated, tmp_path / "dated", *SMALL, "--dates", "shifted")
    between, dates = days_between(tmp_path / "dated")
    assert sorted(between.values()) == [0, 30] and len(dates) == 3
    assert not dates & {f"{day[:4]}-{day[4:6]}-{day[6:]}" for day in DAYS}
    found = json.loads(info(tmp_path / "dated", capsys, "--json"))["deidentified"]
    assert (found["by"], found["dates"]) == (["113100", "113107"], "MODIFIED")
    (tmp_path / "names.txt").write_text("\n".join((*DAYS, "20010101")))
    assert store_main(["verify", str(tmp_path / "dated"), "--privacy", str(tmp_path / "names.txt")]) == 0


def test_days_between_dates_hold_in_later_tasks_and_through_compaction(dated, tmp_path, preprocess):
    store = tmp_path / "store"
    preprocess(dated, store, *SMALL, "--dates", "shifted")
    write(dated / "glioma", 9, PatientID="P2", StudyDate="20240310")
    preprocess(dated, store)
    assert store_main(["compact", str(store)]) == 0
    assert sorted(days_between(store)[0].values()) == [10, 30]


def test_shifted_dates_need_a_key(dated, tmp_path, preprocess):
    status, _out, err = preprocess(dated, tmp_path / "s", "--dates", "shifted", "--ids", "as-given")
    assert status == 2 and "--dates shifted goes by the site's key, which --ids as-given does without" in err


@pytest.mark.parametrize(
    ("elements", "expected"),
    [
        ({"StudyDate": "20200102", "SeriesDate": "20200103"}, "2020-01-03"),
        ({"StudyDate": "20200102", "AcquisitionDateTime": "20200104101500.5"}, "2020-01-04"),
        ({"StudyDate": "18990101", "SeriesDate": ""}, None),
        ({"StudyDate": "20200102", "AcquisitionDate": "20201332"}, "2020-01-02"),
        ({}, None),
    ],
)
def test_the_day_is_that_of_acquisition_else_of_series_else_of_study(elements, expected):
    made = phantoms.header()
    with warnings.catch_warnings(), disable_value_validation():
        warnings.simplefilter("ignore")
        for name, value in elements.items():
            setattr(made, name, value)
        found = date_of(
            read_elements(phantoms.as_bytes(phantoms.with_pixels(made, np.zeros((8, 8), np.uint16))))
        )
    assert (found and found.isoformat()) == expected
