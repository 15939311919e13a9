"""Promise 12 for a project: accounts of one group add to one store, and nobody else sees what is private."""

import io
import itertools
import os
import re
import stat
import struct
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path

import numpy as np
import pytest

from mri_hpc.base.errors import UserError
from mri_hpc.preprocess import main
from mri_hpc.storage.disk.layout import StoreDir
from mri_hpc.storage.store import Store
from mri_hpc.storage.upkeep.verify import verify
from tests.harness import dicom_phantoms as phantoms
from tests.harness.disks import open_the_way

PROJECT, OTHERS = 64711, 64712
ANNA, BERND, CLARA = 64701, 64702, 64703
"""Accounts: two of the project, and one that is not. Of each, the first group is its own."""
ROOT = Path(__file__).parents[2]
NUMBERS = itertools.count()
MEMBERS = {ANNA: [PROJECT], BERND: [PROJECT], CLARA: [OTHERS]}

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as several accounts")


@pytest.fixture
def project(make_pictures):
    """A place that every account can pass through, with pictures and an empty folder of the project.

    Not below pytest's own folder: whatever session starts closes that to others.
    """
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder)
        place.chmod(0o711)
        for who, first in ((ANNA, 0), (BERND, 100), (CLARA, 200)):
            make_pictures(place / f"raw{who}", 20, first=first)
        subprocess.run(["chmod", "-R", "a+rX", *place.iterdir()], check=True)
        (place / "shared").mkdir()
        os.chown(place / "shared", -1, PROJECT)
        (place / "shared").chmod(0o2770)
        yield place


@pytest.fixture
def start(project, preprocess):
    """Starts preprocess as one account, with a umask of 077; gives what waits for its end.

    In a fork of this process, which has loaded all: Python may lie where no other account can look.
    """
    for who in (ANNA, BERND):
        words = ("--size", 16, "--group", PROJECT)
        assert preprocess(project / f"raw{who}", project / "first", *words)[0] == 0

    def run(who, *options, store="shared/store", key="shared/key/site.key"):
        words = ["--source", project / f"raw{who}", "--store", project / store, "--size", "16"]
        # Four images a chunk: two tasks at once meet again and again.
        words += ["--chunk-images", "4", *options]
        log = project / f"log{next(NUMBERS)}"
        log.touch()
        pid = os.fork()
        if not pid:
            status = 1
            try:
                become(who, log)
                os.environ |= {"HOME": str(project), "MRI_KEY_FILE": str(project / key) if key else ""}
                status = main(list(map(str, words)))
            finally:
                # What a fork raises is shown nowhere else.
                if status == 1:
                    traceback.print_exc()
                sys.stderr.flush()
                os._exit(status)
        return lambda: (os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), log.read_text())

    return run


def become(who, log):
    os.dup2(os.open(log, os.O_WRONLY), 2)
    sys.stderr = os.fdopen(2, "w", closefd=False)
    sys.stdout = io.StringIO()
    # A clone below root's home is closed to them, and Python imports what a command needs when it needs it.
    open_the_way(ROOT, *(Path(place).resolve() for place in {sys.prefix, sys.base_prefix}))
    os.setgroups(MEMBERS[who])
    os.setgid(who)
    os.setuid(who)
    os.umask(0o077)


def test_two_accounts_of_a_project_add_at_once_and_a_third_is_refused(project, start):
    status, err = start(ANNA, "--group", PROJECT)()
    assert status == 0, err
    asked = f"patients are named by the site's key, {project}/shared/key/site.key: keep a copy of it"
    assert asked in err
    make_more(project / f"raw{ANNA}")
    both = [start(ANNA), start(BERND)]
    for process in both:
        status, err = process()
        assert status == 0, err
        assert "keep a copy" not in err
    store = StoreDir(project / "shared" / "store")
    findings = verify(store)
    assert (findings.problems, findings.images) == ([], 60)
    chunks = {path.stat().st_uid for path in store.chunks.iterdir()}
    assert chunks == {ANNA, BERND}
    names = "".join(path.read_text() for path in store.names.iterdir())
    assert {len(set(re.findall(rf"{patient},(P\w+),", names))) for patient in ("patient1", "patient2")} == {1}
    private = [project / "shared" / "key" / "site.key", store.private, *store.private.rglob("*")]
    assert len({path.stat().st_uid for path in private}) == 2
    for path in private:
        mode = stat.S_IMODE(path.stat().st_mode)
        assert (mode, path.stat().st_gid) == (0o2770 if path.is_dir() else 0o660, PROJECT), path
    (project / "shared").chmod(0o2775)
    status, err = start(CLARA)()
    assert (status, len(err.splitlines())) == (2, 1)
    assert "Permission denied" in err
    assert verify(store).images == 60


def test_what_saves_work_is_every_members_to_bring_up_to_date(project, start):
    slices = phantoms.classic(np.full((40, 40, 6), 900, np.uint16), np.diag([4.0, 4.0, 5.0, 1.0]))
    for who in (ANNA, BERND, CLARA):
        folder = project / f"raw{who}" / "glioma" / f"P{who}"
        folder.mkdir()
        for number, one in enumerate(slices):
            one.PatientID, one.SeriesInstanceUID = f"P{who}", phantoms.uid(who)
            (folder / str(number)).write_bytes(phantoms.as_bytes(one))
    subprocess.run(["chmod", "-R", "a+rX", project], check=True)
    for who, more in ((ANNA, ["--group", PROJECT]), (BERND, []), (ANNA, [])):
        status, err = start(who, *more)()
        assert status == 0, err
        assert "not compared" not in err
    store = StoreDir(project / "shared" / "store")
    assert len({path.stat().st_uid for path in store.series.iterdir()}) == 2
    for path in (store.series, *store.series.iterdir()):
        assert path.stat().st_mode & 0o777 == (0o770 if path.is_dir() else 0o660), path


