"""Ids that may be of one person are found, and those that are not are left alone."""

import unicodedata

import pytest

from mri_hpc.intake.labels.csv_labels import read_csv
from mri_hpc.intake.labels.folder_labels import FolderLabels
from mri_hpc.intake.labels.images import find_images
from mri_hpc.intake.labels.labelled_files import find_labels
from mri_hpc.intake.labels.persons import Mention, find_alike, plainest, shown

DECOMPOSED = unicodedata.normalize("NFD", "José")


def mentions(*ids):
    return [Mention(patient=patient, where=f"line {number}") for number, patient in enumerate(ids, 2)]


@pytest.mark.parametrize(
    ("one", "other", "differ_in"),
    [
        ("007", "7", "leading zeros"),
        ("7", "7.0", "'.0'"),
        ("P-007", "P-7", "leading zeros"),
        ("sub-01_ses-1", "sub-1_ses-01", "leading zeros"),
        ("ab12", "AB12", "case"),
        ("P 12", "P12", "spaces"),
        ("P12\N{NO-BREAK SPACE}", "P12", "spaces"),
        ("José", DECOMPOSED, "Unicode form"),
        ("\N{FULLWIDTH DIGIT SEVEN}", "7", "Unicode form"),
        ("p 007", "P7.0", "their writing"),
        ("0", "00", "leading zeros"),
    ],
)
def test_ids_that_differ_in_their_writing_alone_are_a_doubt_that_says_in_what(one, other, differ_in):
    (doubt,) = find_alike(mentions(one, other), {})
    assert (doubt.first.where, doubt.second.where, doubt.differ_in) == ("line 2", "line 3", differ_in)
    assert shown([doubt]) == f"line 3 and line 2 (they differ in {differ_in})"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("7", "70"),
        ("1001", "101"),
        ("1 1", "11"),
        ("7.5", "7.50"),
        ("1.2.840.0", "1.2.840"),
        ("P7", "Q7"),
        ("0", ""),
        ("10", "1"),
    ],
)
def test_ids_that_differ_in_more_are_several_patients(one, other):
    assert find_alike(mentions(one, other), {}) == []
    assert plainest(one) != plainest(other)


def test_one_writing_for_all_is_no_doubt():
    assert find_alike(mentions("1.0", "2.0", "10.0", "1.0", "2.0"), {}) == []


def test_ids_that_were_stored_side_by_side_are_no_doubt_any_more_and_a_third_writing_is():
    known = {"007": "one stored as A", "7": "one stored as B"}
    assert find_alike(mentions("007", "7", "8"), known) == []
    doubts = find_alike(mentions("7.0", "7"), known)
    assert [doubt.first.where for doubt in doubts] == ["one stored as A", "one stored as B"]


def test_many_doubts_are_counted():
    doubts = find_alike(mentions(*[f"{n}" for n in range(1, 9)], *[f"0{n}" for n in range(1, 9)]), {})
    assert len(doubts) == 8
    assert shown(doubts).endswith(", and 5 more")


def test_tables_and_folders_give_ids_and_paths_in_one_unicode_form(tmp_path):
    table = tmp_path / "labels.csv"
    table.write_text(f"path,label,patient\né/1.png,a,{DECOMPOSED}\n", encoding="utf-8")
    labels = read_csv(table, tmp_path)
    on_a_mac = unicodedata.normalize("NFD", "é/1.png")
    assert labels.of(on_a_mac).patient == "José"
    assert labels.without_file([on_a_mac]) == []
    assert FolderLabels().of(f"a/{DECOMPOSED}/1.png").patient == "José"
    for word in ("José", DECOMPOSED):
        (tmp_path / "scans" / "x" / word).mkdir(parents=True, exist_ok=True)
        (tmp_path / "scans" / "x" / word / f"{len(word)}.png").touch()
    found = find_images([tmp_path / "scans" / "x" / word for word in ("José", DECOMPOSED)])
    assert {image.patient for image in found.images} == {"José"}


def test_an_id_keeps_its_text(tmp_path):
    table = tmp_path / "labels.csv"
    table.write_text("path,label,patient\n1.png,a,007\n2.png,a,1e3\n")
    assert [label.patient for label in read_csv(table, tmp_path).rows.values()] == ["007", "1e3"]


def test_a_row_of_a_patient_is_of_the_folder_that_a_mac_writes_otherwise(tmp_path):
    table = tmp_path / "labels.csv"
    table.write_text("patient,label\nJosé,a\n", encoding="utf-8")
    labels = find_labels(tmp_path, table)
    assert labels.of(f"{DECOMPOSED}/1.png").label == "a"
    assert [(one.patient, one.where, one.label) for one in labels.mentions([])] == [
        ("José", "line 2 of labels.csv", "a")
    ]


def test_ids_that_a_pattern_finds_are_held_against_others(tmp_path):
    labels = find_labels(tmp_path, None, patient_pattern="(?P<patient>[0-9]+)_")
    (doubt,) = find_alike(labels.mentions(["a/007_1.png", "b/7_2.png"]), {})
    assert (doubt.first.where, doubt.second.where) == ("a file in a", "a file in b")
