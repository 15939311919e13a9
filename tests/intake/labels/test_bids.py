"""Names of files of a BIDS tree, and which of them are pictures."""

import json

import pytest

from mri_hpc.intake.labels.bids import session_of, subject_of, suffix_of, tree_at


@pytest.mark.parametrize(
    ("path", "suffix"),
    [
        ("sub-01/anat/sub-01_T1w.nii.gz", "T1w"),
        ("sub-01/ses-2/anat/sub-01_ses-2_acq-fast_ce-gd_run-1_FLAIR.nii", "FLAIR"),
        ("sub-01/anat/sub-01_space-orig_label-GM_probseg.nii.gz", "probseg"),
        ("sub-01/anat/t1.nii.gz", ""),
    ],
)
def test_the_suffix_of_a_name_tells_the_kind(path, suffix):
    assert suffix_of(path) == suffix


def test_folders_tell_subject_and_session():
    path = "sub-01/ses-2/anat/sub-01_ses-2_T1w.nii.gz"
    assert (subject_of(path), session_of(path)) == ("sub-01", "ses-2")
    assert (subject_of("a/b"), session_of("sub-01")) == ("", "")


LEFT_OUT = {
    "dataset_description.json": "sidecars and tables",
    "README": "sidecars and tables",
    "sub-01/anat/sub-01_T1w.json": "sidecars and tables",
    "sub-01/sub-01_scans.tsv": "sidecars and tables",
    "sub-01/dwi/sub-01_dwi.nii.gz": "not in anat",
    "sub-01/anat/sub-01_label-tumor_mask.nii.gz": "masks and segmentations",
    "sub-01/anat/sub-01_mod-T1w_defacemask.nii.gz": "masks and segmentations",
    "sub-01/anat/sub-01_dseg.nii.gz": "masks and segmentations",
    "sub-01/anat/sub-01_label-GM_probseg.nii.gz": "masks and segmentations",
    "sub-01/anat/sub-01_desc-preproc_T1w.nii.gz": "derived from others (desc-)",
    "derivatives/fmriprep/sub-01/anat/sub-01_T1w.nii.gz": "in derivatives",
    "sourcedata/sub-01/anat/IM0001": "in sourcedata",
    "code/sub-01.py": "in code",
}


@pytest.mark.parametrize(("path", "why"), LEFT_OUT.items())
def test_files_that_are_no_pictures_of_subjects_are_left_out_each_with_a_reason(tmp_path, path, why):
    assert tree_at(tmp_path).left_out_as(path) == why


def test_pictures_of_subjects_are_kept_in_their_order(tmp_path):
    pictures = ["sub-02/anat/sub-02_T1w.nii.gz", "sub-01/ses-1/anat/sub-01_ses-1_T2w.nii.gz"]
    kept, left_out = tree_at(tmp_path).kept([*LEFT_OUT, *pictures])
    assert kept == pictures
    assert left_out.total() == len(LEFT_OUT) and left_out["sidecars and tables"] == 4


@pytest.mark.parametrize(
    ("rule", "ignored", "kept"),
    [
        ("*_T2w.nii.gz", "sub-01/anat/sub-01_T2w.nii.gz", "sub-01/anat/sub-01_T1w.nii.gz"),
        ("sub-03/", "sub-03/anat/sub-03_T1w.nii.gz", "sub-01/anat/sub-03"),
        ("/sub-03", "sub-03/anat/sub-03_T1w.nii.gz", "sub-01/anat/sub-03_T1w.nii.gz"),
        ("sub-*/anat/*_T2?.nii*", "sub-1/anat/sub-1_T2w.nii", "sub-1/ses-1/anat/sub-1_T2w.nii"),
        ("**/anat/*T2w*", "sub-1/ses-1/anat/sub-1_T2w.nii", "sub-1/ses-1/anat/sub-1_T1w.nii"),
        ("*T1w*\n!*run-1_T1w*", "sub-1/anat/sub-1_T1w.nii", "sub-1/anat/sub-1_run-1_T1w.nii"),
        ("# T1w", "", "sub-1/anat/sub-1_T1w.nii"),
    ],
)
def test_bidsignore_is_read_as_gitignore_is(tmp_path, rule, ignored, kept):
    (tmp_path / ".bidsignore").write_text(f"{rule}\n\n")
    tree = tree_at(tmp_path)
    assert tree.left_out_as(kept) in ("", "not in anat")
    assert tree.left_out_as(ignored) == "ignored by .bidsignore" or not ignored


def test_of_a_tree_that_a_program_made_what_is_derived_is_kept(tmp_path):
    path = "sub-01/anat/sub-01_desc-preproc_T1w.nii.gz"
    (tmp_path / "dataset_description.json").write_text(json.dumps({"DatasetType": "derivative"}))
    assert tree_at(tmp_path).left_out_as(path) == ""
    (tmp_path / "dataset_description.json").write_text("[1")
    assert tree_at(tmp_path).left_out_as(path) != ""
