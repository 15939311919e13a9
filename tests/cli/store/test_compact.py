import json

from mri_hpc.storage.snapshot.catalogue import resolve
from mri_hpc.store import main


def test_compact_says_what_it_did_and_does_nothing_more_the_second_time(
    tmp_path, make_pictures, preprocess, capsys
):
    make_pictures(tmp_path / "raw", 60)
    store = tmp_path / "store"
    preprocess(tmp_path / "raw", store, "--size", 16, "--chunk-images", 8)
    content = resolve(store).content_digest
    capsys.readouterr()
    assert main(["compact", str(store), "--dry-run"]) == 0
    assert capsys.readouterr().out.startswith("chunks: 8 before, 1 then, 0.6 MB to write")
    assert main(["compact", str(store), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert (
        printed["chunks_before"],
        printed["chunks"],
        printed["images_dropped"],
        printed["files_removed"],
    ) == (
        8,
        1,
        0,
        0,
    )
    assert main(["compact", str(store), "--keep-days", "0"]) == 0
    assert capsys.readouterr().out == "chunks: 1 before, 1 now, 0.0 MB written, 8 superseded files removed\n"
    assert resolve(store).content_digest == content


def test_wrong_options_are_said_in_one_line(tmp_path, capsys):
    assert main(["compact", str(tmp_path), "--target-mb", "0"]) == 2
    assert "--target-mb must be between 1 and 65536, got 0" in capsys.readouterr().err
    assert main(["compact", str(tmp_path), "--keep-days", "-1"]) == 2
    assert "--keep-days must be 0 or more, got -1" in capsys.readouterr().err


def test_many_small_private_tables_become_one_that_says_the_same(
    tmp_path, make_pictures, preprocess, monkeypatch
):
    from mri_hpc.storage.upkeep import tidying

    monkeypatch.setattr(tidying, "MOST_FILES", 3)
    raw, store = tmp_path / "raw", tmp_path / "store"
    make_pictures(raw, 40)
    (raw / "glioma" / "damaged.jpg").write_bytes(b"<html>")
    preprocess(raw, store, "--size", 16, "--chunk-images", 8)

    def lines():
        return sorted(
            {line for f in (store / "private" / "names").iterdir() for line in f.read_text().split()}
        )

    before = lines()
    assert main(["compact", str(store)]) == 0
    for folder in ("names", "seen"):
        (file,) = (store / "private" / folder).iterdir()
        assert file.stat().st_mode & 0o777 == 0o600
    assert lines() == before
    # No file is read again, nothing is stored or listed twice.
    monkeypatch.setattr("mri_hpc.storage.adding.windowed.read_content", None)
    assert preprocess(raw, store)[1].startswith("stored 0, already there 40, rejected 1 ")
