"""Totals are kept with a snapshot so that nobody counts again; what is kept is what counting gives."""

import itertools
import json
import shutil
import subprocess
import sys
from dataclasses import asdict

import pytest

from mri_hpc.base.errors import NewerFormat, StoreDamage
from mri_hpc.base.sealed_json import seal, unseal
from mri_hpc.storage.disk.layout import open_store
from mri_hpc.storage.snapshot import catalogue
from mri_hpc.storage.snapshot.catalogue import resolve
from mri_hpc.storage.snapshot.totals import FILE, kept
from mri_hpc.storage.store import Store
from mri_hpc.store import main

# A history in which every total takes part: twins, replaced and rejected sources, a relabel, a retraction.
HISTORY = ("added", "twins", "replaced", "relabelled", "retracted", "compacted")


@pytest.fixture
def grow(filled, tmp_path, make_pictures, preprocess):
    """Takes the next step of the history."""
    raw = tmp_path / "raw"

    def step(what):
        if what == "added":
            make_pictures(raw, 9, first=60, patients=100)
            (raw / "glioma" / "no picture.jpg").write_bytes(b"?" * 100)
        if what == "twins":
            one = sorted(raw.glob("*/*/*.jpg"))[0]
            shutil.copy(one, one.with_name("twin.jpg"))
        if what == "replaced":
            first, second = sorted(raw.glob("*/*/*.jpg"))[:2]
            shutil.copy(second, first)
        if what == "relabelled":
            path = sorted(raw.glob("glioma/*/*.jpg"))[0].relative_to(raw)
            (tmp_path / "new.csv").write_text(f"path,label\n{path},healthy\n")
            labels = ["--labels", str(tmp_path / "new.csv"), "--source", str(raw)]
            assert main(["relabel", str(filled), *labels]) == 0
        if what == "retracted":
            assert main(["retract", str(filled), "--patient", "patient3", "--yes"]) == 0
        if what == "compacted":
            assert main(["compact", str(filled), "--keep-days", "0"]) == 0
        if what in HISTORY[:3]:
            assert preprocess(raw, filled, "--replace")[0] == 0
        return filled

    return step


@pytest.fixture
def folder(filled):
    """Folder of a published snapshot."""
    return filled / "snapshots" / resolve(filled).digest


def counted_anew(store):
    """Totals of now, as of a copy of the store whose snapshots were published by 0.1.0."""
    copy = store.with_name("of 0.1.0")
    shutil.copytree(store, copy)
    for path in copy.glob(f"snapshots/*/{FILE}"):
        path.unlink()
    found = Store.open(copy).totals()
    shutil.rmtree(copy)
    return found


def change(path, **values):
    """Seal other values, as damage does not."""
    path.write_bytes(seal({**unseal(path.read_bytes()), **values}))


def test_totals_are_those_of_counting_anew_whatever_happened_and_whatever_is_folded(grow, filled):
    seen = []
    for what in HISTORY:
        grow(what)
        # Commits on top of a snapshot that has been published, or of none.
        seen.append(Store.open(filled).totals())
        assert seen[-1] == counted_anew(filled), what
        digest = resolve(filled).digest
        assert kept(filled / "snapshots" / digest) == Store.open(filled).totals() == seen[-1], what
        assert main(["verify", str(filled)]) == 0, what
    assert [total.images for total in seen] == [69, 70, 70, 70, 61, 61]
    assert seen[1].twins == 1 and seen[2].shadowed == 1 and seen[3].classes["healthy"] == 1
    assert sum(seen[0].reasons.values()) == 1


def test_totals_that_are_kept_are_told_without_a_column_and_without_numpy(folder, filled, capsys):
    for column in folder.glob("*.npy"):
        column.unlink()
    code = "import sys; from mri_hpc.store import main; main(sys.argv[1:]); print('numpy' in sys.modules)"
    words = [sys.executable, "-c", code, "info", str(filled), "--json"]
    out = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    values, _end, has_numpy = out.rpartition("}\n")
    assert json.loads(values + "}")["images"] == 60
    assert has_numpy == "False\n"


@pytest.mark.parametrize(
    "harm", [lambda data: b"", lambda data: data[:50], lambda data: data.replace(b"60", b"61")]
)
def test_damaged_totals_are_named_and_counted_again_by_a_repair(folder, filled, tmp_path, capsys, harm):
    good = (folder / FILE).read_bytes()
    (folder / FILE).write_bytes(harm(good))
    assert main(["info", str(filled)]) == 2
    repair = f"repair it: mri-hpc store verify {filled} --repair --source DIR"
    assert f"{folder / FILE} is damaged" in (err := capsys.readouterr().err) and repair in err
    assert main(["verify", str(filled)]) == 2
    assert f"{folder / FILE} is damaged" in capsys.readouterr().out
    assert main(["verify", str(filled), "--repair", "--source", str(tmp_path / "raw")]) == 0
    assert "repaired 0 chunks and 1 snapshot" in capsys.readouterr().out
    assert (folder / FILE).read_bytes() == good


