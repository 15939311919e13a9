"""A real Slurm for the tests in this folder: see tools/sandbox/README.md."""

import os
from collections.abc import Iterator

import pytest

from tests.harness.cluster import Sandboxes, Slurm, why_not


@pytest.fixture(scope="session")
def slurm_possible() -> None:
    """Skips where no Slurm can run, or fails where MRI_REQUIRE_SLURM=1 asks for one."""
    reason = why_not()
    if reason and os.environ.get("MRI_REQUIRE_SLURM") == "1":
        pytest.fail(f"MRI_REQUIRE_SLURM=1, but {reason}")
    if reason:
        pytest.skip(reason)


@pytest.fixture(scope="session")
def sandboxes(slurm_possible: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandboxes]:
    """Starts sandboxes with options of a test's own; all are taken down when the session ends."""
    boxes = Sandboxes(folder=tmp_path_factory.mktemp("slurm"))
    try:
        yield boxes
    finally:
        boxes.stop_all()


@pytest.fixture(scope="session")
def slurm(sandboxes: Sandboxes) -> Slurm:
    """A Slurm of four nodes that gives up on silent nodes, and kills, sooner than most clusters."""
    return sandboxes.start("--slurmd-timeout", 20, "--kill-wait", 10)
