import pytest

from mri_hpc.intake.labels.class_names import doubts_of_classes, look_alike


@pytest.mark.parametrize(
    "names",
    [
        ["glioma", "glioma_tumor"],
        ["glioma", "Glioma"],
        ["Glioma Tumour", "glioma-tumors"],
        ["no_tumor", "notumor"],
        ["no", "no_tumor"],
        ["gliomas", "glioma"],
        ["metastases", "metastasis"],
        ["low grade", "low_grade", "Low-Grade"],
    ],
)
def test_names_of_one_class_look_alike(names):
    assert look_alike([*names, "other"]) == [sorted(names)]


@pytest.mark.parametrize(
    "names",
    [
        ["glioma", "meningioma", "pituitary", "notumor"],
        ["yes", "no"],
        ["tumor", "no_tumor"],
        ["grade1", "grade2", "grade 11"],
        ["0", "1", "2"],
        ["HGG", "LGG"],
        ["Glioma T1", "Glioma T1C+", "Glioma T2"],
        ["low grade glioma", "high grade glioma", "glioma"],
        ["as", "a"],
        ["+", "-"],
        [],
    ],
)
def test_names_of_several_classes_do_not(names):
    assert look_alike(names) == []
    assert doubts_of_classes(names) == []


def test_the_pairs_are_said_with_what_to_type():
    names = ["glioma", "glioma_tumor", "pituitary", "Pituitary Tumor", "no_tumor", "notumor"]
    (doubt,) = doubts_of_classes(names)
    assert (doubt.count, doubt.accept) == (3, "classes")
    assert "6 classes, of which some look like one: 'glioma' and 'glioma_tumor', 'no_tumor' and" in doubt.text
    assert "in a CSV (--labels)" in doubt.text


def test_a_new_class_that_looks_like_a_stored_one_is_doubted_and_stored_ones_are_not():
    stored = ["glioma", "Glioma", "other"]
    assert doubts_of_classes(["glioma", "other"], stored) == []
    assert doubts_of_classes(["third"], stored) == []
    (doubt,) = doubts_of_classes(["third", "other_tumor"], stored)
    assert "5 classes, of which some look like one: 'other' and 'other_tumor'." in doubt.text