def make_more(raw):
    from PIL import Image

    for path in list(raw.rglob("*.jpg")):
        with Image.open(path) as image:
            image.rotate(90).save(path.with_suffix(".png"))


def test_a_store_that_was_one_accounts_is_opened_by_the_one_who_made_it_alone(project, start):
    assert start(ANNA, key="shared/a.key")()[0] == 0
    store = StoreDir(project / "shared" / "store")
    assert start(BERND, key="shared/b.key")()[0] == 2
    # As was done by hand so far: others may look, and still it is not theirs to open.
    subprocess.run(["chmod", "-R", "a+rX", store.path], check=True)
    status, err = start(BERND, "--group", PROJECT, key="shared/b.key")()
    assert (status, store.group) == (2, None), err
    assert "is another user's: only who made a store, or root, can open it to a group" in err
    status, err = start(ANNA, "--group", PROJECT, key="shared/a.key")()
    assert status == 0, err
    status, err = start(BERND, key="shared/a.key")()
    assert status == 0, err
    assert verify(store).images == 40


def test_a_group_that_is_not_the_accounts_and_a_key_at_home_are_refused(project, start):
    refused = {
        "you are not in the group": ["--group", OTHERS],
        "there is no group 'no such'": ["--group", "no such"],
    }
    for says, options in refused.items():
        status, err = start(ANNA, *options)()
        assert (status, says in err) == (2, True), err
    status, err = start(ANNA, "--group", PROJECT, key="")()
    assert (status, "set MRI_KEY_FILE to a file outside the store" in err) == (2, True), err
    status, err = start(ANNA, "--group", PROJECT, key="shared/store/private/site.key")()
    assert (status, "the site's key, lies in the store" in err) == (2, True), err


def acl(*entries):
    """An ACL as the kernel has it: owner, group and mask with all, others with nothing, and more entries."""
    rows = sorted([(0x01, 7, -1), *entries, (0x04, 7, -1), (0x10, 7, -1), (0x20, 0, -1)])
    return struct.pack("<I", 2) + b"".join(
        struct.pack("<HHI", tag, may, who % 2**32) for tag, may, who in rows
    )


def set_acl(path, *entries, name="system.posix_acl_access"):
    try:
        os.setxattr(path, name, acl(*entries))
    except OSError as error:
        pytest.skip(f"no ACLs here: {error}")


def test_whoever_an_acl_lets_in_beside_the_group_is_refused(project, start):
    assert start(ANNA, "--group", PROJECT)()[0] == 0
    private, key = project / "shared" / "store" / "private", project / "shared" / "key" / "site.key"
    set_acl(private, (0x02, 7, CLARA))
    status, err = start(BERND)()
    assert (status, "names patients, and others may look into it" in err) == (2, True), err
    set_acl(private, (0x08, 7, PROJECT))
    set_acl(key, (0x02, 4, CLARA))
    status, err = start(BERND)()
    assert (status, "holds the site's key but others may read it" in err) == (2, True), err
    set_acl(key, (0x08, 6, PROJECT))
    status, err = start(BERND)()
    assert status == 0, err


def test_a_folder_whose_acl_would_let_others_into_new_files_is_not_opened_to_a_group(project, start):
    assert start(ANNA)()[0] == 0
    set_acl(project / "shared/store/private", (0x02, 7, CLARA), name="system.posix_acl_default")
    status, err = start(ANNA, "--group", PROJECT)()
    assert (status, "has an ACL that lets others in: setfacl -b" in err) == (2, True), err


@pytest.mark.parametrize("what", ["private", "key"])
def test_anything_wider_than_one_group_is_refused(what, project, start):
    assert start(ANNA, "--group", PROJECT)()[0] == 0
    path = project / {"private": "shared/store/private", "key": "shared/key/site.key"}[what]
    path.chmod(path.stat().st_mode | 0o004)
    status, err = start(BERND)()
    assert (status, "others may" in err) == (2, True), err
    path.chmod(path.stat().st_mode & ~0o007)
    os.chown(path, -1, OTHERS)
    path.chmod(0o2770 if what == "private" else 0o660)
    assert start(BERND)()[0] == 2


def test_a_key_that_a_group_may_read_is_refused_for_a_store_of_one_account(project, start):
    assert start(ANNA)()[0] == 0
    (project / "shared/key/site.key").chmod(0o640)
    status, err = start(ANNA)()
    assert (status, "holds the site's key but others may read it: chmod 600" in err) == (2, True), err


def test_a_second_group_is_refused(tmp_path, make_pictures, preprocess):
    make_pictures(tmp_path / "raw", 6)
    assert preprocess(tmp_path / "raw", tmp_path / "store", "--size", 16, "--group", PROJECT)[0] == 0
    with pytest.raises(UserError, match=f"is the group {PROJECT}'s already"):
        Store(tmp_path / "store").share(OTHERS)


def test_what_new_images_were_compared_with_is_the_groups_too(project, start):
    assert start(ANNA, "--group", PROJECT)()[0] == 0
    store = StoreDir(project / "shared" / "store")
    for path in store.twins.iterdir():
        path.unlink()
    # Another account of the project goes on with the same folder.
    status, err = start(BERND)()
    assert status == 0, err
    assert {path.stat().st_uid for path in store.twins.iterdir()} == {BERND}
    assert (stat.S_IMODE(store.twins.stat().st_mode), store.twins.stat().st_gid) == (0o2770, PROJECT)
