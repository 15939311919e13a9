import math

import pytest

from mri_hpc.base.errors import BadSource, UserError
from mri_hpc.intake.labels.csv_labels import read_csv
from mri_hpc.intake.labels.folder_labels import FolderLabels
from mri_hpc.intake.labels.label import Label
from mri_hpc.intake.labels.labelled_files import find_labels


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
    assert csv("path,label\na.jpg,x\nb.jpg,x\n").without_file(["a.jpg", "c.jpg"]) == [3]


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
    monkeypatch.setattr("mri_hpc.intake.labels.label_table.MOST_CLASSES", 2)
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


@pytest.mark.parametrize("word", ["nan", "NaN", "NA", "n/a", "None", "null", "<NA>"])
def test_words_for_nothing_are_no_label_no_patient_and_no_split(csv, word):
    labels = csv(
        f"path,label,patient,study,fold,split,box_cx,box_cy,box_w,box_h\na,{word},{word},{word},{word},{word}"
        f",{word},{word},{word},{word}\nb,no,N,,,,,,,\n"
    )
    assert repr(labels.of("a")) == repr(Label())
    assert labels.of("b").label == "no"
    assert labels.classes() == ["no"]
    (doubt,) = labels.doubts
    assert (doubt.kind, doubt.count, doubt.accept) == ("labels-missing", 1, None)
    assert f"1 rows have {word!r} in place of a label" in doubt.text


@pytest.mark.parametrize(
    ("header", "taken"),
    [
        ("image,diagnosis,PatientID", "'image' as path, 'diagnosis' as label, 'patientid' as patient"),
        ("Image Path;Class;Subject", "'image path' as path, 'class' as label, 'subject' as patient"),
        ("filename\ttarget\tparticipant_id", "'filename' as path, 'target' as label"),
        ("path,category,patient_id", "'category' as label, 'patient_id' as patient"),
        ("path,label,subject-id", "taken for known ones: 'subject-id' as patient"),
    ],
)
def test_columns_that_are_called_otherwise_are_taken_and_said(csv, header, taken):
    row = "a.png,glioma,P1"
    for separator in ";\t":
        row = row.replace(",", separator) if separator in header else row
    labels = csv(f"{header}\n{row}\n")
    assert (labels.of("a.png").label, labels.of("a.png").patient) == ("glioma", "P1")
    (doubt,) = labels.doubts
    assert taken in doubt.text
    assert doubt.accept is None


def test_a_column_of_the_own_name_goes_before_others(csv):
    labels = csv("path,label,patient,class,subject,image\na,x,P1,y,P2,b\n")
    assert (labels.of("a").label, labels.of("a").patient) == ("x", "P1")
    assert labels.ignored == ("class", "image", "subject")


@pytest.mark.parametrize(
    ("header", "complaint"),
    [
        ("path,class,diagnosis", "no column 'label' but 'class' and 'diagnosis': call one of them label"),
        ("path,label,subject,patient_id", "no column 'patient' but 'subject' and 'patient_id'"),
        ("file,image,label", "no column 'path' but 'file' and 'image'"),
        ("path,class,class", "no column 'label' but 'class' and 'class'"),
    ],
)
def test_two_columns_that_could_be_one_are_refused(csv, header, complaint):
    with pytest.raises(UserError, match=complaint):
        csv(header + "\na,b,c,d\n")


@pytest.fixture
def by_patient(tmp_path):
    """Opens a table by patient that is given, and the one in the source that says whose files are."""

    def open_labels(text, own="", **options):
        table = tmp_path / "given.csv"
        table.write_text(text)
        (tmp_path / "raw").mkdir(exist_ok=True)
        if own:
            (tmp_path / "raw" / "labels.csv").write_text(own)
        return find_labels(tmp_path / "raw", table, **options)

    return open_labels


def test_a_row_a_patient_labels_all_files_in_the_folder_of_the_patient(by_patient):
    labels = by_patient("patient,label,study,fold,split\nP1,glioma,S1,2,test\nP2,no,,,\nP3,no,,,\n")
    assert labels.of("P1/t1/3.png") == labels.of("anywhere/P1/4.png")
    assert repr(labels.of("P1/1.png")) == repr(
        Label(label="glioma", patient="P1", study="S1", fold=2, split=2)
    )
    assert labels.of("P2.png").label == labels.of("x/P2/1.png").label == "no"
    assert labels.without_file(["P1/1.png", "P2/1.png", "P4/1.png"]) == [4]


