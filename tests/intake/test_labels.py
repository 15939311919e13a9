import math

import pytest

from mri_hpc.base.errors import BadSource, UserError
from mri_hpc.intake.csv_labels import read_csv
from mri_hpc.intake.folder_labels import FolderLabels
from mri_hpc.intake.labels import Label


@pytest.fixture
def csv(tmp_path):
    def write(text, encoding="utf-8"):
        file = tmp_path / "labels.csv"
        file.write_bytes(text.encode(encoding))
        return read_csv(file, tmp_path)

    return write


@pytest.mark.parametrize(
    ("path", "label"),
    [
        ("glioma/1.jpg", Label(label="glioma")),
        ("glioma/p1/1.jpg", Label(label="glioma", patient="p1")),
        ("glioma/p1/scan/1.jpg", Label(label="glioma", patient="p1")),
        ("Training/glioma/1.jpg", Label(label="glioma", split=0)),
        ("val/glioma/p1/1.jpg", Label(label="glioma", patient="p1", split=1)),
        ("Testing/no tumor/1.jpg", Label(label="no tumor", split=2)),
        ("test/1.jpg", Label(label="test")),
    ],
)
def test_folders_name_class_patient_and_split(path, label):
    assert repr(FolderLabels().of(path)) == repr(label)


def test_a_file_outside_class_folders_is_rejected():
    with pytest.raises(BadSource, match="not in a class folder"):
        FolderLabels().of("readme.txt")


def test_a_patient_in_two_split_folders_is_refused():
    paths = ["train/a/p1/1.jpg", "train/b/p1/1.jpg", "test/a/p2/1.jpg"]
    FolderLabels().check(paths)
    with pytest.raises(UserError, match=r"split train .* and in split test"):
        FolderLabels().check([*paths, "test/a/p1/2.jpg"])


def test_a_patient_in_two_split_folders_is_found_at_any_depth_and_not_named():
    with pytest.raises(UserError, match=r"\(below train/a\) and in split test \(below test/b\)") as caught:
        FolderLabels().check(["train/a/DOE/scan/1.jpg", "test/b/DOE/scan/left/2.jpg"])
    assert "DOE" not in str(caught.value)


@pytest.mark.parametrize(
    "names",
    [
        [f"MRN{number}" for number in range(1000, 1006)],
        [f"{number:08d}" for number in (17, 3020, 77001, 4, 9, 120)],
        [f"patient{number}" for number in range(7)],
        [f"sub-{number:02d}" for number in range(1, 10)],
        [f"P{number}" for number in range(1, 8)],
        [f"{number}" for number in range(1, 30)],
        [f"2024-0{month}-{month * 4:02d}" for month in range(1, 8)],
        [f"Case {number} of 2020" for number in range(1, 8)],
        [f"scan_{number}_{number + 1}" for number in range(1, 8)],
    ],
)
def test_classes_named_like_patients_are_refused_and_none_is_named(names):
    for below in ("{}/1.png", "train/{}/1.png", "{}/study/1.png"):
        with pytest.raises(UserError, match=f"{len(names)} classes named like patients") as refused:
            FolderLabels().refuse_patients(below.format(name) for name in names)
        assert not [name for name in names if len(name) > 2 and name in str(refused.value)]


@pytest.mark.parametrize(
    "names",
    [
        ["glioma", "meningioma", "notumor", "no_tumor", "pituitary", "metastasis", "grade1"],
        *([f"grade{number}" for number in range(first, 5)] for first in (0, 1)),
        *([f"class{number}" for number in range(first, 11)] for first in (0, 1)),
        [f"class_{number:02d}" for number in range(20)],
        [f"WHO2021 grade {number}" for number in range(1, 7)],
        [f"{number}" for number in range(4)],
        [f"{number}" for number in range(1, 11)],
        [f"subtype{number}" for number in range(1, 7)],
        [f"Pattern {number}" for number in range(1, 7)],
        ["MRN1000", "MRN1001"],
        [],
    ],
)
def test_usual_names_of_classes_are_not_taken_for_patients(names):
    for below in ("{}/1.png", "train/{}/1.png", "{}/patient/1.png"):
        FolderLabels().refuse_patients(below.format(name) for name in names)


def test_a_csv_gives_everything_that_it_knows(csv):
    labels = csv(
        "path,label,patient,study,fold,split,plane,plane_inferred,box_cx,box_cy,box_w,box_h\n"
        "a/1.jpg,glioma,P1,S1,3,validation,ax,1,0.5,0.25,0.1,0.2\n"
        "./b\\2.jpg,,,,,,Sagittal,,,,,\n"
    )
    assert labels.of("a/1.jpg") == Label(
        label="glioma", patient="P1", study="S1", fold=3, split=1, plane=0, plane_inferred=True,
        box=(0.5, 0.25, 0.1, 0.2),
    )  # fmt: skip
    second = labels.of("b/2.jpg")
    assert (second.label, second.patient, second.fold, second.split, second.plane) == ("", "", -1, -1, 2)
    assert math.isnan(second.box[0])


