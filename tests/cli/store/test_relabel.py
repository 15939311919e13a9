import pytest

from mri_hpc.intake.files import content
from mri_hpc.intake.labels.pseudonyms import site_key
from mri_hpc.storage.disk.layout import open_store
from mri_hpc.storage.snapshot.catalogue import resolve
from mri_hpc.storage.upkeep.verify import verify
from mri_hpc.store import main

SMALL = ("--size", 16, "--chunk-images", 8)


@pytest.fixture
def store(copy_of_store):
    """20 images under the ids of their patients."""
    return copy_of_store(20, *SMALL, "--ids", "as-given")


@pytest.fixture
def relabel(tmp_path, store, raw, capsys):
    """Runs store relabel with these lines: (status, stdout, stderr)."""

    def run(lines, *options):
        table = tmp_path / "relabels.csv"
        table.write_text("\n".join(lines) + "\n")
        capsys.readouterr()
        status = main(["relabel", str(store), "--labels", str(table), "--source", str(raw), *options])
        printed = capsys.readouterr()
        return status, printed.out, printed.err

    return run


def paths_of(raw):
    return sorted(str(path.relative_to(raw)) for path in raw.rglob("*.jpg"))


def test_a_corrected_label_counts_in_new_snapshots_and_not_in_old_ones(store, raw, relabel, monkeypatch):
    before = resolve(store)
    monkeypatch.setattr(content, "_read_file", None)
    path = paths_of(raw)[0]
    status, out, _err = relabel(["path,label", f"{path},pituitary"], "--why", "second opinion")
    assert status == 0
    assert "label glioma to pituitary: 1" in out
    after = resolve(store)
    assert after.classes == ("glioma", "meningioma", "pituitary")
    assert (after.label == 2).sum() == 1
    assert after.content_digest != before.content_digest
    assert resolve(store, before.digest).classes == before.classes
    assert verify(open_store(store)).problems == []


def test_rows_that_say_what_the_store_says_and_empty_cells_change_nothing(store, raw, relabel):
    lines = [f"{path},{path.split('/')[0]}," for path in paths_of(raw)]
    lines[3] = f"{paths_of(raw)[3]},,"
    commits = len(list((store / "commits").iterdir()))
    assert relabel(["path,label,patient", *lines])[1].startswith("0 images changed, 20 rows say what")
    assert len(list((store / "commits").iterdir())) == commits


def test_the_newest_relabel_wins_and_lasts_through_compaction_and_replacement(
    store, raw, relabel, preprocess
):
    from PIL import Image

    path = paths_of(raw)[0]
    for label in ("one", "two", "three"):
        assert relabel(["path,label,patient,fold,split", f"{path},{label},somebody,3,test"])[0] == 0
    relabelled = resolve(store)
    assert relabelled.classes == ("glioma", "meningioma", "three")
    (row,) = (relabelled.label == 2).nonzero()[0]
    assert relabelled.patient_names[relabelled.patient[row]] == b"somebody"
    assert (relabelled.fold[row], relabelled.split[row]) == (3, 2)
    assert main(["compact", str(store), "--keep-days", "0"]) == 0
    assert resolve(store).content_digest == relabelled.content_digest
    Image.new("L", (32, 32), 7).save(raw / path)
    assert preprocess(raw, store, "--replace")[1].startswith("stored 1,")
    after = resolve(store)
    assert (after.generation.max(), after.classes) == (1, relabelled.classes)
    assert verify(open_store(store)).problems == []


def test_paths_that_are_not_there_are_listed(store, raw, relabel):
    status, out, err = relabel(["path,label", "x/1.jpg,a", f"{paths_of(raw)[0]},a"])
    assert status == 0
    assert "not in the store: x/1.jpg" in err
    assert out.endswith("1 are not in the store\n")
    status, _out, err = relabel(["path,label", "x/1.jpg,a"])
    assert status == 2
    assert "none of the 1 paths" in err
    assert "--source takes the folder" in err


def test_a_dry_run_changes_nothing(store, raw, relabel):
    before = resolve(store).digest
    assert (
        relabel(["path,label", f"{paths_of(raw)[0]},a"], "--dry-run")[1].count("1 images would change") == 1
    )
    assert resolve(store).digest == before


def test_preprocess_no_longer_reports_a_label_that_was_changed(store, raw, relabel, preprocess, tmp_path):
    table = tmp_path / "relabels.csv"
    lines = ["path,label", *(f"{path},{path.split('/')[0]}" for path in paths_of(raw))]
    lines[1] = lines[1].replace(",glioma", ",benign")
    table.write_text("\n".join(lines) + "\n")
    assert "1 labels, patients, folds or splits differ" in preprocess(raw, store, "--labels", table)[2]
    assert relabel(lines)[0] == 0
    assert "differ" not in preprocess(raw, store, "--labels", table)[2]


def test_no_image_is_given_to_a_retracted_patient(store, raw, relabel):
    assert main(["retract", str(store), "--patient", "patient3", "--yes"]) == 0
    path = next(path for path in paths_of(raw) if "patient3" not in path)
    status, _out, err = relabel(["path,label,patient", f"{path},,patient3"])
    assert status == 2
    assert "is given to a patient who was retracted" in err


def test_an_image_that_was_corrected_to_be_anothers_survives_the_first_ones_retraction(store, raw, relabel):
    path = next(path for path in paths_of(raw) if "patient3" in path)
    assert relabel(["path,label,patient", f"{path},,patient4"])[0] == 0
    assert main(["retract", str(store), "--patient", "patient3", "--yes"]) == 0
    assert len(resolve(store)) == 20 - sum("patient3" in name for name in paths_of(raw)) + 1


@pytest.mark.parametrize("is_there", [False, True])
def test_images_named_by_a_sites_key_are_relabelled_with_that_key_alone(
    tmp_path, raw, preprocess, capsys, monkeypatch, is_there
):
    store, other, table = tmp_path / "keyed", tmp_path / "other.key", tmp_path / "relabels.csv"
    preprocess(raw, store, *SMALL)
    before, path = resolve(store).digest, paths_of(raw)[0]
    table.write_text(f"path,label\n{path},pituitary\n")
    arguments = ["relabel", str(store), "--labels", str(table), "--source", str(raw)]
    with monkeypatch.context() as patch:
        patch.setenv("MRI_KEY_FILE", str(other))
        if is_there:
            site_key(other)
        assert main(arguments) == 2
    found = "is another site's key than the one" if is_there else "the site's key, is not there"
    err = capsys.readouterr().err
    assert found in err
    assert err.endswith(": set MRI_KEY_FILE\n")
    assert other.exists() == is_there
    assert resolve(store).digest == before
    assert main(arguments) == 0
    assert resolve(store).classes == ("glioma", "meningioma", "pituitary")
