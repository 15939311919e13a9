"""store prove: a sound file system passes, a broken one is found and named, and nothing is left lying."""

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mri_hpc.base.errors import UserError
from mri_hpc.store import main
from mri_hpc.testing import file_system, processes, proof
from mri_hpc.testing.file_system import Check
from mri_hpc.testing.proof import own_folder, prove

REAL = {name: getattr(os, name) for name in ("link", "replace", "rename", "unlink", "mkdir", "fsync")}


def test_a_sound_file_system_keeps_all_promises_for_little_room_and_gets_its_folder_back(tmp_path):
    command = [sys.executable, "-m", "mri_hpc.store", "prove", str(tmp_path), "--seconds", "5", "--json"]
    most_files = most_bytes = 0
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            paths = [Path(folder, name) for folder, _folders, names in os.walk(tmp_path) for name in names]
            most_files = max(most_files, len(paths))
            most_bytes = max(most_bytes, sum(map(size_of, paths)))
            # The proof is to have the processor.
            time.sleep(0.05)
        out, err = process.communicate()
    assert process.returncode == 0, err
    values = json.loads(out)
    assert values["kept"]
    assert [one["promise"] for one in values["promises"] if not one["kept"]] == []
    found = {one["promise"]: one["found"] for one in values["promises"]}
    assert len(found) == 12
    assert "by hard links" in found["a name is given to one file only"]
    assert int(found["writers that are killed lose and double nothing"].split()[0]) > 0
    assert err.startswith(f"working in {tmp_path}/")
    assert list(tmp_path.iterdir()) == []
    assert 10 < most_files < 500
    assert most_bytes < 50e6


