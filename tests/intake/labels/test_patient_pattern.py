import os
import time

import pytest

from mri_hpc.base.errors import BadSource, UserError
from mri_hpc.intake.labels.label import Label
from mri_hpc.intake.labels.patient_pattern import PatientPattern, suggestion


def test_a_pattern_names_the_patient_the_study_and_the_site():
    pattern = PatientPattern(r"(?P<site>[A-Z]+)_(?P<patient>\d+)(_(?P<study>s\d))?")
    label = pattern.onto(Label(label="glioma", site="B"), "glioma/KUM_017_s2.png")
    assert (label.patient, label.study, label.label, label.site) == ("B/KUM/017", "B/KUM/s2", "glioma", "B")
    assert pattern.onto(Label(), "glioma/KUM_017.png").study == ""


def test_a_name_that_does_not_fit_leaves_what_the_folders_say():
    label = Label(label="glioma", patient="P1")
    assert PatientPattern(r"(?P<patient>P\d+)?_(?P<study>\d)").onto(label, "glioma/P1/_2.png") is label
    assert PatientPattern(r"(?P<patient>P\d+)_").onto(label, "glioma/P1/1.png") is label


def test_a_patient_that_cannot_be_printed_is_a_reason_to_reject_the_file():
    pattern = PatientPattern("(?P<patient>.+)_")
    for name in (b"M\xfcller_1.png", b"a\x01_1.png"):
        with pytest.raises(BadSource, match="a patient with characters that cannot be printed"):
            pattern.onto(Label(), os.fsdecode(name))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("(", "found '(': missing ), unterminated subpattern"),
        ("(?P<patient>a", "unterminated"),
        (r"P\d+", "with a group named patient, and perhaps study and site; found none in"),
        (r"(?P<study>P\d+)", "found study in"),
        (r"(?P<patient>P\d+)(?P<age>\d)", "found patient, age in"),
        ("(?P<patient>(a+)+)b", "repeats a group that itself repeats or chooses"),
        ("(?P<patient>(a|aa)*)b", "repeats a group that itself repeats or chooses"),
        ("(x(?P<patient>a+)y)*b", "repeats a group that itself repeats or chooses"),
        ("(?P<patient>a){99999999999}", "takes a regular expression"),
    ],
)
def test_what_is_no_pattern_is_refused_in_one_line(text, complaint):
    with pytest.raises(UserError) as caught:
        PatientPattern(text)
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        r"(?P<patient>P\d+)_", r"(?P<patient>[A-Z]+[0-9]{3})?-", r"(?:^|/)(?P<patient>[()+*]+)",
        r"\((?P<patient>\d+)\)+", "(?P<patient>(ab)+)",
    ],
)  # fmt: skip
def test_usual_patterns_are_taken(text):
    assert PatientPattern(text).text == text


def test_a_slow_pattern_ends_on_the_longest_name():
    pattern = PatientPattern(r"(?P<patient>\w+)\d\w+x")
    started_s = time.process_time()
    assert pattern.named("1" * 255 + ".png") == {}
    assert time.process_time() - started_s < 10


def numbered(*forms, patients=45, slices=4):
    return [form.format(p, s) for p in range(patients) for s in range(slices) for form in forms]


@pytest.mark.parametrize(
    ("form", "pattern"),
    [
        ("glioma/P{:03}_slice{}.jpg", r"(?P<patient>P\d+)_"),
        ("glioma/{:03}-{}.jpg", r"(?P<patient>\d+)-"),
        ("glioma/patient_{} {}.jpg", r"(?P<patient>patient_\d+) "),
        ("P1_x/P{}_{}.jpg", r"(?P<patient>P\d+)_[^/]*$"),
        ("a/P{}(xP1_{}).jpg", r"(?P<patient>P\d+)\("),
        ("BraTS20_Training_{:03}_slice_{}.png", r"(?P<patient>BraTS\d+_Training_\d+)_"),
        ("t2_{:03}_{}.png", r"(?P<patient>t\d+_\d+)_"),
        ("sub-{}_{}.jpg", r"(?P<patient>sub-\d+)_"),
    ],
)
def test_a_pattern_is_suggested_with_what_it_would_make(form, pattern):
    doubt = suggestion(numbered(form))
    assert (doubt.count, doubt.accept) == (180, None)
    assert "180 of 180 file names fit" in doubt.text
    assert f"--patient-pattern '{pattern}' would make 45 patients" in doubt.text
    named = PatientPattern(pattern).named
    assert len({named(path)["patient"] for path in numbered(form)}) == 45


def test_a_pattern_is_suggested_where_each_class_has_letters_of_its_own():
    doubt = suggestion(numbered("glioma/G{}_{}.jpg", "other/M{}_{}.jpg"))
    assert r"'(?P<patient>[A-Za-z]+\d+)_' would make 90 patients" in doubt.text


@pytest.mark.parametrize(
    "paths",
    [
        [],
        # One image each: numbers of images.
        [f"glioma/Te-gl_{number:04}.jpg" for number in range(50)],
        [f"yes/Y{number}.jpg" for number in range(50)],
        [f"a/image({number}).jpg" for number in range(50)],
        [f"a/{number}_x.jpg" for number in range(50)],
        # Numbered through in each folder.
        [f"{name}/{number}.jpg" for name in "abcd" for number in range(50)],
        [f"{name}/image({number}).jpg" for name in "abcd" for number in range(50)],
        # All one, and two sequences.
        [f"a/T1_{number}.jpg" for number in range(50)],
        [f"a/T{1 + number % 2}_{number}.jpg" for number in range(50)],
        # What a shell would not take as it stands.
        numbered("a/o'P{}_{}.jpg"),
        # Half of them.
        [*numbered("a/P{}_{}.jpg"), *(f"a/x{number}.jpg" for number in range(180))],
    ],
)
def test_no_pattern_is_suggested_where_none_would_name_patients(paths):
    assert suggestion(paths) is None