def test_a_file_whose_patient_has_no_row_has_no_label(by_patient):
    labels = by_patient("patient,label\nP1,glioma\n1,glioma\n2,no\n")
    for path in ("P4/1.png", "overview.png", "P11/P1_2.png"):
        with pytest.raises(BadSource, match="no label in CSV: no row of its patient"):
            labels.of(path)
    with pytest.raises(BadSource, match="its folders name several patients"):
        labels.of("1/2/3.png")
    # The number of a slice is no patient where the folder is one.
    assert labels.of("1/2.png").label == "glioma"
    assert labels.of("images/2.png").label == labels.of("2.png").label == "no"


def test_a_row_a_study_labels_its_files(by_patient):
    labels = by_patient("patient,study,label\nP1,2020,no\nP1,2021,glioma\nP2,2020,no\n")
    assert (labels.of("P1/2020/1.png").label, labels.of("P1/2021/1.png").label) == ("no", "glioma")
    assert labels.of("P2/1.png").study == "2020"
    with pytest.raises(BadSource, match="no label in CSV: no row of its study"):
        labels.of("P1/2022/1.png")


def test_a_pattern_finds_the_patient_of_a_table_by_patient(by_patient):
    pattern = r"(?P<patient>P\d+)_(?P<study>\d)"
    labels = by_patient("patient,study,label\nP1,1,no\nP1,2,glioma\n", patient_pattern=pattern)
    assert (labels.of("all/P1_1_7.png").label, labels.of("all/P1_2_7.png").label) == ("no", "glioma")


def test_a_table_in_the_source_finds_the_patients_of_a_table_by_patient(by_patient):
    labels = by_patient(
        "patient,label\nP1,glioma\nP2,no\n", "path,patient,plane\na.png,P1,cor\nb.png,P3,ax\n"
    )
    assert (labels.of("a.png").label, labels.of("a.png").plane) == ("glioma", 1)
    with pytest.raises(BadSource, match="no row of its patient"):
        labels.of("b.png")
    assert len(labels.without_file(["a.png", "b.png"])) == 1


def test_sites_of_a_table_by_patient_are_found_as_folders_or_as_typed(by_patient):
    labels = by_patient("patient,site,label\nP1,A,glioma\nP1,B,no\nP2,,no\n", site="B")
    assert (labels.of("A/P1/1.png").patient, labels.of("B/P2/1.png").patient) == ("A/P1", "B/P2")
    assert labels.site_of("A/P1/1.png") == "A"
    with pytest.raises(BadSource, match="several"):
        labels.of("A/B/P1/1.png")
    with pytest.raises(BadSource, match="no row of its patient"):
        by_patient("patient,site,label\nP1,A,glioma\n", site="B").of("P1/1.png")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("patient,label\nP1,x\nP2,x\nP1,y\n", "line 4: the same patient stands on line 2 too"),
        ("patient,label\n,x\n", "line 2: the patient is empty"),
        ("patient,label\nNA,x\n", "line 2: the patient is empty"),
        ("patient,age\nP1,7\n", "no column 'label'"),
        ("pth,label\na,7\n", "no column 'path', only pth, label; did you mean 'pth'"),
        ("patient,study,label,fold\nP1,1,x,1\nP1,2,x,2\n", "in fold 1 .line 2. and in fold 2 .line 3."),
        ("patient,label,site\nP1,x,A/B\n", "line 2: a site is a short name of letters"),
    ],
)
def test_what_is_wrong_with_a_table_by_patient_is_said_with_its_line(by_patient, text, complaint):
    with pytest.raises(UserError, match=complaint):
        by_patient(text)


def test_the_table_in_the_source_names_paths_and_patients(by_patient):
    with pytest.raises(UserError, match=r"raw/labels.csv has no column 'patient', only path, label"):
        by_patient("patient,label\nP1,x\n", "path,label\na,x\n")


def test_a_column_site_stands_before_patients_and_goes_before_the_site_that_is_typed(by_patient):
    labels = by_patient("path,label,patient,site\na,x,P1,A\nb,x,P1,\nc,x,,\n", site="B")
    assert [labels.of(path).patient for path in "abc"] == ["A/P1", "B/P1", ""]
    assert [labels.site_of(path) for path in "abcd"] == ["A", "B", "B", "B"]


def test_a_pattern_names_the_patients_that_rows_leave_open(by_patient):
    pattern = r"(?P<patient>P\d+)_"
    labels = by_patient("path,label,patient\nP1_a,x,\nP2_b,x,Q7\n", patient_pattern=pattern)
    assert [labels.of(path).patient for path in ("P1_a", "P2_b")] == ["P1", "Q7"]
