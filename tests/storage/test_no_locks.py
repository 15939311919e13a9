"""A store asks for no lock: some file systems of clusters know none."""

import errno
import json
import os
import shutil
import subprocess
import sys

import pytest

# The last is ENOTSUPP of the kernel, which has no name here.
REFUSALS = [errno.ENOLCK, errno.EOPNOTSUPP, 524]
SOURCE = """
#include <errno.h>
#include <stdlib.h>
int flock(int descriptor, int operation) { errno = atoi(getenv("FLOCK_ERRNO")); return -1; }
"""
# One after the other in one process, which finds first that locks are refused.
COMMANDS = """
import fcntl
from mri_hpc import preprocess, store
try:
    fcntl.flock(0, fcntl.LOCK_EX)
except OSError as error:
    print(error)
for command, words in (
    (preprocess, "--source raw --store store --size 16 --ids as-given"),
    (store, "export store --single all.h5"),
    (store, "sheet store sheet.png"),
    (store, "verify store"),
):
    print("--", flush=True)
    assert command.main([*words.split(), "--json"]) == 0, words
"""


@pytest.fixture(scope="module")
def refusing(tmp_path_factory):
    """A library whose flock fails with the number in FLOCK_ERRNO."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if not compiler:
        pytest.skip("no C compiler here")
    folder = tmp_path_factory.mktemp("flock")
    (folder / "flock.c").write_text(SOURCE)
    library = folder / "flock.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, folder / "flock.c"], check=True)
    return library


@pytest.mark.parametrize("number", REFUSALS)
def test_where_flock_is_refused_a_store_is_made_read_exported_and_verified(
    refusing, number, tmp_path, make_pictures
):
    make_pictures(tmp_path / "raw", 6)
    environment = {**os.environ, "LD_PRELOAD": str(refusing), "FLOCK_ERRNO": str(number)}

    ran = subprocess.run(
        [sys.executable, "-c", COMMANDS], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    refusal, *said = ran.stdout.split("--\n")
    assert f"[Errno {number}]" in refusal
    preprocessed, exported, sheet, verified = map(json.loads, said)
    assert (preprocessed["stored"], exported["images"], verified["images"]) == (6, 6, 6)
    assert sheet["file"] == "sheet.png"
