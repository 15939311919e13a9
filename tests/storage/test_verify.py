import errno
import json
import os
from dataclasses import replace

import numpy as np
import pytest

from mri_hpc.storage.disk.layout import open_store
from mri_hpc.storage.disk.pixels import damaged_rows
from mri_hpc.storage.snapshot.catalogue import current, publish_snapshot, resolve
from mri_hpc.storage.upkeep import verify as verifying
from mri_hpc.storage.upkeep.verify import verify
from mri_hpc.store import main


@pytest.fixture
def chunk(filled):
    return sorted((filled / "chunks").iterdir())[0]


def problems(filled):
    return verify(open_store(filled)).problems


def test_a_sound_store_has_no_problems(filled, capsys):
    resolve(filled)
    findings = verify(open_store(filled))
    assert (findings.problems, findings.remarks) == ([], [])
    assert (findings.images, findings.chunks) == (60, 8)
    assert main(["verify", str(filled)]) == 0
    assert "sound: 60 images in 8 chunks (" in capsys.readouterr().out


def test_every_flipped_bit_of_pixels_is_found_with_its_key(filled, chunk):
    from mri_hpc.storage.disk.chunk_file import read_header

    header = read_header(chunk)
    data = bytearray(chunk.read_bytes())
    data[header.offset + 256 * 3 + 100] ^= 1
    chunk.write_bytes(data)
    (problem,) = problems(filled)
    assert str(chunk) in problem
    assert f"pixels of 1 of {len(header)} images differ" in problem
    assert f"{int(header.columns['key'][3]):016x}" in problem


def test_flipped_bits_anywhere_are_found_or_harmless(tmp_path, make_pictures, preprocess):
    """Metadata of HDF5 has no checksum in this format, so what is read out must still be what was sealed."""
    make_pictures(tmp_path / "raw", 8)
    store = tmp_path / "store"
    assert preprocess(tmp_path / "raw", store, "--size", 16)[0] == 0
    # Of one chunk: all of it is verified for each bit.
    (chunk,) = (store / "chunks").iterdir()
    good = chunk.read_bytes()
    from mri_hpc.storage.disk.chunk_file import content_id, read_header

    random = np.random.default_rng(3)
    for position in random.integers(0, len(good), 150):
        data = bytearray(good)
        data[position] ^= 1 << int(random.integers(8))
        chunk.write_bytes(data)
        assert problems(store) or content_id(read_header(chunk)) == chunk.stem
    chunk.write_bytes(good)
    assert problems(store) == []


def test_truncated_missing_and_longer_chunks_are_found(filled, chunk):
    good = chunk.read_bytes()
    for data in (good[:-10], good[:5000], b"", good + b"\0"):
        chunk.write_bytes(data)
        (problem,) = problems(filled)
        assert str(chunk) in problem
    chunk.unlink()
    (problem,) = problems(filled)
    assert f"{chunk} is missing" in problem


def test_a_chunk_under_another_name_is_found(filled):
    first, second = sorted((filled / "chunks").iterdir())[:2]
    first.replace(second)
    assert len(problems(filled)) == 2


def test_foreign_files_are_problems_and_litter_is_not(filled):
    (filled / "chunks" / "notes.txt").touch()
    (filled / "commits" / ".tmp-host-1-aa-x.json").touch()
    findings = verify(open_store(filled))
    assert findings.problems == [f"{filled}/chunks/notes.txt is no part of the store: move it away"]
    assert "killed task" in findings.remarks[0]


def test_what_is_published_while_it_runs_is_no_problem(filled, tmp_path, make_pictures, preprocess):
    make_pictures(tmp_path / "raw", 3, first=60)

    def publish_meanwhile(names):
        assert preprocess(tmp_path / "raw", filled)[0] == 0
        assert len(resolve(filled)) == 63
        return names

    findings = verify(open_store(filled), progress=publish_meanwhile)
    assert (findings.problems, findings.remarks, findings.images) == ([], [], 60)


def test_a_chunk_that_the_disk_does_not_give_is_named_and_the_others_are_read(filled, chunk, monkeypatch):
    def read(path, header):
        if path == chunk:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return damaged_rows(path, header)

    monkeypatch.setattr(verifying, "damaged_rows", read)
    findings = verify(open_store(filled))
    (problem,) = findings.problems
    assert problem.startswith(f"{chunk} cannot be read (Input/output error): repair it:")
    assert (findings.chunks, list(findings.damaged_chunks)) == (7, [chunk.stem])


def test_a_sealed_chunk_without_its_commit_is_no_damage(filled, chunk):
    for path in (filled / "commits").iterdir():
        if json.loads(path.read_text())["chunk"] == chunk.stem:
            path.unlink()
    findings = verify(open_store(filled))
    assert findings.problems == []
    assert "sealed but not committed" in findings.remarks[0]


