"""Login and compute nodes of sites: homes that cannot be written, limits, disks without programs."""

import importlib.util
from pathlib import Path

from tests.cli.rubbish.bad_places import words
from tests.cli.rubbish.case import OnSite
from tests.cli.rubbish.desk import Desk

READ_ONLY = "mount -o remount,ro home"
FULL = "mount -o remount,size=4k home; head -c 4096 /dev/zero > home/mail"
KEY = "home/.config/mri_hpc/site.key"
OUT = "export MRI_KEY_FILE=/project/folder/site.key"
NUMPY = Path(str(importlib.util.find_spec("numpy").origin)).parent
NOEXEC = 'mount --bind "{0}" "{0}"; mount -o remount,bind,noexec "{0}"'


def preprocess(desk: Desk) -> list[str]:
    """Images for a new store, which needs a key."""
    return words("preprocess", "--source", desk.raw, "--store", desk.root / "new", "--size", 16)


def doctor(*checks: str) -> list[str]:
    """A look by some checks of the doctor."""
    return words("doctor", "--only", *checks)


def launch(desk: Desk) -> list[str]:
    """A run as it would be launched."""
    return words(
        "launch",
        "--store",
        desk.store,
        "--run",
        "r",
        "--cluster",
        "local",
        "--dry-run",
        "--patient-label",
        "slices",
    )


CASES = (
    OnSite(
        name="a home that is read-only: preprocess",
        make=preprocess,
        site=READ_ONLY,
        says=(f"{KEY}, the site's key, cannot be made (Read-only file system): name a place", OUT),
    ),
    OnSite(
        name="a home that is read-only: doctor",
        make=lambda desk: doctor("key"),
        site=READ_ONLY,
        says=("1 of 1 findings", "the site's key cannot be made at ", f"{KEY}: Read-only file system"),
    ),
    OnSite(
        name="a home that is full: doctor",
        make=lambda desk: doctor("key"),
        site=FULL,
        says=("1 of 1 findings", f"{KEY}: No space left on device"),
    ),
    OnSite(
        name="a home of each node: preprocess in a job",
        make=preprocess,
        site="",
        in_job=True,
        says=(f"{KEY}, the site's key, is not on node n3, and made there no other node would find it", OUT),
    ),
    OnSite(
        name="a home of each node: doctor in a job",
        make=lambda desk: doctor("key"),
        site="",
        in_job=True,
        says=("1 of 2 findings", "the key's folder is on a disk of this machine (tmpfs)"),
    ),
    OnSite(
        name="little address space: preprocess",
        make=preprocess,
        site="ulimit -v 200000",
        says=("this shell may use 0.20 GB of address space (ulimit -v), which is too little; ulimit -v",),
    ),
    OnSite(
        name="little address space: doctor",
        make=lambda desk: doctor("limits"),
        site="ulimit -v 1000000",
        says=("1 of ", "this shell may use 1.02 GB of address space (ulimit -v), too little to start"),
    ),
    OnSite(
        name="libraries on a disk without programs: preprocess",
        make=preprocess,
        site=NOEXEC.format(NUMPY),
        says=(".so cannot be loaded from where it lies", "mounted noexec; install on another one"),
    ),
    OnSite(
        name="a home that is read-only, and a TMPDIR without programs: launch needs neither",
        make=launch,
        site="mkdir home/tmp; mount -t tmpfs -o noexec tmpfs home/tmp; export TMPDIR=$PWD/home/tmp; "
        f"{READ_ONLY}; ulimit -v 2000000",
        says=(),
        status=0,
    ),
)
