"""Promises 1, 12 and 13 on real file systems of other kinds: one with a quota, and one that can do little."""

import contextlib
import io
import shutil

import pytest

from mri_hpc import preprocess as preprocessing
from mri_hpc import store as store_command
from tests.harness.disks import QuotaDisk, can_mount, exfat_disk
from tests.harness.promises import check_end, check_sound
from tests.harness.scenes import CHUNK_IMAGES, SIDE, Place, take

pytestmark = pytest.mark.usefixtures("limits")


def needs(*programs):
    """Skips where these programs are not, or this user may not mount."""
    missing = [program for program in programs if not shutil.which(program)]
    return pytest.mark.skipif(bool(missing) or not can_mount(), reason=f"needs root, {missing or programs}")


def command(place, name):
    """Status of one command that changes the store, and what it complained of."""
    adding = ["--source", place.raw, "--store", place.store, "--size", SIDE, "--chunk-images", CHUNK_IMAGES]
    retracting = ["retract", place.store, "--patient", "patient0", "--yes"]
    words = [str(word) for word in (adding if name == "preprocess" else retracting)]
    main = preprocessing.main if name == "preprocess" else store_command.main
    err = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(err):
        status = main(words)
    return status, err.getvalue().splitlines()


@needs("mkfs.btrfs", "btrfs", "losetup")
@pytest.mark.parametrize("name", ["preprocess", "retract"])
def test_a_quota_that_runs_out_is_one_line_and_loses_nothing(stage, name):
    made = stage(name)
    place = made.place()

    def run_out():
        disk = QuotaDisk(place.root / "disk")
        on_disk = Place(disk.folder, place.sources)
        if place.store.exists():
            shutil.copytree(place.store, on_disk.store)
        used, refused, status = disk.used(), 0, 2
        for more in range(0, 2**21, 2**16):
            disk.set_quota(used + more)
            status, lines = command(on_disk, name)
            if not status:
                break
            assert (status, len(lines)) == (2, 1), lines
            assert "Disk quota exceeded" in lines[0]
            assert "make room there, then run it again" in lines[0]
            refused += 1
            check_sound(on_disk)
        assert (status, refused >= 1) == (0, True)
        disk.set_quota(None)
        assert command(on_disk, name)[0] == 0
        check_end(made, on_disk)

    take(place, [run_out])


@needs("mkfs.exfat", "mount.exfat-fuse", "losetup")
@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ("umask=022", "keeps no permissions (mode 755 in place of 700): choose a --store on another one, or"),
        ("umask=077", "has neither hard links nor renames that replace nothing"),
    ],
)
def test_a_memory_stick_that_cannot_keep_the_promises_is_refused_in_one_line(stage, options, complaint):
    place = stage("preprocess").place()

    def try_it():
        with exfat_disk(place.root / "stick", options) as folder:
            on_stick = Place(folder, place.sources)
            status, lines = command(on_stick, "preprocess")
            assert (status, len(lines)) == (2, 1), lines
            assert complaint in lines[0]
            assert [path for path in on_stick.store.rglob("*") if path.is_file()] == []

    take(place, [try_it])
