"""Labels that say nothing, say it twice, or contradict themselves; and folders that name no classes."""

import shutil

from tests.cli.rubbish.bad_pictures import picture
from tests.cli.rubbish.case import Case, holds
from tests.cli.rubbish.desk import CLASSES, GOOD, Desk, Outcome, draw


def names(desk: Desk) -> list[str]:
    """Paths of the good pictures as a CSV has them."""
    return sorted(path.relative_to(desk.raw).as_posix() for path in desk.raw.rglob("*.png"))


def table(header: str, row: str = "{path},x", *more: str, separator: str = ","):
    """Labels of all good pictures, and lines more."""

    def lay(desk: Desk) -> list[str]:
        rows = [row.format(path=path, number=number) for number, path in enumerate(names(desk))]
        text = "\n".join([header, *rows, *more, ""])
        return fresh(desk, "--labels", desk.file("labels.csv", text.replace(",", separator)))

    return lay


def given(content: bytes | str):
    """Labels with this content."""
    return lambda desk: fresh(desk, "--labels", desk.file("labels.csv", content))


def fresh(desk: Desk, *options: object) -> list[str]:
    """The command line for a new store of the source."""
    words = ["preprocess", "--source", desk.raw, "--store", desk.root / "new", "--size", 16, *options]
    return [str(word) for word in words]


def in_new(images: int):
    """A check: the new store holds so many images; none: there is no store, but for reasons of files."""

    def check(desk: Desk, outcome) -> None:
        from mri_hpc.storage.disk.layout import StoreDir
        from mri_hpc.storage.snapshot.catalogue import current

        new = desk.root / "new"
        assert (len(current(StoreDir(new))) if new.exists() else 0) == images
        assert images or not new.exists() or "stored 0, already there 0, rejected" in outcome.out

    return check


def nobody_named(desk: Desk, outcome: Outcome) -> None:
    """A check: nothing is stored, and no patient is named."""
    in_new(0)(desk, outcome)
    assert "P0" not in outcome.err + outcome.out


def stored_from(name: str, make, *says: str) -> Case:
    """Labels that only look odd: all good pictures are stored."""
    return Case(name=name, make=make, status=0, says=says, after=in_new(GOOD))


def refused(name: str, make, *says: str, lines: int | None = 1) -> Case:
    """Labels that are refused in one line, before anything is stored."""
    return Case(name=name, make=make, says=says, lines=lines, after=in_new(0))


def one_folder(desk: Desk) -> list[str]:
    """The source is the folder of one class: its patients look like classes."""
    return fresh(desk, "--source", desk.raw / "glioma")


def one_class(desk: Desk) -> list[str]:
    """The source is the folder above the one that is meant."""
    above = desk.root / "above"
    above.mkdir()
    shutil.copytree(desk.raw, above / "raw")
    return fresh(desk, "--source", above)


def no_classes(desk: Desk) -> list[str]:
    """All pictures lie in one folder, with nothing that says what they are."""
    for number in range(3):
        draw(desk.root / "flat" / f"{number}.png", number, 0)
    return [*fresh(desk, "--source", desk.root / "flat")]


def renamed(desk: Desk) -> list[str]:
    """The folder of the source has another name than last time."""
    words = desk.preprocess()
    desk.raw.rename(desk.root / "mri")
    words[words.index(str(desk.raw))] = str(desk.root / "mri")
    return words


def patient_in_two_split_folders(desk: Desk) -> list[str]:
    """One patient lies in the folder for training, and in the one for testing."""
    for split in ("train", "test"):
        draw(desk.root / "parts" / split / "glioma" / "P1" / f"{split}.png", 1, 0)
    return fresh(desk, "--source", desk.root / "parts")


def other_site(desk: Desk) -> list[str]:
    """A folder of the same name, in which files and patients are called alike, with other images."""
    words = desk.preprocess("--replace")
    for path in desk.raw.rglob("*.png"):
        draw(desk.root / "other" / "raw" / path.relative_to(desk.raw), 1000 + int(path.stem), 0)
    words[words.index(str(desk.raw))] = str(desk.root / "other" / "raw")
    return words


