"""Sources as they are read: whole, at one moment, and known again by their fingerprints."""

import errno
import hashlib
import itertools
import os
import struct

import numpy as np
import pytest

from mri_hpc.base.errors import BadSource
from mri_hpc.intake.files import content as reading
from mri_hpc.intake.files.content import read_content
from mri_hpc.intake.files.fingerprint import Fingerprint, look_at
from mri_hpc.intake.files.sources import Sources


def test_what_is_no_regular_file_is_rejected_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    for path in (tmp_path / "pipe.jpg", tmp_path):
        with pytest.raises(BadSource, match="not a regular file"):
            read_content(path.parent, [path.name])


def test_what_was_listed_and_is_no_more_is_gone(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_content(tmp_path, ["1.jpg"])


def test_a_link_to_nothing_is_rejected_with_what_to_do(tmp_path):
    (tmp_path / "link.jpg").symlink_to("nowhere")
    with pytest.raises(BadSource, match=r"link to a file that is not there .*git-annex"):
        read_content(tmp_path, ["link.jpg"])


@pytest.mark.parametrize(
    ("other", "mtime_ns"),
    [(b"all of it, at another time", 1), (b"the other half", 1), (b"the other half", 2)],
    ids=["longer", "later", "with its time set back"],
)
def test_a_file_that_is_written_while_it_is_read_is_rejected(tmp_path, monkeypatch, other, mtime_ns):
    path = tmp_path / "1.jpg"
    path.write_bytes(b"the first half")
    os.utime(path, ns=(2, 2))
    real, calls = os.fstat, []

    def fstat(descriptor):
        calls.append(descriptor)
        status = real(descriptor)
        if len(calls) == 1:
            # By another writer, between the first look and the reading.
            path.write_bytes(other)
            os.utime(path, ns=(mtime_ns, mtime_ns))
        return status

    monkeypatch.setattr(os, "fstat", fstat)
    with pytest.raises(BadSource, match="being written"):
        read_content(path.parent, [path.name])


def test_a_link_to_itself_cannot_be_opened(tmp_path):
    (tmp_path / "link.jpg").symlink_to("link.jpg")
    with pytest.raises(BadSource, match="cannot be opened"):
        read_content(tmp_path, ["link.jpg"])


def test_content_carries_size_and_hash(tmp_path):
    (tmp_path / "file").write_bytes(b"abc")
    os.utime(tmp_path / "file", ns=(1, 77))
    content = read_content(tmp_path, ["file"])
    assert [file.data for file in content.files] == [b"abc"]
    # sha256("abc") begins ba7816bf 8f01cfea (FIPS 180-4).
    assert content.fingerprint == Fingerprint(size=3, mtime_ns=77, source_hash=0xBA7816BF8F01CFEA)


@pytest.fixture
def pair(tmp_path):
    """A source of two files between two of one file each, and the folder that they lie in."""
    for number, name in enumerate(("a", "b.hdr", "b.img", "c"), start=1):
        (tmp_path / name).write_bytes(name.encode() * number)
        os.utime(tmp_path / name, ns=(number, number))
    keys = np.array([1, 2, 3], "<u8")
    return tmp_path, Sources(keys=keys, files=["a", "b.hdr", "b.img", "c"], starts=np.array([0, 1, 3, 4]))


def begin(digest, how):
    return struct.unpack(how, digest[:8])[0]


def test_the_fingerprint_of_two_files_is_a_function_of_theirs(pair):
    root, _sources = pair
    found = read_content(root, ["b.hdr", "b.img"]).fingerprint
    parts = [hashlib.sha256(data).digest() for data in (b"b.hdr" * 2, b"b.img" * 3)]
    looks = hashlib.sha256(struct.pack("<4q", 10, 2, 15, 3)).digest()
    assert found == Fingerprint(
        size=25,
        mtime_ns=begin(looks, "<q"),
        source_hash=begin(hashlib.sha256(b"".join(parts)).digest(), ">Q"),
    )
    assert read_content(root, ["b.img", "b.hdr"]).fingerprint != found


def test_a_source_that_is_looked_at_looks_as_when_it_was_read(pair):
    root, sources = pair
    sizes, times_ns = look_at(sources, root)
    read = [read_content(root, source.files).fingerprint for source in sources]
    assert sizes.tolist() == [one.size for one in read]
    assert times_ns.tolist() == [one.mtime_ns for one in read]


@pytest.mark.parametrize("name", ["b.hdr", "b.img"])
def test_a_change_of_any_file_of_a_source_shows_without_reading_it(pair, name):
    root, sources = pair
    before = look_at(sources, root)[1].tolist()
    # Older than the other one, and of the same size.
    os.utime(root / name, ns=(0, 0))
    after = look_at(sources, root)[1].tolist()
    assert [one == other for one, other in zip(before, after, strict=True)] == [True, False, True]
    (root / name).unlink()
    assert look_at(sources, root)[0].tolist()[1] == -1
    with pytest.raises(FileNotFoundError):
        read_content(root, ["b.hdr", "b.img"])


def test_a_file_that_is_written_while_the_next_one_of_its_source_is_read_is_rejected(pair, monkeypatch):
    root, _sources = pair
    real, calls = reading._read_file, itertools.count(1)

    def read_file(path, **how):
        if next(calls) == 2:
            (root / "b.hdr").write_bytes(b"other")
        return real(path, **how)

    monkeypatch.setattr(reading, "_read_file", read_file)
    with pytest.raises(BadSource, match="being written"):
        read_content(root, ["b.hdr", "b.img"])


def test_a_large_file_on_a_disk_that_fails_is_one_file_that_cannot_be_read(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "MAX_BYTES", 100)
    (tmp_path / "volume.nii.gz").write_bytes(reading.GZIP + bytes(200))
    (file,) = read_content(tmp_path, ["volume.nii.gz"]).files
    with pytest.raises(BadSource, match="file cannot be read"), file.opened():
        raise OSError(errno.EIO, "Input/output error")
