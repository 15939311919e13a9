"""Folders that stand where classes and patients do, and are called otherwise, or stand there twice."""

import pytest

from mri_hpc.intake.labels.doubts import Doubt
from mri_hpc.intake.labels.folder_doubts import doubts_of_folders
from mri_hpc.intake.labels.folder_labels import FolderLabels
from mri_hpc.intake.labels.label import Label
from mri_hpc.intake.labels.patient_pattern import PatientPattern


def kinds(*paths, pattern=None):
    """Words for the doubts about files."""
    return [doubt.kind for doubt in doubts_of_folders(paths, pattern)]


def below(classes, *patients):
    """A file of each patient in each class; {} in their name is the first letter of the class."""
    return [f"{name}/{patient.format(name[0])}/1.png" for name in classes for patient in patients]


@pytest.mark.parametrize(
    ("path", "label"),
    [
        ("glioma/axial/1.jpg", Label(label="glioma", plane=0)),
        ("glioma/Sagittal/P1/1.jpg", Label(label="glioma", patient="P1", plane=2)),
        ("glioma/P1/cor/1.jpg", Label(label="glioma", patient="P1", plane=1)),
        ("glioma/images/1.jpg", Label(label="glioma")),
        ("glioma/images/P1/1.jpg", Label(label="glioma", patient="P1")),
        ("glioma/DOE/img/1.jpg", Label(label="glioma", patient="DOE")),
        ("glioma/test/P1/1.jpg", Label(label="glioma", patient="P1", split=2)),
        ("train/glioma/test/1.jpg", Label(label="glioma", split=0)),
        ("glioma/t1/FLAIR/1.jpg", Label(label="glioma")),
        ("glioma/siteA/P1/1.jpg", Label(label="glioma", patient="siteA/P1")),
        ("glioma/siteA/1.jpg", Label(label="glioma")),
        ("glioma/hospital_2/axial/DOE/1.jpg", Label(label="glioma", patient="hospital_2/DOE", plane=0)),
        ("glioma/HGG/sub-01/1.jpg", Label(label="glioma", patient="sub-01")),
        ("glioma/glioma/1.jpg", Label(label="glioma")),
        ("no_tumor/No_tumor/1.jpg", Label(label="no_tumor")),
        ("1/1/1.jpg", Label(label="1", patient="1")),
        ("AD/ad/1.jpg", Label(label="AD", patient="ad")),
        ("glioma/2021-01-31/1.jpg", Label(label="glioma", patient="2021-01-31")),
        ("glioma/session_2/1.jpg", Label(label="glioma", patient="session_2")),
        ("glioma/session_2/DOE/1.jpg", Label(label="glioma", patient="DOE")),
        ("glioma/DOE/17/1.jpg", Label(label="glioma", patient="DOE")),
        ("glioma/scan 12/1.jpg", Label(label="glioma", patient="scan 12")),
        ("glioma/MR/1.jpg", Label(label="glioma", patient="MR")),
    ],
)
def test_planes_kinds_splits_and_sites_are_no_patients(path, label):
    assert repr(FolderLabels().of(path)) == repr(label)


def test_the_site_that_is_typed_stands_before_each_patient():
    labels = FolderLabels(site="B")
    assert labels.of("glioma/P1/1.jpg") == FolderLabels(site="B").of("glioma/P1/2.jpg")
    assert (labels.of("glioma/P1/1.jpg").patient, labels.of("glioma/1.jpg").patient) == ("B/P1", "")
    assert labels.site_of("glioma/P1/1.jpg") == "B"


def test_a_patient_in_two_splits_is_found_where_the_class_stands_above_the_split():
    from mri_hpc.base.errors import UserError

    with pytest.raises(UserError, match=r"split train \(below a\) and in split test \(below b\)") as caught:
        FolderLabels().check(["a/train/DOE/1.jpg", "b/test/DOE/2.jpg"])
    assert "DOE" not in str(caught.value)
    with pytest.raises(UserError, match=r"split train \(below train/a\) and in split test \(below test/a\)"):
        FolderLabels().check(["train/a/DOE/1.jpg", "test/a/DOE/2.jpg"])