def classes_twice(desk: Desk) -> list[str]:
    """An archive that holds its class folders a second time, one level down."""
    shutil.copytree(desk.raw, desk.raw / "brain_tumor_dataset")
    return fresh(desk)


def classes_called_twice(desk: Desk) -> list[str]:
    """The folders for training and for testing call the classes otherwise."""
    for name in CLASSES:
        (desk.raw / name).rename(desk.root / name)
        for number, patient in enumerate(sorted((desk.root / name).iterdir())):
            part, called = ("Training", name) if number % 2 else ("Testing", f"{name}_tumor")
            (desk.raw / part / called).mkdir(parents=True, exist_ok=True)
            patient.rename(desk.raw / part / called / f"{name}{number}")
        (desk.root / name).rmdir()
    return fresh(desk)


def patients_below_hospitals(desk: Desk) -> list[str]:
    """CLASS/HOSPITAL/PATIENT/file."""
    for number, path in enumerate(sorted(desk.raw.glob("*/*"))):
        (path.parent / ("KUM", "Ulm")[number % 2]).mkdir(exist_ok=True)
        path.rename(path.parent / ("KUM", "Ulm")[number % 2] / f"{path.parent.name[0]}{number:04}")
    return fresh(desk)


def patients_in_names(desk: Desk) -> list[str]:
    """Patients stand in the names of files alone."""
    for number in range(12):
        draw(desk.root / "flat" / CLASSES[number % 2] / f"P{number // 3:03}_slice{number}.png", number, 0)
    return fresh(desk, "--source", desk.root / "flat")


def rows_of_other_folders(desk: Desk) -> list[str]:
    """A table by patient; in the folders of two classes the patients are numbered from 1 on."""
    for number in range(4):
        draw(desk.root / "odd" / CLASSES[number % 2] / f"{1 + number // 2}" / "1.png", number, 0)
    desk.file("labels.csv", f"patient,label\n1,{CLASSES[0]}\n2,{CLASSES[1]}\n")
    return fresh(desk, "--source", desk.root / "odd", "--labels", desk.root / "labels.csv")


