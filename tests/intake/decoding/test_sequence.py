"""The choice of series as it is typed, and kinds as names of files tell them."""

import pytest

from mri_hpc.base.errors import UserError
from mri_hpc.intake.decoding.recipe import Recipe
from mri_hpc.intake.decoding.sequence import choice_in, choice_text
from mri_hpc.intake.decoding.sequence_words import is_volume_name, kind_of_file


@pytest.mark.parametrize(
    ("typed", "text"),
    [
        (["t1"], "t1"),
        (["flair", "t1"], "t1,flair"),
        (["t1,flair", "t1"], "t1,flair"),
        (["all"], "all"),
        (["/T1.*KM/"], "/T1.*KM/"),
    ],
)
def test_one_choice_has_one_text_however_it_is_typed(typed, text):
    assert choice_text(typed) == text
    assert Recipe(series=text).series == text


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        (["t1c"], "got 't1c'"),
        (["t1", "all"], "got 'all'"),
        (["t1", "/x/"], "got '/x/'"),
        (["/x"], "a pattern stands between slashes"),
        (["//"], "a pattern stands between slashes"),
        (["/(/"], "is no regular expression"),
        ([""], "got ''"),
    ],
)
def test_what_is_no_choice_is_refused(typed, says):
    with pytest.raises(UserError, match="--series") as refused:
        choice_text(typed)
    assert says in str(refused.value)


def test_a_choice_takes_its_kinds_or_what_its_pattern_finds_in_any_description():
    assert choice_in("") is None
    assert choice_in("all") is None
    kinds = choice_in("t1,t1ce")
    assert [kind for kind in ("t1", "t1ce", "t2", "unknown") if kinds.takes(kind)] == ["t1", "t1ce"]
    pattern = choice_in("/mprage/")
    assert pattern.takes("unknown", ["head", "T1_MPRAGE"])
    assert not pattern.takes("t1", ["head"])
    assert not pattern.takes("t1")


def test_a_recipe_without_a_choice_is_as_before_there_were_any():
    assert "series" not in Recipe().parameters()
    assert Recipe(series="t1").digest() != Recipe().digest()


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz", "t1"),
        ("sub-01_ce-gadolinium_T1w.nii.gz", "t1ce"),
        ("sub-01_FLAIR.nii", "flair"),
        ("sub-01_space-T1w_T2w.nii.gz", "t2"),
        ("sub-01_dir-AP_dwi.nii.gz", "dwi"),
        ("sub-01_T2starw.nii.gz", "unknown"),
        ("sub-01_task-rest_bold.nii.gz", "unknown"),
        ("BraTS-GLI-00000-000-t1n.nii.gz", "t1"),
        ("BraTS-GLI-00000-000-t1c.nii.gz", "t1ce"),
        ("BraTS-GLI-00000-000-t2w.nii.gz", "t2"),
        ("BraTS-GLI-00000-000-t2f.nii.gz", "flair"),
        ("BraTS-GLI-00000-000-seg.nii.gz", ""),
        ("BraTS20_Training_001_t1ce.nii", "t1ce"),
        ("UPENN-GBM-00001_11_T1GD.nii.gz", "t1ce"),
        ("P1_t1_gd_brain.mgz", "t1ce"),
        ("P1_t2_flair.nii", "flair"),
        ("01/Post_Scan_T1.nii.gz", "t1"),
        ("t1_to_flair.nii", "unknown"),
        ("scan.nii", "unknown"),
        ("P1_ADC.mha", "adc"),
        (".nii", ""),
    ],
)
def test_the_name_of_a_volume_tells_its_kind(path, kind):
    assert is_volume_name(path)
    assert kind_of_file(path) == kind


def test_pictures_are_of_no_kind_whatever_they_are_called():
    assert not is_volume_name("P1_T1w.png")
    assert not is_volume_name("P1_flair.dcm")
