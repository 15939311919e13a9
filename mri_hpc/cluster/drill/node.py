"""A node's look at run, store, key and GPUs: started by the job's script on each, before the ranks."""

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mri_hpc.base.atomic import publish_new_bytes
from mri_hpc.base.command import described
from mri_hpc.base.errors import UserError
from mri_hpc.base.gpu_parts import parts_of_gpus
from mri_hpc.cluster.doctor import limits, network
from mri_hpc.cluster.doctor.finding import Finding, Level, Site, note, problem
from mri_hpc.cluster.drill.folder import DrillFolder
from mri_hpc.cluster.drill.probe import STOPS, as_line
from mri_hpc.cluster.drill.ways import Apart, Ways
from mri_hpc.cluster.slurm import node_name
from mri_hpc.intake.labels.pseudonyms import Pseudonyms, key_path, site_key

CHECKS = (limits.CHECK, network.CHECK)
"""Of the doctor's, those that differ from node to node."""
TORCH_WITHIN_S = 60
TORCH_IS_SLOW_S = 20
# In a process of its own: where it dies, this one says so. Each GPU adds up 512 numbers 512 times 512 times.
ASK_TORCH = """
import json, torch, torchvision
wrong = []
for number in range(torch.cuda.device_count()):
    try:
        ones = torch.ones(512, 512, device=f"cuda:{number}")
        if float((ones @ ones).sum()) != 512.0**3:
            wrong.append(f"GPU {number} computes wrong numbers")
    except Exception as error:
        said = str(error).partition("\\n")[0]
        wrong.append(f"GPU {number}: {said}")
print(json.dumps([torch.cuda.device_count(), torch.version.cuda, wrong]))
"""


def look(
    drill: DrillFolder, *, token: str, store: str, key: str, gpus: int, interface: str = "", ports: str = ""
) -> Iterator[Finding | Apart]:
    """Look at what a rank, or a task of preprocess, relies on here; nothing that fits is said."""
    with ThreadPoolExecutor(1) as beside:
        # Of all this alone takes long.
        of_torch = beside.submit(lambda: list(_of_torch(gpus)))
        of_folder = list(_of_folder(drill, token))
        yield from of_folder
        if store and not (Path(store) / "recipe.json").is_file():
            yield problem(f"it does not see the store {store}", "put stores on a file system of all nodes")
        if key:
            yield from _of_key(key)
        site = Site(folder=drill.path, environment=os.environ)
        for check in CHECKS:
            yield from (one for one in check.look(site) if one.level is not Level.FINE)
        if not of_folder:
            ways = Ways(drill.ways, interface=interface, ports=ports)
            yield from _of_ways(ways, is_busy=lambda: not of_torch.done())
        yield from of_torch.result()


def _of_ways(ways: Ways, is_busy: Callable[[], bool]) -> Iterator[Finding | Apart]:
    yield from ways.wrong_names()
    yield from ways.missing_interface()
    try:
        yield from ways.apart(is_busy)
    except UserError as error:
        yield problem(str(error), "--port-range LOW-HIGH, of ports that are free and open on all nodes")


def _of_folder(drill: DrillFolder, token: str) -> Iterator[Finding]:
    folder = drill.path.parent
    elsewhere = "put runs where all nodes see them, and drill there: mri-hpc doctor /shared --drill"
    try:
        if not drill.path.is_dir():
            yield problem(f"it does not see {folder}, where the runs are", elsewhere)
        elif not drill.token.is_file() or drill.token.read_text(encoding="utf-8") != token:
            yield problem(f"{folder}, where the runs are, is another folder there", elsewhere)
        else:
            path = drill.path / f"written-by-{node_name()}"
            publish_new_bytes(path, b"")
            path.unlink()
    except OSError as error:
        yield problem(f"it cannot write where the runs are: {described(error)}", elsewhere)


def _of_key(key: str) -> Iterator[Finding]:
    """Compare the site's key with the one of the machine that launches; none is made."""
    path, found = key_path(os.environ), ""
    with contextlib.suppress(UserError, OSError):
        found = Pseudonyms(site_key(path, path.stat().st_gid)).fingerprint() if path.is_file() else ""
    if found != key:
        what = "has another site's key" if found else "does not see the site's key"
        yield note(
            f"it {what} at {path}: preprocess would not work there, though training would",
            "copy the key to where all nodes see it, and export MRI_KEY_FILE=/project/folder/site.key",
        )


def _of_torch(gpus: int) -> Iterator[Finding]:
    install = "bash tools/install_cluster.sh, on a file system of all nodes"
    began = time.monotonic()
    try:
        asked = subprocess.run(
            [sys.executable, "-c", ASK_TORCH],
            capture_output=True, text=True, timeout=TORCH_WITHIN_S, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        yield problem(
            f"importing torch took more than {TORCH_WITHIN_S} s there",
            "install on a faster file system: every start of a run waits for it",
        )
        return
    if asked.returncode:
        last = (asked.stderr.strip().splitlines() or [f"it died with status {asked.returncode}"])[-1]
        yield problem(f"torch cannot be imported there: {last}", install)
        return
    if time.monotonic() - began > TORCH_IS_SLOW_S:
        yield note(
            f"importing torch took more than {TORCH_IS_SLOW_S} s there: each start of a run waits for it",
            "install on a file system that is faster with small files; see how the second drill does",
        )
    count, cuda, wrong = json.loads(asked.stdout.strip().splitlines()[-1])
    if count == 1:
        # CUDA shows this process the first of several parts alone; each rank is given its own.
        count = max(count, len(parts_of_gpus(os.environ)))
    if count < gpus:
        why = "" if cuda else ", and is one without CUDA"
        yield problem(
            f"Slurm gives it {gpus} GPU(s), and torch finds {count} there{why}",
            "srun --gpus=1 mri-hpc doctor --only gpus says why; without GPUs: --gpus-per-node 0",
        )
    for one in wrong:
        yield problem(one, "ask your cluster's help desk")


def main(argv: Sequence[str]) -> int:
    """Print what is found, a line each; return STOPS where no rank can work here."""
    path, token, store, key, gpus, interface, ports = argv
    status = 0
    for one in look(
        DrillFolder(Path(path)), token=token, store=store, key=key, gpus=int(gpus), interface=interface,
        ports=ports,
    ):  # fmt: skip
        print(as_line(one), flush=True)
        if isinstance(one, Apart) or one.level is Level.PROBLEM:
            status = STOPS
    return status


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