def test_a_damaged_commit_is_found(filled):
    path = sorted((filled / "commits").iterdir())[0]
    path.write_text(path.read_text()[:50])
    assert any(str(path) in problem for problem in problems(filled))


def test_a_snapshot_that_is_not_what_its_commits_say_is_found_also_when_it_is_not_the_newest(
    filled, tmp_path, make_pictures, preprocess
):
    snapshot = current(open_store(filled))
    labels = snapshot.label.copy()
    labels[0] ^= 1
    publish_snapshot(open_store(filled), replace(snapshot, label=labels))
    for _newer in range(2):
        (problem,) = problems(filled)
        assert f"{snapshot.digest} differs from its commits in label" in problem
        make_pictures(tmp_path / "raw", 1, first=60)
        preprocess(tmp_path / "raw", filled)


def test_a_snapshot_of_a_commit_that_is_gone_is_found(filled):
    resolve(filled)
    sorted((filled / "commits").iterdir())[0].unlink()
    (problem,) = problems(filled)
    assert "folds commits that are not in the store (1): restore them" in problem


def test_damage_ends_with_status_2_and_one_line_that_names_it(filled, chunk, capsys):
    chunk.write_bytes(b"")
    assert main(["verify", str(filled), "--json"]) == 2
    printed = capsys.readouterr()
    assert len(json.loads(printed.out)["problems"]) == 1
    assert printed.err.count("\n") == 1
    assert str(chunk) in printed.err


def test_a_sample_has_read_every_chunk_after_as_many_days_as_it_promises(filled):
    from mri_hpc.storage.upkeep.verify import turn_of_day

    names = [f"{number:02d}" for number in range(23)]
    turns = [turn_of_day(names, 0.1, day) for day in range(20_000, 20_010)]
    assert {len(turn) for turn in turns} == {3}
    assert set().union(*turns) == set(names)
    assert turn_of_day(names, 1.0, 20_000) == set(names)
    assert turn_of_day([], 0.1, 20_000) == set()
    findings = verify(open_store(filled), fraction=0.25, day=3)
    assert (findings.chunks, findings.problems) == (2, [])


def test_a_sample_finds_missing_and_truncated_chunks_also_out_of_turn(filled, chunk):
    good = chunk.read_bytes()
    for day in range(8):
        chunk.write_bytes(good[:-1])
        assert len(verify(open_store(filled), fraction=0.1, day=day).problems) == 1
        chunk.unlink()
        assert "is missing" in verify(open_store(filled), fraction=0.1, day=day).problems[0]


def test_damage_names_the_sources(filled, chunk, capsys):
    from mri_hpc.storage.disk.chunk_file import read_header

    header = read_header(chunk)
    data = bytearray(chunk.read_bytes())
    data[header.offset + 256 * 3 + 100] ^= 1
    chunk.write_bytes(data)
    assert main(["verify", str(filled), "--json"]) == 2
    (damaged,) = json.loads(capsys.readouterr().out)["damaged"]
    assert damaged["key"] == f"{int(header.columns['key'][3]):016x}"
    label = header.columns["label"][3].decode()
    assert damaged["source"].startswith(f"{label}/patient") and damaged["source"].endswith(".jpg")
    assert main(["verify", str(filled)]) == 2
    assert f"damaged: {damaged['key']}  {damaged['source']}" in capsys.readouterr().out


def test_a_share_that_is_none_is_refused(filled, capsys):
    for text in ("0", "200%", "much", "nan"):
        assert main(["verify", str(filled), "--sample", text]) == 2
        assert f"such as 1% or 0.01, got '{text}'" in capsys.readouterr().err
    assert main(["verify", str(filled), "--sample", "1%"]) == 0
    assert "images in 1 chunk (" in capsys.readouterr().out


def test_an_export_is_one_file_that_h5py_reads_and_equals_the_store(filled, tmp_path, capsys):
    import h5py

    from mri_hpc.storage.reading.reader import Reader

    snapshot = resolve(filled)
    target = tmp_path / "all of it.h5"
    assert main(["export", str(filled), "--single", str(target)]) == 0
    assert f"60 images are in {target}" in capsys.readouterr().out
    with h5py.File(target) as file, Reader(filled, snapshot) as reader:
        assert np.array_equal(file["images"][...], reader.read(np.arange(60)))
        assert np.array_equal(file["key"][...], snapshot.key)
        assert json.loads(file.attrs["classes"]) == ["glioma", "meningioma"]
        names = [snapshot.classes[code] for code in snapshot.label.tolist()]
        assert file["label"].asstr()[...].tolist() == names
        patients = [snapshot.patient_names[code] for code in snapshot.patient.tolist()]
        assert file["patient"][...].tolist() == patients
        assert set(file["study"][...].tolist()) == {b""}
    before = target.read_bytes()
    assert main(["export", str(filled), "--single", str(target)]) == 2
    assert f"{target} is there already" in capsys.readouterr().err
    assert target.read_bytes() == before
    assert main(["export", str(filled), "--single", str(tmp_path / "none" / "all.h5")]) == 2
    assert "is no folder: make it" in capsys.readouterr().err