def test_a_csv_may_come_from_a_spreadsheet(csv):
    labels = csv('Path;Label;Kommentar\r\n"a;1.jpg";glioma;"zwei\r\nZeilen"\r\n;;\r\n', encoding="utf-8-sig")
    assert labels.of("a;1.jpg").label == "glioma"
    assert labels.ignored == ("kommentar",)


def test_absolute_paths_below_the_source_are_understood(csv, tmp_path):
    assert csv(f"path,label\n{tmp_path}/a/1.jpg,x\n").of("a/1.jpg").label == "x"


def test_a_file_that_the_csv_does_not_name_is_rejected(csv):
    with pytest.raises(BadSource, match="no label in CSV"):
        csv("path,label\na.jpg,x\n").of("b.jpg")


def test_rows_without_a_file_are_counted(csv):
    assert csv("path,label\na.jpg,x\nb.jpg,x\n").num_without_file(["a.jpg", "c.jpg"]) == 1


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "is empty: --labels takes a CSV with the columns path,label"),
        ("path,lable\na,x\n", "no column 'label', only path, lable; did you mean 'lable'"),
        ("path,label\na,x\na,y\n", r"line 3: the same path stands on line 2 too"),
        ("path,label,split\na,x,trian\n", r"line 2: unknown split 'trian'; did you mean 'train'"),
        ("path,label,plane\na,x,oblique\n", r"line 2: unknown plane 'oblique'"),
        ("path,label,fold\na,x,one\n", r"line 2: fold must be a whole number, found 'one'"),
        ("path,label,fold\na,x,-3\n", r"line 2: fold must be between"),
        ("path,label,box_cx,box_cy,box_w,box_h\na,x,0.1,,0.2,0.2\n", r"line 2: a box needs four numbers"),
        (
            "path,label,box_cx,box_cy,box_w,box_h\na,x,0.1,nan,0.2,0.2\n",
            r"line 2: a box is given in fractions",
        ),
        ("path,label,box_cx,box_cy,box_w,box_h\na,x,120,30,20,20\n", r"line 2: a box is given in fractions"),
        ("path,label\n,x\n", r"line 2: the path is empty"),
        (chr(34) + "path,label\n", "line 1: unexpected end of data"),
        ("path,label\n/elsewhere/a,x\n", r"line 2: the path is not below the source"),
        ("path,label,patient,fold\na,x,P,1\nb,x,P,2\n", r"in fold 1 \(line 2\) and in fold 2 \(line 3\)"),
        ("path,label,patient,split\na,x,P,test\nb,x,P,\n", r"in split test \(line 2\) and in split none"),
        ('path,label\n"a,x\n', r"after line 1: unexpected end of data"),
        ("path,label\nb/../../a,x\n", r"line 2: the path is not below the source"),
        ("path,label,patient\na,grade I, low,P1\n", r"line 2: more cells than columns"),
        ("path,label,label\na,x,y\n", r"has 2 columns 'label': keep one"),
        (f"path,label\na,{'x' * 256}\n", r"line 2: a label has at most 255 letters"),
        (
            'path,label,patient\na,x,"P\n1"\n',
            r"line 3: a patient has at most 255 letters, all of them printable",
        ),
    ],
)
def test_what_is_wrong_with_a_csv_is_said_with_its_line(csv, text, complaint):
    with pytest.raises(UserError, match=complaint):
        csv(text)


def test_empty_cells_beyond_the_header_and_detours_in_paths_are_harmless(csv):
    assert csv("path,label\nb/./c/../a,x,,\n").of("b/a").label == "x"


def test_more_classes_than_a_store_can_hold_are_refused_before_any_is_stored(csv, monkeypatch):
    monkeypatch.setattr("mri_hpc.intake.csv_labels.MOST_CLASSES", 2)
    with pytest.raises(UserError, match="more than 2 different labels"):
        csv("path,label\na,x\nb,y\nc,z\n")


def test_what_is_wrong_with_a_csv_is_said_without_its_paths(csv):
    for text in ("path,label\nDOE/a,x\nDOE/a,y\n", "path,label\n/DOE/a,x\n", "path,label\n../DOE/a,x\n"):
        with pytest.raises(UserError, match="line") as caught:
            csv(text)
        assert "DOE" not in str(caught.value)


def test_doubled_rows_that_agree_are_one(csv):
    assert csv("path,label,box_cx\na,x,\na,x,\n".replace(",box_cx", ",fold")).of("a").label == "x"


def test_tabs_may_separate_cells(csv):
    assert csv("path\tlabel\na, 1.jpg\tglioma\n").of("a, 1.jpg").label == "glioma"


def test_other_encodings_are_named(csv):
    with pytest.raises(UserError, match="not UTF-8"):
        csv("path,label\nmüller,x\n", encoding="latin-1")


def test_a_missing_csv_is_named(tmp_path):
    with pytest.raises(UserError, match=r"gone.csv does not exist"):
        read_csv(tmp_path / "gone.csv", tmp_path)
