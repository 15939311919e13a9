"""Published files are whole, durable in the right order, and never overwritten by accident."""

import errno
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from mri_hpc.base import atomic


def test_publish_new_keeps_what_was_there(tmp_path):
    path = tmp_path / "chunk"
    assert atomic.publish_new_bytes(path, b"first") is True
    assert atomic.publish_new_bytes(path, b"second") is False
    assert path.read_bytes() == b"first"


def test_a_link_whose_answer_was_lost_on_the_network_is_known_to_be_ours(tmp_path, monkeypatch):
    def link(temp, path, link=os.link):
        link(temp, path)
        raise FileExistsError(f"{path} is there already, says a server that was asked twice")

    monkeypatch.setattr(os, "link", link)
    assert atomic.publish_new_bytes(tmp_path / "chunk", b"ours") is True
    assert [path.name for path in tmp_path.iterdir()] == ["chunk"]


def test_a_file_that_fails_its_check_is_not_published(tmp_path):
    def refuse(_temp: Path) -> None:
        raise ValueError("unsound")

    with pytest.raises(ValueError, match="unsound"):
        atomic.publish_new(tmp_path / "chunk", lambda temp: temp.write_bytes(b"x"), refuse)
    assert list(tmp_path.iterdir()) == []


def test_replace_publishes_over_what_was_there_and_leaves_no_litter(tmp_path):
    path = tmp_path / "settings.toml"
    atomic.replace_bytes(path, b"one")
    atomic.replace_bytes(path, b"two")
    assert path.read_bytes() == b"two"
    assert [p.name for p in tmp_path.iterdir()] == ["settings.toml"]


def test_a_folder_is_published_whole_or_not_at_all(tmp_path):
    def fill(folder: Path) -> None:
        (folder / "a").write_bytes(b"1")

    def fail(folder: Path) -> None:
        fill(folder)
        raise OSError("no space")

    with pytest.raises(OSError, match="no space"):
        atomic.publish_folder(tmp_path / "7", fail)
    assert list(tmp_path.iterdir()) == []
    assert atomic.publish_folder(tmp_path / "7", fill) is True
    assert atomic.publish_folder(tmp_path / "7", fill) is False
    assert [p.name for p in tmp_path.iterdir()] == ["7"]


def test_without_hard_links_the_name_is_still_taken_only_once(tmp_path, monkeypatch):
    def no_links(*_paths: object) -> None:
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(os, "link", no_links)
    path = tmp_path / "chunk"
    assert atomic.publish_new_bytes(path, b"first") is True
    assert atomic.publish_new_bytes(path, b"second") is False
    assert path.read_bytes() == b"first"


def test_published_files_honour_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        atomic.publish_new_bytes(tmp_path / "shared", b"x")
    finally:
        os.umask(before)
    assert (tmp_path / "shared").stat().st_mode & 0o777 == 0o640


def test_data_is_durable_before_its_name_and_the_name_before_the_return(tmp_path, monkeypatch):
    calls: list[str] = []
    real_fsync, real_link = os.fsync, os.link

    def fsync(descriptor: int) -> None:
        target = Path(f"/proc/self/fd/{descriptor}").readlink()
        calls.append("folder" if target.is_dir() else "data")
        real_fsync(descriptor)

    def link(source: Path, target: Path) -> None:
        calls.append("link")
        real_link(source, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "link", link)
    atomic.publish_new_bytes(tmp_path / "chunk", b"x")
    assert calls == ["data", "link", "folder"]


def test_of_many_publishers_at_once_exactly_one_wins(tmp_path):
    path = tmp_path / "claim"
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        won = pool.starmap(atomic.publish_new_bytes, [(path, bytes([i])) for i in range(16)])
    assert won.count(True) == 1
    assert path.read_bytes() == bytes([won.index(True)])


