"""BIDS trees through the command: subject, session and class; what is no picture is left out and counted."""

import csv
import json
import shutil

import nibabel as nib
import numpy as np
import pytest

from mri_hpc.storage.store import Store

AFFINE = np.diag([-6.0, -6.0, 8.0, 1.0])
SUBJECTS = ("01", "02", "03")
SMALL = ("--size", 32, "--slices", "middle:2", "--ids", "as-given")


@pytest.fixture(scope="module")
def tree(tmp_path_factory):
    """Three subjects, the first of two sessions; with sidecars, masks, derivatives and what is ignored."""
    root = tmp_path_factory.mktemp("bids") / "raw"
    for number, subject in enumerate(SUBJECTS):
        for session in ("ses-1", "ses-2") if subject == "01" else ("",):
            stem = "_".join(filter(None, [f"sub-{subject}", session]))
            folder = root / f"sub-{subject}" / session / "anat"
            save(folder / f"{stem}_T1w.nii.gz", number)
            (folder / f"{stem}_T1w.json").write_text("{}")
            save(folder / f"{stem}_desc-brain_mask.nii.gz", number)
            save(root / "derivatives" / "prep" / f"sub-{subject}" / "anat" / f"{stem}_T1w.nii.gz", number)
    save(root / "sub-02" / "anat" / "sub-02_rec-bad_T1w.nii.gz", 7)
    (root / ".bidsignore").write_text("*_rec-bad_*\n")
    (root / "dataset_description.json").write_text('{"Name": "x", "BIDSVersion": "1.9.0"}')
    (root / "README").write_text("x")
    return root


def save(file, seed):
    file.parent.mkdir(parents=True, exist_ok=True)
    axes = np.meshgrid(*(np.linspace(-1, 1, count) for count in (24, 28, 8)), indexing="ij")
    grain = np.random.default_rng(seed).integers(0, 9, (24, 28, 8))
    nib.save(
        nib.Nifti1Image(
            (np.where(sum(a**2 for a in axes) < 0.8, 500 + 100 * axes[0], 0) + grain).astype(np.int16), AFFINE
        ),
        file,
    )


@pytest.fixture
def raw(tree, tmp_path):
    return shutil.copytree(tree, tmp_path / "raw")


@pytest.fixture
def store(tmp_path):
    return tmp_path / "store"


PEOPLE = (
    "participant_id\tage\tsite\tgroup\n"
    "sub-01\t44\tulm\tglioma\nsub-02\t50\tulm\tcontrol\n03\t61\tbern\tcontrol\n"
)


def facts_in(store):
    snapshot = Store(store).current()
    texts = [
        [snapshot.text(what, row) for what in ("patient", "study", "label")] for row in range(len(snapshot))
    ]
    return sorted({tuple(row) for row in texts})


def test_subjects_are_patients_sessions_studies_and_participants_say_the_class(raw, store, preprocess):
    (raw / "participants.tsv").write_text(PEOPLE)
    status, out, err = preprocess(raw, store, *SMALL, "--json")
    counts = json.loads(out)
    assert (status, counts["stored"], counts["images"], counts["rejected"]) == (0, 4, 8, 0), err
    assert facts_in(store) == [
        ("sub-01", "ses-1", "glioma"),
        ("sub-01", "ses-2", "glioma"),
        ("sub-02", "", "control"),
        ("sub-03", "", "control"),
    ]
    assert "'group' as label" in err and "'participant_id' as patient" in err
    assert "ignored: age, site" in err
    left_out = "1 ignored by .bidsignore, 4 in derivatives, 4 masks and segmentations, 6 sidecars and tables"
    assert f"a BIDS tree; files left out: {left_out}" in err
    assert json.loads(preprocess(raw, store, "--json")[1])["already_there"] == 4


def test_several_columns_that_could_be_the_class_are_refused_with_the_option_to_type(raw, store, preprocess):
    (raw / "participants.tsv").write_text(
        "participant_id\tgroup\tdx\nsub-01\ta\tx\nsub-02\ta\ty\nsub-03\tb\ty\n"
    )
    status, _out, err = preprocess(raw, store, *SMALL)
    assert status == 2 and "has no column 'label' but 'group' and 'dx'" in err
    assert "or type --label-column" in err and not list((store).glob("chunks/*"))
    status, out, _err = preprocess(raw, store, "--look", "--label-column", "DX", "--json")
    assert (status, json.loads(out)["classes"].keys()) == (0, {"x", "y"})
    assert "--label-column DX" in json.loads(out)["command"]
    assert preprocess(raw, store, *SMALL, "--label-column", "dx")[0] == 0
    assert [fact[2] for fact in facts_in(store)] == ["x", "x", "y", "y"]
    status, _out, err = preprocess(raw, store, "--label-column", "grup")
    assert status == 2 and "has no column 'grup'" in err and "did you mean 'group'?" in err


@pytest.mark.parametrize(
    ("people", "says"),
    [
        ("", "is a BIDS tree without participants.tsv; or give a table of labels (--labels"),
        (
            "participant_id\tage\nsub-01\t44\n",
            "but age: name the column of the class by --label-column; or give a",
        ),
    ],
)
def test_a_tree_without_classes_is_refused_and_a_look_writes_the_table_to_fill_in(
    raw, store, preprocess, tmp_path, people, says
):
    if people:
        (raw / "participants.tsv").write_text(people)
    status, _out, err = preprocess(raw, store, *SMALL)
    assert status == 2 and says in err and err.count("\n") == 1
    table = tmp_path / "labels.csv"
    assert preprocess(raw, store, "--look", "--write-labels", table)[0] == 2
    rows = list(csv.DictReader(table.read_text().splitlines()))
    assert [(row["patient"], row["study"], row["label"]) for row in rows] == [
        ("sub-01", "ses-1", ""), ("sub-01", "ses-2", ""), ("sub-02", "", ""), ("sub-03", "", ""),
    ]  # fmt: skip
    table.write_text(table.read_text().replace("ses-1,", "ses-1,before").replace(",\n", ",after\n"))
    status, _out, err = preprocess(raw, store, *SMALL, "--labels", table)
    assert status == 0, err
    assert [fact[2] for fact in facts_in(store)] == ["before", "after", "after", "after"]


def test_a_folder_with_a_description_alone_is_no_bids_tree(tree, tmp_path, store, preprocess):
    raw = tmp_path / "raw"
    for number, label in enumerate(("glioma", "none")):
        (raw / label).mkdir(parents=True)
        save(raw / label / "P1" / "t1.nii", number)
    (raw / "dataset_description.json").write_text("{}")
    counts = json.loads(preprocess(raw, store, *SMALL, "--json")[1])
    assert (counts["stored"], counts["rejected"]) == (2, 1)
