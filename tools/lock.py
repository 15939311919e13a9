"""Makes the locks anew: ``.venv/bin/python tools/lock.py``, where the tests pass and uv is installed.

requirements.lock: all that mri_hpc needs, NVIDIA's libraries included; requirements-cuda12.lock: the same
with the last torch for older GPUs and drivers; requirements-preprocess.lock: what ``preprocess`` and
``store`` need, without torch. All are for Python 3.11 to 3.14, with the hash of every
file. Where uv is to look for packages is said by its environment variables, and stands in no lock.
"""

import configparser
import importlib.metadata
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from packaging.requirements import Requirement

from mri_hpc.cluster.doctor.libraries import ONLY_TO_TRAIN

ROOT = Path(__file__).parents[1]
# Not needed by what is installed, but part of every environment: each has its own.
OF_THE_ENVIRONMENT = {"pip", "setuptools", "mri-hpc"}
# The last one from PyPI for CUDA 12 whose files hold code for compute capability 7.0 (V100).
TORCH_OF_CUDA_12 = ["torch==2.10.*", "torchvision==0.25.*"]
OF_CUDA = ("torch", "torchvision", "triton", "nvidia-", "cuda-")
HEAD = """\
# {what}: with their hashes, for Python 3.11 to 3.14, the versions with which the tests passed.
# Used by: bash tools/install_cluster.sh {option}
# Made anew, in an environment whose tests pass, by: .venv/bin/python tools/lock.py
"""


def main() -> None:
    """Write the locks."""
    everything = needed()
    without_torch = [one for one in everything if normal(Requirement(one).name) not in ONLY_TO_TRAIN]
    write(ROOT / "requirements.lock", everything, what="All that mri_hpc needs", option="--lock")
    write(
        ROOT / "requirements-cuda12.lock",
        [*everything, *TORCH_OF_CUDA_12],
        what="All that mri_hpc needs, with a torch for CUDA 12 which the tests did not see",
        option="--gpu v100",
        but=OF_CUDA,
    )
    write(
        ROOT / "requirements-preprocess.lock",
        without_torch,
        what="What preprocess and store need",
        option="--preprocess-only --lock",
    )


def needed() -> list[str]:
    """What setup.cfg asks for."""
    config = configparser.ConfigParser()
    config.read(ROOT / "setup.cfg", encoding="utf-8")
    return config["options"]["install_requires"].split()


def write(lock: Path, requirements: list[str], *, what: str, option: str, but: tuple[str, ...] = ()) -> None:
    """Resolve requirements to the versions that are installed here, for every Python, with hashes.

    but: how names begin of packages whose versions here do not matter.
    """
    with tempfile.TemporaryDirectory() as folder:
        asked, tested = Path(folder) / "asked.in", Path(folder) / "tested.txt"
        asked.write_text("\n".join(requirements))
        tested.write_text("\n".join(one for one in installed() if not one.startswith(but)))
        words = ["pip", "compile", "--universal", "--python-version", "3.11", "--generate-hashes"]
        words += ["--no-header", "--no-annotate", "--quiet", "--constraint", str(tested), str(asked)]
        ran = subprocess.run(
            [sys.executable, "-m", "uv", *words], capture_output=True, text=True, check=False
        )
    if ran.returncode:
        sys.exit(f"tools/lock.py: uv found no versions for {lock.name}:\n{ran.stderr}")
    lock.write_text(HEAD.format(what=what, option=option) + ran.stdout, encoding="utf-8")
    print(f"{lock.name}: {ran.stdout.count('==')} packages")


def installed() -> list[str]:
    """The versions of this environment, as they are published."""
    names = {normal(one.metadata["Name"]): one.version for one in importlib.metadata.distributions()}
    return [
        f"{name}=={version.partition('+')[0]}"
        for name, version in sorted(names.items())
        if name not in OF_THE_ENVIRONMENT
    ]


def normal(name: str) -> str:
    """The name as package indexes compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


if __name__ == "__main__":
    main()