@pytest.mark.parametrize(
    "name", ["content_digest", "images", "classes", "bytes", "twins", "several", "reasons", "added"]
)
def test_totals_that_are_sealed_and_not_those_of_the_snapshot_are_found(folder, filled, capsys, name):
    value = asdict(kept(folder))[name]
    others = (
        {
            "added": {**value, "created": [0.0] * 8},
            "several": {**value, "patients_of_splits": 7},
        }
        if isinstance(value, dict)
        else {}
    )
    other = others.get(name, {"b": 1} if isinstance(value, dict) else None)
    change(folder / FILE, **{name: other or type(value)(7)})
    assert main(["verify", str(filled)]) == 2
    assert f"{folder / FILE} differs from its snapshot in {name}: repair it" in capsys.readouterr().out


def test_wrong_totals_of_a_snapshot_whose_chunks_are_gone_are_counted_again(folder, filled, tmp_path, capsys):
    good = (folder / FILE).read_bytes()
    assert main(["compact", str(filled), "--keep-days", "0"]) == 0
    change(folder / FILE, images=7)
    assert main(["verify", str(filled), "--repair", "--source", str(tmp_path / "raw")]) == 0
    assert (folder / FILE).read_bytes() == good


def test_totals_of_another_snapshot_or_of_a_newer_version_are_refused(folder, grow):
    change(folder / FILE, digest="0" * 32)
    with pytest.raises(StoreDamage, match=f"{FILE} is damaged"):
        kept(folder)
    change(folder / FILE, digest=folder.name, format=3)
    with pytest.raises(NewerFormat, match="has format 3, this version reads up to 2"):
        kept(folder)


def test_a_commit_that_nobody_has_folded_counts_beside_the_kept_totals(folder, grow, filled):
    before = kept(folder)
    grow("added")
    now = Store.open(filled).totals()
    new = set(open_store(filled).commit_ids()) - {
        name.decode() for name in resolve(filled, folder.name).commits.tolist()
    }
    assert (now.images, now.commits) == (before.images + 9, before.commits + len(new))
    assert set(zip(before.added.created, before.added.images, strict=True)) < set(
        zip(now.added.created, now.added.images, strict=True)
    )
    assert sum(now.added.images) == 69


@pytest.fixture
def never_counted(monkeypatch):
    """Counting all images fails from when this is called on."""

    def begin():
        for module, name in itertools.product(("counts", "grown"), ("count", "count_images")):
            monkeypatch.setattr(f"mri_hpc.storage.snapshot.{module}.{name}", None)

    return begin


@pytest.mark.parametrize("older", ["none", "of the first format"])
def test_totals_that_an_older_version_has_not_kept_or_counted_otherwise_are_counted_once_by_who_adds(
    folder, filled, grow, never_counted, older
):
    good = (folder / FILE).read_bytes()
    if older == "none":
        (folder / FILE).unlink()
    else:
        (folder / FILE).write_bytes(seal({**unseal(good), "format": 1, "twins": 7}))
        assert Store.open(filled).totals().twins == 0
    assert main(["verify", str(filled)]) == 0
    grow("added")
    assert (folder / FILE).read_bytes() == good
    never_counted()
    assert Store.open(filled).grown().counts.images == 69


def test_adding_counts_no_image_that_is_there_already(folder, filled, grow, never_counted):
    never_counted()
    grow("added")
    grow("twins")
    assert Store.open(filled).grown().counts.twins == Store.open(filled).totals().twins == 1


@pytest.mark.parametrize("data", [b"", seal({"format": 9})])
def test_totals_that_cannot_be_read_keep_nobody_from_adding(folder, filled, grow, data):
    (folder / FILE).write_bytes(data)
    grow("added")
    assert Store.open(filled).grown().counts.images == 69
    with pytest.raises((StoreDamage, NewerFormat)):
        kept(folder)


def test_who_publishes_reads_of_the_commits_only_those_that_came_since(folder, grow, filled, monkeypatch):
    skimmed = []
    skim = catalogue.skim_additions
    monkeypatch.setattr(
        catalogue, "skim_additions", lambda store, names: skim(store, skimmed.append([*names]) or skimmed[-1])
    )
    before = set(open_store(filled).commit_ids())
    grow("added")
    found = kept(filled / "snapshots" / resolve(filled).digest)
    assert skimmed == [sorted(set(open_store(filled).commit_ids()) - before)]
    assert found == counted_anew(filled)


def test_who_publishes_beside_damaged_totals_reads_all_commits(folder, grow, filled):
    (folder / FILE).write_bytes(b"?")
    grow("added")
    assert kept(filled / "snapshots" / resolve(filled).digest) == counted_anew(filled)


def test_a_commit_that_could_not_be_read_once_is_missing_from_no_later_totals(folder, grow, filled):
    [one, *_] = sorted((filled / "commits").iterdir())
    good = one.read_bytes()
    (folder / FILE).unlink()
    one.write_bytes(good[:50])
    grow("added")
    less = kept(filled / "snapshots" / resolve(filled).digest).added
    one.write_bytes(good)
    grow("twins")
    now = kept(filled / "snapshots" / resolve(filled).digest)
    assert len(now.added.created) == len(less.created) + 2
    assert now == counted_anew(filled)


def test_what_an_earlier_version_did_not_write_down_is_read_once_from_the_commits(folder, grow, filled):
    older = unseal((folder / FILE).read_bytes())["added"]
    assert older.pop("commits") == len(open_store(filled).commit_ids())
    change(folder / FILE, added={**older, "images": [one + 1 for one in older["images"]]})
    grow("added")
    assert sum(kept(filled / "snapshots" / resolve(filled).digest).added.images) == 69