def test_a_source_that_is_a_folder_above_splits_is_doubted():
    paths = [f"archive/{part}/{name}/1.jpg" for part in ("train", "test") for name in ("mild", "none")]
    FolderLabels().check(paths)
    (doubt,) = doubts_of_folders(paths)
    assert (doubt.kind, doubt.count, doubt.accept) == ("source-too-high", 4, "folders")
    assert "all images lie below one folder, 'archive', with folders of splits in it" in doubt.text
    assert kinds(*(f"glioma/{part}/1.jpg" for part in ("train", "test"))) == []


def test_class_folders_that_are_there_twice_are_doubted():
    copy = [f"brain_tumor_dataset/{name}/1.jpg" for name in ("yes", "no")]
    paths = ["yes/1.jpg", "no/1.jpg", "no/2.jpg"]
    assert kinds(*paths) == []
    (doubt,) = doubts_of_folders([*paths, *copy])
    assert (doubt.kind, doubt.count, doubt.accept) == ("classes-twice", 2, "folders")
    assert "the folder 'brain_tumor_dataset' holds folders that are called as other classes (no, yes)" in (
        doubt.text
    )


def test_class_folders_that_are_there_twice_below_splits_are_doubted():
    paths = below(["glioma", "pituitary"], "P1", "P2")
    there = [f"Training/{path}" for path in paths]
    assert kinds(*there, *(f"archive/Training/{path}" for path in paths)) == ["classes-twice"]


@pytest.mark.parametrize(
    "paths",
    [
        # Grades, and patients by number.
        below(["1", "2"], "1", "2"),
        # One patient of many is called as a class.
        [*below(["glioma", "adenoma"], *(f"{{}}{number}" for number in range(9))), "adenoma/glioma/1.png"],
    ],
)
def test_patients_that_are_called_as_classes_are_not_taken_for_a_second_copy(paths):
    assert "classes-twice" not in kinds(*paths)


def test_few_folders_of_many_folders_are_doubted_as_patients_with_what_to_type():
    paths = below(
        ["a", "b"], *(f"{site}/{{}}{number:03}{site}" for site in ("KUM", "Ulm") for number in range(3))
    )
    (doubt,) = doubts_of_folders(paths)
    assert (doubt.kind, doubt.count, doubt.accept) == ("folders-of-folders", 2, "folders")
    typed = doubt.text.partition("--patient-pattern '")[2].removesuffix("'")
    labels = FolderLabels(pattern=PatientPattern(typed))
    assert {labels.of(path).patient for path in paths} == {
        f"{site}/{name}00{number}{site}" for site in ("KUM", "Ulm") for name in "ab" for number in range(3)
    }
    assert kinds(*paths, pattern=labels.pattern) == []


@pytest.mark.parametrize(
    "paths",
    [
        # Patients with studies of unknown names.
        below(["a", "b"], *(f"{{}}{number}/{scan}" for number in range(9) for scan in ("left", "right"))),
        # One person with many.
        below(["a", "b"], *(f"P1/{number}" for number in range(9))),
        # Images beside the folders.
        below(["a", "b"], *(f"{{}}KUM/{number}" for number in range(9)), "{}KUM"),
        # A source that is a folder too high, which is said otherwise.
        below(["raw"], *(f"{name}/P{number}" for name in ("glioma", "other") for number in range(9))),
    ],
)
def test_patients_with_studies_are_not_doubted(paths):
    assert kinds(*paths) == []


def test_patients_of_one_number_below_several_folders_are_doubted_and_not_named():
    paths = below(["a", "b"], "KUM/P7", "Boston/P8")
    assert kinds(*paths) == []
    (doubt,) = doubts_of_folders([*paths, "a/Boston/P7/1.png"])
    assert doubt == Doubt(kind="patients-in-several", count=1, text=doubt.text, accept="folders")
    assert "P7" not in doubt.text