def test_a_killed_writer_leaves_nothing_that_a_reader_sees(tmp_path):
    code = (
        "import os, signal, sys; from pathlib import Path; from mri_hpc.base import atomic\n"
        "def write(temp):\n"
        "    temp.write_bytes(b'half')\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
        "atomic.publish_new(Path(sys.argv[1]) / 'chunk', write)"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(tmp_path)])
    assert killed.returncode == -signal.SIGKILL
    assert all(p.name.startswith(atomic.TEMP_PREFIX) for p in tmp_path.iterdir())


def test_a_line_that_a_full_disk_cut_short_does_not_swallow_the_next(tmp_path):
    path = tmp_path / "lines"
    atomic.append_line(path, "whole")
    with path.open("a") as file:
        file.write("cut sho")
    atomic.append_line(path, "next")
    assert path.read_text().splitlines() == ["whole", "cut sho", "next"]


def test_a_line_that_does_not_fit_on_the_disk_is_an_error(tmp_path):
    child = os.fork()
    if child == 0:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4, 4))
        try:
            atomic.append_line(tmp_path / "lines", "too long")
        except OSError:
            os._exit(7)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7


def test_appended_lines_of_several_processes_do_not_mix(tmp_path):
    path = tmp_path / "events.jsonl"
    lines = [str(i % 10) * 3000 for i in range(80)]
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        pool.starmap(atomic.append_line, [(path, line) for line in lines])
    # A writer that sees half of another's line begins a new one: readers pass over empty lines.
    assert sorted(filter(None, path.read_text().splitlines())) == sorted(lines)


def test_a_replaced_folder_is_the_old_or_the_new_one_and_leaves_nothing_behind(tmp_path):
    folder = tmp_path / "7"
    for text in ("old", "new"):
        atomic.replace_folder(folder, lambda temp, text=text: (temp / "a").write_text(text) and None)
        assert (folder / "a").read_text() == text
    with pytest.raises(ZeroDivisionError):
        atomic.replace_folder(folder, lambda temp: (temp / "a").write_text("half") / 0)
    assert (folder / "a").read_text() == "new"
    atomic.remove_folder(folder)
    atomic.remove_folder(folder)
    assert list(tmp_path.iterdir()) == []


def test_of_a_link_to_a_folder_the_link_alone_is_removed(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    atomic.remove_folder(tmp_path / "link")
    assert list(tmp_path.iterdir()) == [tmp_path / "folder"]


def test_an_error_names_the_file_that_was_to_be_and_no_temporary_one(tmp_path):
    folder, missing = tmp_path / "folder", tmp_path / "missing" / "file"
    folder.mkdir()
    attempts = (
        (folder, lambda: atomic.replace_bytes(folder, b"x")),
        (missing, lambda: atomic.replace_bytes(missing, b"x")),
        (missing, lambda: atomic.publish_new_bytes(missing, b"x")),
        (missing, lambda: atomic.publish_folder(missing, lambda temp: None)),
    )
    for path, attempt in attempts:
        with pytest.raises(OSError) as caught:
            attempt()
        assert caught.value.filename == str(path)
        assert atomic.TEMP_PREFIX not in str(caught.value)
    assert list(tmp_path.iterdir()) == [folder]


def test_an_error_about_another_file_keeps_its_name(tmp_path):
    source = tmp_path / "source"
    with pytest.raises(FileNotFoundError) as caught:
        atomic.replace(tmp_path / "copy", lambda temp: source.rename(temp) and None)
    assert caught.value.filename == str(source)


def test_on_a_read_only_file_system_the_error_names_the_file_and_not_its_temporary_name(
    tmp_path, monkeypatch
):
    def refuse(path, *_args, **_kwargs):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr(Path, "unlink", refuse)
    with (
        pytest.raises(OSError, match="Read-only") as caught,
        atomic.temporary_beside(tmp_path / "one") as temp,
    ):
        refuse(temp)
    assert caught.value.filename == str(tmp_path / "one")
