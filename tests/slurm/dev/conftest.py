import pytest
from pathlib import Path
from tests.harness.cluster import Slurm
@pytest.fixture(scope="session")
def slurm():
    return Slurm(dir=Path("/tmp/w/pt/box"))
