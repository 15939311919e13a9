"""The archive for a help desk: what it tells, that it tells of no patient, and that it is listed first."""

import csv
import json
import pwd
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mri_hpc import doctor, preprocess
from mri_hpc.cluster.bundle import contents
from mri_hpc.rundir.ledger import Kind, record
from mri_hpc.rundir.settings import JobSettings, TrainingSettings, save_settings
from mri_hpc.storage.store import Store, read_wanted, search_folder
from tests.harness.handlers import handlers_kept

SITE_KEY = "5ec7e7" * 11
PASSWORD = "hunter2hunter2"
PATIENTS = ("Ångström Åse", "Overland_Kari", "MUELLER^JOERG", "44170932")
USER = ("quillonf", "Fenella Quillon")


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    """A folder with a store of four patients, and the site's key by which they are named."""
    folder = tmp_path_factory.mktemp("stored")
    (folder / "site.key").write_text(f"{SITE_KEY}\n")
    (folder / "site.key").chmod(0o600)
    for number, patient in enumerate(PATIENTS):
        path = folder / "raw" / ("glioma", "none")[number % 2] / patient / "1.png"
        path.parent.mkdir(parents=True)
        noise = np.random.default_rng(number).integers(40, 90, (32, 32), dtype=np.uint8)
        Image.fromarray(noise).save(path)
    words = ["--source", str(folder / "raw"), "--store", str(folder / "store"), "--size", "32"]
    with pytest.MonkeyPatch.context() as patch, handlers_kept():
        patch.setenv("MRI_KEY_FILE", str(folder / "site.key"))
        assert preprocess.main(words) == 0
    return folder


@pytest.fixture
def planted(stored, tmp_path, make_run, monkeypatch):
    """A run whose logs, ledger and settings name patients, images, the key and the user; and all of these."""
    monkeypatch.setenv("MRI_KEY_FILE", str(stored / "site.key"))
    monkeypatch.setenv("MRI_SOURCE", "/archive/raw")
    monkeypatch.setenv("LOGNAME", USER[0])
    entry = pwd.struct_passwd((USER[0], "x", 1000, 1000, f"{USER[1]},Ward 3", f"/home/{USER[0]}", "/bin/sh"))
    monkeypatch.setattr(pwd, "getpwuid", lambda _uid: entry)
    names = Store(stored / "store").names_and_ids()
    assert names > {*PATIENTS}
    run = make_run(patients=3)
    save_settings(run, TrainingSettings(store=str(stored / "store")), JobSettings(account="proj"))
    rows = list(csv.DictReader(run.predictions.read_text().splitlines()))
    in_predictions = {row[column] for row in rows for column in ("key", "patient")}
    told = [*sorted(names | in_predictions), "Zebedee", "IMG00071", "Wolverhampton", SITE_KEY, PASSWORD]
    said = "\n".join([
        *(f"looking at {one}, then on" for one in sorted(names | in_predictions)),
        "RuntimeError: /archive/raw/glioma/Zebedee/IMG00071 is damaged",
        "OSError: 'scans/Wolverhampton ward/1.nii.gz': no space left on device",
        f"password={PASSWORD} key {SITE_KEY}",
        f"PermissionError: /home/{USER[0]}/mri by {USER[1]} on {USER[0]}-laptop",
        "CUDA out of memory on node n17",
    ])  # fmt: skip
    attempt = run.newest_attempt()
    run.rank_log(attempt, 0).write_text(f"{said}\n")
    run.submitit.mkdir()
    (run.submitit / "4711_0_log.out").write_text(f"slurmstepd on n17\n{said}\n")
    (run.submitit / "4711_submission.sh").write_text(f"#!/bin/sh\n# {said}\n#SBATCH --nodes=2\n")
    (run.submitit / "4711_submitted.pkl").write_bytes(f"pickled {said}".encode())
    run.private.mkdir()
    run.private_report.write_text(said)
    record(run, attempt, Kind.DECIDED, decision="give_up", cause="crashed", reason=said.splitlines()[0],
           step=3, status=1, last_words=said.splitlines())  # fmt: skip
    record(run, attempt, Kind.CANCELLED, by="dcolleague")
    monkeypatch.chdir(tmp_path)
    return run, [*told, *USER, *USER[1].split(), "dcolleague"]


def names_in(folder: Path, names: list[str]) -> set[str]:
    """Names that the store's own search finds below a folder."""
    (folder.parent / "planted.txt").write_text("\n".join(names))
    wanted = read_wanted(folder.parent / "planted.txt")
    assert len(wanted.names) == len(names)
    found = search_folder(folder, wanted.names, progress=lambda paths: paths).found
    return {names[one.line - 1] for one in found}


