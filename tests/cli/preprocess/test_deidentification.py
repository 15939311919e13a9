"""A store of DICOM says by which codes it is de-identified, and counts what its files say of themselves."""

import json

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

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
    assert found == {"sources": 3, "by": ["113100"], "dates": "REMOVED", "said": SAID}
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
    assert (found["sources"], found["said"]) == (4, {**SAID, "PatientIdentityRemoved YES": 3})


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
    assert found["said"] == {"BurnedInAnnotation NO": 1}


def test_both_ways_of_reading_find_the_same_statements():
    made = phantoms.header(
        DeidentificationMethodCodeSequence=codes(*MEANINGS),
        BurnedInAnnotation="NO",
        PatientIdentityRemoved="NO",
    )
    data = phantoms.as_bytes(phantoms.with_pixels(made, np.zeros((8, 8), np.uint16)))
    expected = {*MEANINGS, "BurnedInAnnotation NO", "PatientIdentityRemoved NO"}
    assert statements_of(read_elements(data)) == statements_of(ask_pydicom(data)) == expected
