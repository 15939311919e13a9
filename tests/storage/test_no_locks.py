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

    def run(*arguments):
        command = [sys.executable, "-m", "mri_hpc", *map(str, arguments)]
        ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
        assert ran.returncode == 0, ran.stderr
        return json.loads(ran.stdout)

    refused = "import fcntl; fcntl.flock(0, fcntl.LOCK_EX)"
    ran = subprocess.run([sys.executable, "-c", refused], env=environment, capture_output=True, text=True)
    assert f"[Errno {number}]" in ran.stderr
    where = ("--source", "raw", "--store", "store")
    assert run("preprocess", *where, "--size", 16, "--ids", "as-given", "--json")["stored"] == 6
    assert run("store", "export", "store", "--single", "all.h5", "--json")["images"] == 6
    assert run("store", "sheet", "store", "sheet.png", "--json")["file"] == "sheet.png"
    assert run("store", "verify", "store", "--json")["images"] == 6