def test_the_archive_holds_no_name_and_what_a_help_desk_asks_for(planted, tmp_path, capsys):
    run, names = planted
    assert names_in(run.path, names) == {*names}
    assert doctor.main(["--bundle", str(run.path), "--yes", "--only", "libraries", "key"]) == 0
    archive = tmp_path / f"{run.path.name}-bundle.zip"
    assert "is written" in capsys.readouterr().out
    assert archive.stat().st_mode & 0o777 == 0o600
    zipfile.ZipFile(archive).extractall(tmp_path / "unpacked")
    assert names_in(tmp_path / "unpacked", names) == set()
    texts = {
        str(path.relative_to(tmp_path / "unpacked" / archive.stem)): path.read_text()
        for path in (tmp_path / "unpacked").rglob("*")
        if path.is_file()
    }
    assert set(texts) == {
        "README.txt", "versions.json", "doctor.txt", "variables.json", "settings.toml", "status.json",
        "decisions.txt", "ledger.jsonl", "attempts/1.1/rank0.log", "submitit/4711_0_log.out",
        "submitit/4711_submission.sh",
    }  # fmt: skip
    assert "could not be read" not in "".join(texts.values())
    for name in ("attempts/1.1/rank0.log", "submitit/4711_0_log.out", "decisions.txt"):
        assert "CUDA out of memory on node n17" in texts[name]
        assert "no space left on device" in texts[name]
    assert 'account = "proj"' in texts["settings.toml"]
    assert "#SBATCH --nodes=2" in texts["submitit/4711_submission.sh"]
    events = [json.loads(line) for line in texts["ledger.jsonl"].splitlines()]
    assert [event["kind"] for event in events][-2:] == ["decided", "cancelled"]
    assert json.loads(texts["variables.json"])["MRI_KEY_FILE"] == "(set)"


def test_without_yes_the_archive_is_listed_with_sizes_and_the_line_to_type(planted, tmp_path, capsys):
    run, _names = planted
    before = sorted(tmp_path.rglob("*"))
    assert doctor.main(["--bundle", str(run.path), "--only", "libraries"]) == 0
    listed = capsys.readouterr().out
    assert sorted(tmp_path.rglob("*")) == before
    assert "attempts/1.1/rank0.log" in listed and " kB  last lines of a rank of attempt 1.1" in listed
    assert (
        f"Nothing is written so far. To write {run.path.name}-bundle.zip: mri-hpc doctor --bundle" in listed
    )
    assert listed.rstrip().endswith("--yes")


def test_ids_that_only_a_store_out_of_reach_knows_are_said_to_stay(planted, tmp_path, capsys):
    run, _names = planted
    save_settings(run, TrainingSettings(store=str(tmp_path / "gone")), JobSettings())
    assert doctor.main(["--bundle", str(run.path), "--only", "libraries"]) == 0
    assert (
        "note: the private folder of its store is not there, or not yours to read" in capsys.readouterr().out
    )


def test_a_name_that_the_beginning_of_the_last_lines_cuts_in_two_is_left_out(planted, tmp_path, monkeypatch):
    run, _names = planted
    patient = PATIENTS[0]
    log = run.rank_log(run.newest_attempt(), 0)
    log.write_text(f"{patient} {patient}\nlast\n")
    monkeypatch.setattr(contents, "TAIL_BYTES", len("last\n") + 8)
    monkeypatch.setattr(contents, "LINE_LETTERS", 7)
    assert doctor.main(["--bundle", str(run.path), "--yes", "--only", "libraries"]) == 0
    with zipfile.ZipFile(tmp_path / f"{run.path.name}-bundle.zip") as archive:
        told = archive.read(f"{run.path.name}-bundle/attempts/1.1/rank0.log").decode()
    assert told == "last\n"


def test_a_run_whose_files_are_damaged_still_makes_an_archive(planted, tmp_path, capsys):
    run, names = planted
    run.settings.write_text(f"[training\n{names[0]}")
    run.events.write_text("rubbish\n")
    assert doctor.main(["--bundle", str(run.path), "--json", "--yes", "--only", "libraries"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["archive"] == f"{run.path.name}-bundle.zip"
    with zipfile.ZipFile(tmp_path / said["archive"]) as archive:
        assert "could not be read" in archive.read(f"{run.path.name}-bundle/status.json").decode()


def test_yes_alone_is_refused(capsys):
    assert doctor.main(["--yes"]) == 2
    assert "--yes goes with" in capsys.readouterr().err