def test_an_export_of_damaged_pixels_leaves_no_file(filled, chunk, tmp_path, capsys):
    from mri_hpc.storage.disk.chunk_file import read_header

    resolve(filled)
    data = bytearray(chunk.read_bytes())
    data[read_header(chunk).offset + 256 * 3 + 100] ^= 1
    chunk.write_bytes(data)
    (tmp_path / "out").mkdir()
    assert main(["export", str(filled), "--single", str(tmp_path / "out" / "all.h5")]) == 2
    assert "differ from their CRC" in capsys.readouterr().err
    assert list((tmp_path / "out").iterdir()) == []


def test_a_sheet_shows_the_selected_images_and_lists_them(filled, tmp_path, capsys):
    from PIL import Image

    from mri_hpc.storage.reading.reader import Reader

    snapshot = resolve(filled)
    sheet = tmp_path / "sheet.png"
    argv = ["sheet", str(filled), str(sheet), "--class", "glioma", "--count", "5", "--json"]
    assert main(argv) == 0
    images = json.loads(capsys.readouterr().out)["images"]
    assert [(one["line"], one["column"]) for one in images] == [(1, 1), (1, 2), (1, 3), (2, 1), (2, 2)]
    assert {one["class"] for one in images} == {"glioma"}
    with Image.open(sheet) as picture:
        pixels = np.asarray(picture)
    rows = np.searchsorted(snapshot.key, np.array([int(one["key"], 16) for one in images], np.uint64))
    with Reader(filled, snapshot) as reader:
        expected = reader.read(rows)
    for one, image in zip(images, expected, strict=True):
        top, left = 2 + (one["line"] - 1) * 18, 2 + (one["column"] - 1) * 18
        assert np.array_equal(pixels[top : top + 16, left : left + 16], image)
    drawn = sheet.read_bytes()
    capsys.readouterr()
    assert main(argv[:-1]) == 0
    assert sheet.read_bytes() == drawn
    heading, *lines = capsys.readouterr().out.splitlines()
    assert heading.split() == ["line", "column", "key", "class", "patient"]
    assert [line.split()[:3] for line in lines[:5]] == [
        [str(one["line"]), str(one["column"]), one["key"]] for one in images
    ]


def test_a_sheet_of_one_patient_and_of_nothing(filled, tmp_path, capsys):
    patient = resolve(filled).patient_names[0].decode()
    sheet = str(tmp_path / "sheet.png")
    assert main(["sheet", str(filled), sheet, "--patient", patient, "--json"]) == 0
    images = json.loads(capsys.readouterr().out)["images"]
    assert {one["patient"] for one in images} == {patient}
    for options, message in (
        (["--patient", "nobody"], "has no image of patient 'nobody'"),
        (["--class", "none"], "has no class 'none'; it has: glioma, meningioma"),
        (["--count", "0"], "--count must be at least 1, got 0"),
    ):
        assert main(["sheet", str(filled), sheet, *options]) == 2
        assert message in capsys.readouterr().err
    assert main(["sheet", str(filled), str(tmp_path / "sheet.jpg")]) == 2
    assert "give it a name that ends with .png" in capsys.readouterr().err


def test_info_tells_what_is_there(filled, capsys):
    assert main(["info", str(filled), "--json"]) == 0
    values = json.loads(capsys.readouterr().out)
    expected = {
        "images": 60, "patients": 7, "classes": {"glioma": 30, "meningioma": 30}, "chunks": 8, "rejected": 0,
        "shadowed": 0, "twins": 0, "reasons": {},
    }  # fmt: skip
    assert expected.items() <= values.items()
    assert values["bytes"] == sum(path.stat().st_size for path in (filled / "chunks").iterdir())
    assert list((filled / "snapshots").iterdir()) == []
    assert values["snapshot"] == resolve(filled, values["snapshot"]).digest
    assert main(["info", str(filled)]) == 0
    assert "class glioma" in capsys.readouterr().out
    assert main(["info", str(filled / "chunks")]) == 2
    assert "is not a store" in capsys.readouterr().err