def planes(desk: Desk) -> list[str]:
    """CLASS/PLANE/file."""
    for number in range(4):
        draw(desk.root / "flat" / CLASSES[number % 2] / ("axial", "images")[number // 2] / "1.png", number, 0)
    return fresh(desk, "--source", desk.root / "flat")


def by_patient(desk: Desk) -> list[str]:
    """A table by patient, without a row of one of them, and with one of nobody."""
    rows = "".join(f"P{number:02}\tno\n" for number in (*range(19), 77))
    return fresh(desk, "--labels", desk.file("labels.tsv", f"participant_id\tdiagnosis\n{rows}"))


def closed(desk: Desk) -> list[str]:
    """Labels that only their owner, somebody else, may read."""
    argv = fresh(desk, "--labels", desk.file("labels.csv", "path,label\na,b\n"))
    (desk.root / "labels.csv").chmod(0)
    return argv


CASES = (
    refused(
        "labels that do not exist",
        lambda desk: fresh(desk, "--labels", "none.csv"),
        "none.csv does not exist: --labels takes a CSV with the columns path,label",
    ),
    refused(
        "a folder in place of the labels",
        lambda desk: fresh(desk, "--labels", desk.raw),
        "raw is a folder: --labels takes a CSV with the columns path,label",
    ),
    Case(
        name="labels that may not be read",
        make=closed,
        says=("Permission denied: ", "labels.csv"),
        needs_permission=True,
    ),
    refused("an empty CSV", given(""), "labels.csv is empty: --labels takes a CSV"),
    refused("a CSV with a header alone", given("path,label\n"), "labels.csv has no line below its first"),
    refused(
        "a CSV without a column of labels",
        table("path,age"),
        "has no column 'label', only path, age",
    ),
    refused("a misspelt column", table("path,lable"), "no column 'label'", "did you mean 'lable'?"),
    refused(
        "a column that is there twice",
        table("path,label,label", "{path},x,y"),
        "has 2 columns 'label': keep one",
    ),
    refused(
        "a path with two labels",
        table("path,label", "{path},x", "glioma/P00/0.png,y"),
        "line 42: the same path stands on line 2 too, with other values; keep one",
    ),
    refused(
        "a patient in two folds",
        table("path,label,patient,fold", "{path},x,P1,{number}"),
        "a patient is in fold 0 (line 2) and in fold 1 (line 3)",
        "give one fold",
    ),
    refused(
        "a patient in two split folders",
        patient_in_two_split_folders,
        "a patient is in split test (below test/glioma) and in split train (below train/glioma)",
        "give one split",
    ),
    refused(
        "a patient with and without leading zeros",
        table("path,label,patient", "{path},x,{number}", "glioma/P00/99.png,x,007"),
        "1 patient may have two ids: line 42 of labels.csv and line 9 of labels.csv (they differ in leading",
        "--accept same-ids; if it is meant so: --accept ids. Nothing is stored yet",
    ),
    refused(
        "a patient as a spreadsheet writes numbers",
        table("path,label,patient", "{path},x,{number}", "glioma/P00/99.png,x,7.0"),
        "line 42 of labels.csv and line 9 of labels.csv (they differ in '.0')",
    ),
    refused(
        "a patient in large and in small letters",
        table("path,label,patient", "{path},x,p{number}", "glioma/P00/99.png,x,P7"),
        "(they differ in case)",
    ),
    stored_from(
        "a spreadsheet that writes all patients with decimals",
        table("path,label,patient", "{path},x,{number}.0"),
    ),
    refused(
        "a split that is none",
        table("path,label,split", "{path},x,trian"),
        "line 2: unknown split 'trian'; did you mean 'train'?",
    ),
    refused(
        "a fold that is no number",
        table("path,label,fold", "{path},x,one"),
        "line 2: fold must be a whole number, found 'one'",
    ),
    refused(
        "a box in pixels",
        table("path,label,box_cx,box_cy,box_w,box_h", "{path},x,120,90,20,20"),
        "line 2: a box is given in fractions of the image",
    ),
    refused(
        "labels of somewhere else",
        table("path,label", "{path},x", "/scans/1.png,x"),
        "line 42: the path is not below the source",
        "write paths relative to it",
    ),
    refused(
        "an empty path",
        table("path,label", "{path},x", ",x"),
        "line 42: the path is empty: name an image, or remove the line",
    ),
    refused(
        "more cells than columns",
        table("path,label", "{path},x, the second"),
        "line 2: more cells than columns: put a text that holds the separator in quotes",
    ),
    refused("a quote that never ends", table("path,label", '"{path},x'), "save it as a CSV again"),
    refused(
        "a CSV in UTF-16, as some spreadsheets save it",
        given("path,label\n".encode("utf-16")),
        "is not UTF-8",
        "save it as UTF-8, in a spreadsheet as 'CSV UTF-8'",
    ),
    refused(
        "a CSV in UTF-16 without its mark",
        given("path,label\n".encode("utf-16-le")),
        "is not UTF-8 (it holds zero bytes)",
        "save it as UTF-8, in a spreadsheet as 'CSV UTF-8'",
    ),
    refused(
        "a CSV in Latin-1",
        given("path,label\na.png,Tumör\n".encode("latin-1")),
        "is not UTF-8",
        "save it as UTF-8",
    ),
    refused(
        "a spreadsheet in place of a CSV",
        given(b"PK\x03\x04\x14\0\x06\0" + bytes(range(256))),
        "is not UTF-8",
        "save it as UTF-8",
    ),
    refused(
        "a row that names no series",
        given("SeriesInstanceUID,label\n1.2.3,x\n,y\n"),
        "line 3: series_uid is empty: name a series or a study, or remove the line",
    ),
    Case(
        name="accession numbers for pictures, which have none",
        make=given("accession,label\nA17,x\n"),
        says=(f"rejected {GOOD}: no label in CSV: not DICOM, and the CSV names DICOM",),
        lines=None,
        after=in_new(0),
    ),
    refused(
        "a column of the class that is not there",
        lambda desk: [*table("path,diagnosis")(desk), "--label-column", "diagnose"],
        "has no column 'diagnose', only path, diagnosis; did you mean 'diagnosis'?",
    ),
    refused(
        "a column of the class where there is no table",
        lambda desk: fresh(desk, "--label-column", "grade"),
        "--label-column goes with a table of labels: --labels, or labels.csv in the source",
    ),
    refused(
        "masks of which nothing tells what they show",
        lambda desk: fresh(desk, "--masks", "{stem}_mask.nii.gz"),
        "'{stem}_mask.nii.gz': are these of brains or of lesions? Type brain:{stem}_mask.nii.gz or lesion:",
    ),
    refused(
        "two columns that could both be the label",
        table("path,class,diagnosis", "{path},x,y"),
        "has no column 'label' but 'class' and 'diagnosis': call one of them label",
    ),
    refused(
        "a patient with two labels",
        given("patient,label\nP00,x\nP01,x\nP00,y\n"),
        "line 4: the same patient stands on line 2 too, with other values; keep one, or tell them apart",
    ),
    refused(
        "a site that is no name",
        table("path,label,site", "{path},x,../B"),
        "line 2: a site is a short name of letters, digits, '-', '_' and '.', found '../B'",
    ),
    stored_from(
        "columns that are called otherwise",
        table("Image,Diagnosis,PatientID", "{path},x,P1"),
        "columns are taken for known ones: 'image' as path, 'diagnosis' as label, 'patientid' as patient",
    ),
    stored_from(
        "words that mean that there is no label",
        table("path,label", "{path},NaN", "gone.png,none"),
        "41 rows have 'NaN', 'none' in place of a label, which means that there is none: call a class",
    ),
    Case(
        name="a table by patient, with a patient too few and one too many",
        make=by_patient,
        status=0,
        says=("1 row of the CSV is of patients whose files are not in the source",),
        after=in_new(38),
    ),
    stored_from("labels with a byte order mark", table("\ufeffpath,label")),
    stored_from("labels separated by semicolons", table("path,label", separator=";")),
    stored_from("labels separated by tabs", table("path,label", separator="\t")),
    stored_from(
        "columns that mean nothing here",
        table("path,label,age", "{path},x,44"),
        "columns without meaning here are ignored: age",
    ),
    stored_from(
        "a hundred columns that mean nothing here",
        table(",".join(["path", "label", *(f"c{number:02}" for number in range(100))]), "{path},x"),
        "are ignored: c00, c01, c02, c03, c04, c05, c06, c07 and 92 more",
    ),
    stored_from(
        "rows of files that are not there",
        table("path,label", "{path},x", "gone.png,x", "lost.png,x"),
        "2 rows of the CSV name files that are not in the source",
    ),
    Case(
        name="files without a row",
        make=given("path,label\nglioma/P00/0.png,x\n"),
        status=0,
        says=(f"rejected {GOOD - 1}: no label in CSV",),
        after=in_new(1),
    ),
    Case(
        name="labels that differ from those stored",
        make=lambda desk: desk.labels("path,label\n" + "".join(f"{name},x\n" for name in names(desk))),
        status=0,
        says=(f"{GOOD} labels, patients, folds or splits differ from those stored, which stay",),
        after=holds(GOOD),
    ),
    Case(
        name="pictures without a class folder",
        make=no_classes,
        says=("none of the 3 files in", "could be stored; the reasons are above"),
        lines=3,
        after=in_new(0),
    ),
    Case(
        name="a source that is one folder too deep",
        make=one_folder,
        says=(
            "20 classes named like patients: nothing is stored; --source takes the folder above the class",
            "SOURCE/CLASS/PATIENT/file; if they are classes, name them in a CSV (--labels), or take --ids",
        ),
        after=nobody_named,
    ),
    Case(
        name="a source that is one folder too deep, of released data",
        make=lambda desk: [*one_folder(desk), "--ids", "as-given"],
        status=0,
        says=("20 classes named like patients (P00, P01, ...)", "SOURCE/CLASS/PATIENT/file"),
        after=in_new(GOOD // 2),
    ),
    Case(
        name="a source that is one folder too high",
        make=one_class,
        status=0,
        says=("all labels are 'raw': --source takes the folder that holds one folder a class",),
        after=in_new(GOOD),
    ),
    refused(
        "images of another site under the same names, to be replaced",
        other_site,
        "images that were looked at are others than those stored under the same paths",
        "give --site NAME if they are of another site, --replace if they are the same ones, exported again",
    ),
    refused(
        "class folders that are there twice",
        classes_twice,
        "the folder 'brain_tumor_dataset' holds folders that are called as other classes (glioma, pituitary)",
        "Take one copy away",
        "--accept folders. Nothing is stored yet",
    ),
    refused(
        "classes with two names each",
        classes_called_twice,
        "4 classes, of which some look like one: 'glioma' and 'glioma_tumor', 'pituitary' and",
        "--accept classes",
    ),
    refused(
        "hospitals in the place of patients",
        patients_below_hospitals,
        "folders in the place of patients that hold only folders, 10 on average: 2",
        "--patient-pattern '^[^/]+/(?P<site>[^/]+)/(?P<patient>[^/]+)/'",
    ),
    Case(
        name="planes and kinds of images in the place of patients",
        make=planes,
        status=0,
        says=("4 images name no patient",),
        after=in_new(4),
    ),
    Case(
        name="patients in the names of files alone",
        make=patients_in_names,
        status=0,
        says=(
            "12 of 12 file names fit 'P\\d+': --patient-pattern '(?P<patient>P\\d+)_' would make 4 patients",
        ),
        after=in_new(12),
    ),
    refused(
        "a patient pattern that fits no file",
        lambda desk: fresh(desk, "--patient-pattern", "(?P<patient>Q[0-9]+)_"),
        "--patient-pattern '(?P<patient>Q[0-9]+)_' fits none of 40 files; paths below --source are as "
        "'aaaaaa/A00/0.png', with a, A and 0 for letters and digits: write one that fits, such as",
    ),
    refused(
        "a patient pattern that fits no file, where another one would",
        lambda desk: [*patients_in_names(desk), "--patient-pattern", "(?P<patient>Q[0-9]+)_"],
        "'aaaaaa/A000_aaaaa0.png'",
        "12 of 12 file names fit 'P\\d+': --patient-pattern '(?P<patient>P\\d+)_'",
    ),
    refused(
        "a table by patient for folders in which each number is another person's",
        rows_of_other_folders,
        "2 files of 2 patients lie in folders of classes other than",
        "--accept folders",
    ),
    Case(
        name="the same, where the folders are wrong",
        make=lambda desk: [*rows_of_other_folders(desk), "--accept", "folders"],
        status=0,
        says=(),
        after=in_new(4),
    ),
    refused(
        "a pattern that is none",
        lambda desk: fresh(desk, "--patient-pattern", "(?P<patient>P"),
        "--patient-pattern takes a regular expression such as",
        "found '(?P<patient>P': missing )",
    ),
    refused(
        "a pattern that would take for ever",
        lambda desk: fresh(desk, "--patient-pattern", "(?P<patient>(P+)+)x"),
        "repeats a group that itself repeats or chooses, which can take for ever",
    ),
    Case(
        name="a source that was renamed",
        make=renamed,
        status=0,
        says=(f"{GOOD} of {GOOD} new images have the same bytes", "(now 'mri')", "make a new store"),
        after=holds(2 * GOOD),
    ),
    Case(
        name="pictures of no patient",
        make=lambda desk: fresh(
            desk, "--source", desk.file(f"flat/{CLASSES[0]}/1.png", picture()).parents[1]
        ),
        status=0,
        says=("1 image names no patient: results will be by slice, not by patient",),
        after=in_new(1),
    ),
)