def test_the_verdict_is_a_line_a_promise(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(proof, "_of_stores", lambda chance, seconds: ())
    assert main(["prove", str(tmp_path)]) == 0
    *lines, last = capsys.readouterr().out.splitlines()
    assert len(lines) == len(file_system.CHECKS)
    assert all(line.startswith("ok ") for line in lines)
    assert f"a store keeps its promises here; {len(lines)} of them kept" in last


def size_of(path):
    """0 where it is gone by now."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


def link_over(source, target):
    """Takes a name that is taken."""
    REAL["replace"](source, target)


def link_slowly(source, target):
    """The name is there before the content."""
    with Path(target).open("xb") as file:
        os.write(file.fileno(), Path(source).read_bytes())


def write_into(source, target, **_more):
    """Writes into the file that is there."""
    data = Path(source).read_bytes()
    with Path(target).open("wb") as file:
        for half in (data[: len(data) // 2], data[len(data) // 2 :]):
            file.write(half)
            file.flush()
            REAL["fsync"](file.fileno())
    REAL["unlink"](source)


def rename_over(source, target, **_more):
    """Puts a folder in place of another."""
    if Path(target).is_dir():
        shutil.rmtree(target)
    REAL["rename"](source, target)


def cut_and_unlink(path, **more):
    """Takes the content away with the last name."""
    if Path(path).is_file() and Path(path).stat().st_nlink == 1:
        os.truncate(path, 0)
    REAL["unlink"](path, **more)


def open_to_all(path, _mode=0o777, **more):
    REAL["mkdir"](path, 0o755, **more)


def refuse_folders(descriptor):
    if Path(f"/proc/self/fd/{descriptor}").is_dir():
        raise OSError(errno.EIO, os.strerror(errno.EIO))
    REAL["fsync"](descriptor)


BROKEN = {
    "fsync is answered": ("fsync", refuse_folders),
    "a name is given to one file only": ("link", link_over),
    "a file is replaced at once": ("replace", write_into),
    "a folder is published at once": ("rename", rename_over),
    "an open file outlives its name": ("unlink", cut_and_unlink),
    "private/ is its owner's alone": ("mkdir", open_to_all),
}


@pytest.mark.parametrize("what", BROKEN)
def test_what_a_file_system_does_not_keep_is_named_first_and_no_store_is_tried(
    what, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(os, *BROKEN[what])
    assert main(["prove", str(tmp_path)]) == 2
    out, err = capsys.readouterr()
    broken = [line for line in out.splitlines() if line.startswith("NOT OK")]
    assert what in broken[0]
    assert [line.split()[0] for line in out.splitlines() if "not tried: what is missing" in line] == ["-"] * 3
    assert "it means: " in out
    last = err.splitlines()[-1]
    assert f"{len(broken)} of 12 promises are not kept, the first: {what}: " in last
    assert list(tmp_path.iterdir()) == []


def test_json_is_one_document_also_where_a_promise_is_not_kept(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(os, "link", link_over)
    assert main(["prove", str(tmp_path), "--json"]) == 2
    out, err = capsys.readouterr()
    values = json.loads(out)
    assert not values["kept"]
    assert [one["kept"] for one in values["promises"][:2]] == [True, False]
    assert "promises are not kept" in err


def test_without_hard_links_names_are_given_by_renames(tmp_path, monkeypatch):
    def refused(_source, _target):
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "link", refused)
    monkeypatch.setattr(proof, "_of_stores", lambda chance, seconds: ())
    outcomes = {outcome.what: outcome for outcome in prove(tmp_path, seconds=1)}
    assert [outcome for outcome in outcomes.values() if not outcome.is_kept] == []
    assert "by renames that replace nothing" in outcomes["a name is given to one file only"].found


def test_a_listing_that_is_out_of_date_is_found(tmp_path, monkeypatch):
    real, listed = Path.iterdir, {}
    monkeypatch.setattr(Path, "iterdir", lambda path: iter(listed.setdefault(path, list(real(path)))))
    with pytest.raises(
        file_system.NotKept, match=r"file-0 was published, another process listed \[\] as new"
    ):
        file_system.list_names(tmp_path)


def test_a_name_that_is_there_before_its_content_is_found_by_kills(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "link", link_slowly)
    verdicts = {outcome.what: outcome for outcome in prove(tmp_path, seconds=20, seed=1)}
    assert verdicts["a name is given to one file only"].is_kept
    assert verdicts["writers that are killed lose and double nothing"].is_kept is False


@pytest.mark.parametrize(
    ("number", "status"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 130), (signal.SIGKILL, -signal.SIGKILL)],
)
def test_a_proof_that_is_interrupted_removes_its_folder_and_one_that_is_killed_leaves_it_to_the_next(
    tmp_path, number, status
):
    with subprocess.Popen(
        [sys.executable, "-m", "mri_hpc.store", "prove", str(tmp_path)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        # By its first verdict the folder is there.
        assert process.stdout.readline().startswith("ok")
        process.send_signal(number)
        err = process.communicate()[1]
    assert process.returncode == status, err
    left = list(tmp_path.iterdir())
    assert [str(path) for path in left] == ([err.split()[-1]] if number == signal.SIGKILL else [])
    with own_folder(tmp_path) as folder:
        assert list(tmp_path.iterdir()) == [folder]
    assert list(tmp_path.iterdir()) == []


# There, Python drops what the handler of a signal raises, or ends itself by SIGINT though it was caught.
AMID = {
    "a fork": "os.register_at_fork(before=told)",
    "the end of an object": "wrap(lambda: type('Told', (), {'__del__': lambda _self: told()})())",
    "an exec": "wrap(lambda: exec('told()', globals()))",
}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("amid", AMID)
def test_a_proof_that_is_interrupted_where_python_loses_it_hears_it(tmp_path, amid, number):
    place = tmp_path / "place"
    place.mkdir()
    (tmp_path / "interrupted.py").write_text(f"""
import os, sys
from mri_hpc.store import main
from mri_hpc.testing import processes
def told(): os.kill(os.getpid(), {int(number)})
def wrap(tell, together=processes.together):
    processes.together = lambda *words: (tell(), together(*words))
{AMID[amid]}
sys.exit(main(["prove", {str(place)!r}]))
""")
    words = [sys.executable, "-m", "interrupted"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 130, done.stderr
    assert done.stderr.endswith("mri-hpc store: interrupted\n")
    assert list(place.iterdir()) == []


def test_an_interruption_between_two_starts_leaves_no_process_behind(tmp_path, monkeypatch):
    start, started = processes.start, []

    def interrupted(step, logs):
        if started:
            raise KeyboardInterrupt
        # This line stands for the last moment at which its caller does not know its number.
        started.append(start(step, logs))
        return started[0]

    monkeypatch.setattr(processes, "start", interrupted)
    with pytest.raises(KeyboardInterrupt):
        processes.together([signal.pause, signal.pause], tmp_path)
    with pytest.raises(ChildProcessError):
        os.waitpid(started[0], os.WNOHANG)


def test_a_proof_of_another_machine_is_left_and_named(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(proof, "_of_stores", lambda chance, seconds: ())
    other = tmp_path / ".tmp-other.4026531836-1.2-0a1b2c3d-mri-hpc-prove"
    other.mkdir()
    assert main(["prove", str(tmp_path)]) == 0
    assert f"{other} is of another proof" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [other]


def test_a_folder_that_the_file_system_does_not_let_go_is_named(tmp_path, monkeypatch):
    def refused(path):
        raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), str(path))

    told = r"mri-hpc-prove could not be removed .*remove it by hand"
    with pytest.raises(UserError, match=told), own_folder(tmp_path):
        monkeypatch.setattr(shutil, "rmtree", refused)


def test_what_is_no_folder_is_refused(tmp_path, capsys):
    assert main(["prove", str(tmp_path / "none")]) == 2
    assert "is not a folder" in capsys.readouterr().err
    assert main(["prove", str(tmp_path), "--seconds", "1"]) == 2
    assert "--seconds must be between" in capsys.readouterr().err


def test_a_process_that_has_no_room_for_its_last_words_ends_no_proof(tmp_path, monkeypatch, capsys):
    def fail_mutely(_steps, _logs):
        raise AssertionError

    monkeypatch.setattr(file_system.processes, "together", fail_mutely)
    assert main(["prove", str(tmp_path)]) == 2
    assert f"{tmp_path} has no room for the proof (a process failed and" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_writers_are_killed_in_a_folder_named_from_here_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("here").mkdir()
    monkeypatch.setattr(proof, "CHECKS", ())
    outcomes = list(prove(Path("here"), seconds=0.0))
    assert [outcome.is_kept for outcome in outcomes] == [True, True, True]
    assert "0 kills" not in outcomes[0].found and "0 times" not in outcomes[1].found


def test_a_full_disk_is_no_verdict_on_the_file_system(tmp_path, monkeypatch, capsys):
    def look(_folder):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "somewhere")

    monkeypatch.setattr(proof, "CHECKS", (Check(what="anything", means="anything", look=look),))
    assert main(["prove", str(tmp_path), "--json"]) == 2
    said = json.loads(capsys.readouterr().out)["error"]
    assert said["kind"] == "user" and "make room (df)" in said["message"]
    assert list(tmp_path.iterdir()) == []
