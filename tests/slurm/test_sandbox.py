"""The sandbox is a Slurm to trust: real nodes, real preemption, and nothing left behind."""

import hashlib
import os
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

RANK = """
import os
import torch
import torch.distributed as dist

rank, ranks = int(os.environ["SLURM_PROCID"]), int(os.environ["SLURM_NTASKS"])
dist.init_process_group("gloo", rank=rank, world_size=ranks)
total = torch.tensor([float(dist.get_rank() + 1)])
dist.all_reduce(total)
print(f"rank {dist.get_rank()} of {dist.get_world_size()} on {os.uname().nodename}: {total.item():g}")
dist.destroy_process_group()
"""


def test_all_daemons_answer_and_all_nodes_are_idle(slurm):
    status = slurm.status()
    assert status["healthy"], status
    assert {name: node["state"] for name, node in status["nodes"].items()} == dict.fromkeys(
        ["n1", "n2", "n3", "n4"], "idle"
    )
    assert status["partitions"] == {"low": "up", "high": "up"}


def test_a_job_on_four_nodes_finds_four_host_names_and_addresses(slurm, tmp_path):
    output = tmp_path / "out"
    job = slurm.sbatch("-N4", "-o", output, "--wrap", "srun sh -c 'echo $(hostname) $(hostname -I)'")
    assert slurm.wait_end(job) == "COMPLETED"
    found = dict(line.split() for line in output.read_text().splitlines())
    assert found == {name: node["address"] for name, node in slurm.status()["nodes"].items()}


def test_nodes_and_login_shell_know_every_name(slurm):
    addresses = {name: node["address"] for name, node in slurm.status()["nodes"].items()}
    for command in (["exec", "n1"], ["login"]):
        answer = slurm.sandbox(*command, "getent", "hosts", *addresses).stdout
        assert dict(line.split()[::-1] for line in answer.splitlines()) == addresses


def test_a_machines_first_process_never_becomes_another_program(slurm):
    # While exec swaps a process, its environment reads as empty, and the host looks machines up by it.
    for node in slurm.status()["nodes"]:
        assert "machine_init.py" in slurm.sandbox("exec", node, "cat", "/proc/1/cmdline").stdout


def test_sacct_tells_how_a_job_ended(slurm):
    job = slurm.sbatch("-o", "/dev/null", "--wrap", "exit 3")
    assert slurm.wait_end(job) == "FAILED"
    slurm.wait_until(
        lambda: slurm.accounted_states(job) == ["FAILED"], what=f"sacct on job {job}", timeout_s=120
    )


def test_a_high_job_preempts_a_low_one_which_starts_again(slurm, tmp_path):
    counts, go_on = tmp_path / "counts", tmp_path / "go_on"
    script = f"""#!/bin/bash
        echo "${{SLURM_RESTART_COUNT:-0}}" >> '{counts}'
        until [ -e '{go_on}' ]; do sleep 0.1; done
    """
    low = slurm.sbatch("-N4", "--exclusive", "-o", "/dev/null", script=textwrap.dedent(script))
    slurm.wait_until(counts.exists, what="the low job's start")
    high = slurm.sbatch("-p", "high", "-N4", "--exclusive", "-o", "/dev/null", "--wrap", "true")
    assert slurm.wait_end(high) == "COMPLETED"
    go_on.touch()
    assert slurm.wait_end(low) == "COMPLETED"
    assert counts.read_text().split() == ["0", "1"]
    slurm.wait_until(
        lambda: slurm.accounted_states(low) == ["PREEMPTED", "COMPLETED"],
        what="both attempts in sacct",
        timeout_s=120,
    )


def test_an_array_runs_every_task_once(slurm, tmp_path):
    job = slurm.sbatch(
        "--array=0-5", "-o", tmp_path / "%a", "--wrap", "echo $SLURM_ARRAY_TASK_ID/$SLURM_ARRAY_TASK_COUNT"
    )
    slurm.wait_until(lambda: slurm.accounted_states(job) == ["COMPLETED"] * 6, what="the array's end")
    assert {path.name: path.read_text().strip() for path in tmp_path.iterdir()} == {
        str(task): f"{task}/6" for task in range(6)
    }


def test_a_job_is_given_the_gpus_it_asks_for(slurm, tmp_path):
    output = tmp_path / "out"
    job = slurm.sbatch(
        "--gpus-per-node=2", "-o", output, "--wrap", "echo GPUs $CUDA_VISIBLE_DEVICES; srun env"
    )
    assert slurm.wait_end(job) == "COMPLETED"
    assert output.read_text().startswith("GPUs 0,1\n")
    assert "CUDA_VISIBLE_DEVICES=0,1\n" in output.read_text()


def test_four_ranks_on_two_nodes_reduce_a_tensor(slurm, tmp_path):
    pytest.importorskip("torch")
    program, output = tmp_path / "rank.py", tmp_path / "out"
    program.write_text(RANK)
    script = f"""#!/bin/bash
        export MASTER_ADDR="$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)" MASTER_PORT=29500
        export OMP_NUM_THREADS=1
        srun '{sys.executable}' '{program}'
    """
    job = slurm.sbatch("-N2", "--ntasks-per-node=2", "-o", output, script=textwrap.dedent(script))
    assert slurm.wait_end(job, timeout_s=180) == "COMPLETED", output.read_text()
    # torch's own warnings stand between the lines.
    assert sorted(re.findall("^rank .*$", output.read_text(), re.MULTILINE)) == [
        f"rank {rank} of 4 on {node}: 10" for rank, node in enumerate(["n1", "n1", "n2", "n2"])
    ]


@pytest.fixture(scope="module")
def second(sandboxes):
    """Another sandbox, of two nodes, beside `slurm`; it soon misses a silent node."""
    return sandboxes.start("--nodes", 2, "--gpus-per-node", 0, "--slurmd-timeout", 5)


def test_two_sandboxes_live_side_by_side(slurm, second):
    assert second.status()["healthy"]
    assert slurm.status()["healthy"]
    assert second.status()["nodes"]["n1"]["address"] != slurm.status()["nodes"]["n1"]["address"]
    job = second.sbatch("-o", "/dev/null", "--wrap", "true")
    assert second.wait_end(job) == "COMPLETED"


def test_a_cut_link_makes_a_node_unreachable_until_it_is_healed(second):
    knock = ["exec", "n1", "timeout", "2", "bash", "-c", "exec 3<>/dev/tcp/n2/6818"]
    assert second.sandbox(*knock).returncode == 0
    second.sandbox("cut-link", "n2")
    assert second.sandbox(*knock, check=False).returncode != 0
    second.wait_until(
        lambda: second.status()["nodes"]["n2"]["state"].endswith("*"), what="n2 missed by Slurm"
    )
    assert not second.status()["healthy"]
    second.sandbox("heal-link", "n2")
    assert second.sandbox(*knock).returncode == 0
    second.wait_until(lambda: second.status()["healthy"], what="n2 back in Slurm")


def test_a_killed_node_and_a_restarted_controller_come_back(second):
    second.sandbox("kill-node", "n1")
    killed = second.status()["nodes"]["n1"]
    assert (killed["on"], killed["linked"]) == (False, False)
    second.sandbox("start-node", "n1")
    second.sandbox("restart-controller")
    assert second.status()["healthy"]
    job = second.sbatch("-N2", "-o", "/dev/null", "--wrap", "srun true")
    assert second.wait_end(job) == "COMPLETED"


def test_taking_one_sandbox_down_leaves_the_other_alone(slurm, second):
    second.sandbox("down")
    assert slurm.status()["healthy"]


@pytest.fixture
def box(slurm_possible, tmp_path_factory) -> Iterator[Path]:
    """A directory for a sandbox of the test's own, which is taken down whatever happens."""
    directory = tmp_path_factory.mktemp("box") / "s"
    yield directory
    sandbox("down", "--dir", directory)


def test_down_leaves_nothing_behind(box):
    before = footprint(box)
    sandbox("up", "--nodes", 2, "--dir", box)
    environment = {**os.environ, "SLURM_CONF": str(box / "etc" / "slurm.conf")}
    stubborn = ["sbatch", "-N2", "-o", "/dev/null", "--wrap", "trap '' TERM; srun sleep 600 & wait"]
    subprocess.run(stubborn, env=environment, check=True, capture_output=True)
    network = sandbox("exec", "--dir", box, "n1", "readlink", "/proc/self/ns/net").stdout.strip()
    assert network in network_namespaces()
    assert footprint(box) != before
    sandbox("down", "--dir", box)
    assert footprint(box) == before
    assert network not in network_namespaces()
    assert sandbox("down", "--dir", box).stdout == f"nothing to take down in {box}\n"


def test_a_failed_start_leaves_nothing_and_says_why(box):
    decoy = f"mribox{int(hashlib.sha256(str(box).encode()).hexdigest()[:4], 16) % 256}-n2"
    subprocess.run(["ip", "link", "add", decoy, "type", "bridge"], check=True)
    try:
        before = footprint(box)
        failed = sandbox("up", "--nodes", 2, "--dir", box, check=False)
        assert failed.returncode == 2
        assert re.fullmatch(
            rf"sandbox: `ip link add {decoy} .*: RTNETLINK answers: File exists\n", failed.stderr
        )
        assert footprint(box) == before
    finally:
        subprocess.run(["ip", "link", "delete", decoy], check=True)


@pytest.mark.parametrize("landmark", ["state.json", "etc/hosts", "log/database.log", "log/slurmctld.log"])
def test_a_killed_start_is_cleared_away_by_down(box, landmark, slurm):
    before = footprint(box)
    starter = start_until(box, landmark, slurm.wait_until)
    starter.send_signal(signal.SIGKILL)
    starter.wait(timeout=120)
    sandbox("down", "--dir", box)
    assert footprint(box) == before


def test_an_interrupted_start_clears_away_after_itself(box, slurm):
    before = footprint(box)
    starter = start_until(box, "log/slurmdbd.log", slurm.wait_until)
    starter.send_signal(signal.SIGINT)
    assert starter.wait(timeout=120) == 130
    assert footprint(box) == before


def test_without_accounting_jobs_run_and_the_status_says_so(box):
    up = sandbox("up", "--nodes", 1, "--accounting", "none", "--dir", box)
    assert up.stdout.startswith("1 nodes are up, without accounting. ")
    try:
        status = sandbox("status", "--dir", box).stdout
        assert re.findall(r"^(\S+) +(?:answers|none)$", status, re.MULTILINE) == [
            "munged", "slurmctld", "accounting",
        ]  # fmt: skip
        job = ["sbatch", "--parsable", "--wait", "--output=/dev/null", "--wrap", "exit 3"]
        ended = sandbox("login", "--dir", box, "--", *job, check=False)
        assert ended.returncode == 3, ended.stderr
        shown = sandbox("login", "--dir", box, "--", "scontrol", "show", "job", ended.stdout.strip())
        assert "JobState=FAILED" in shown.stdout
    finally:
        sandbox("down", "--dir", box)
    assert not any(str(box) in process for process in processes())


def test_mistakes_get_one_line(box, slurm):
    in_use = slurm.sandbox("up", check=False)
    assert (in_use.returncode, in_use.stderr.count("\n")) == (2, 1)
    assert "holds a sandbox already: sandbox down takes it away" in in_use.stderr
    nobody = slurm.sandbox("kill-node", "n9", check=False)
    # A test of two clusters may have added one to the sandbox that all share.
    assert re.fullmatch(
        "sandbox: no machine named n9: choose from ctl, n1, n2, n3, n4(, other)?\n", nobody.stderr
    )
    absent = sandbox("status", "--dir", box, check=False)
    assert absent.stderr == f"sandbox: no sandbox in {box}: start one with sandbox up\n"
    wrong = sandbox("up", "--nodes", 0, "--dir", box, check=False)
    assert wrong.stderr == "sandbox: --nodes must be between 1 and 64, got 0\n"
    # Too long for a sandbox, too: none starts here in any case.
    odd = box / "with a blank" / ("x" * 100)
    blank = sandbox("up", "--dir", odd, check=False)
    assert f"{odd} cannot be named in Slurm's files for its ' ': choose another --dir" in blank.stderr


def test_down_refuses_a_directory_that_is_not_a_sandbox(box):
    box.mkdir()
    (box / "precious").touch()
    refused = sandbox("down", "--dir", box, check=False)
    assert refused.returncode == 2
    assert "is not a sandbox's directory" in refused.stderr
    assert (box / "precious").exists()
    (box / "precious").unlink()


def sandbox(*words: object, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run the sandbox's own command."""
    program = Path(__file__).parents[2] / "tools" / "sandbox" / "sandbox"
    argv = [str(program), *map(str, words)]
    return subprocess.run(argv, check=check, capture_output=True, text=True, timeout=300)


def start_until(box: Path, landmark: str, wait_until: Callable[..., None]) -> subprocess.Popen[bytes]:
    """A start that has come as far as writing a certain file."""
    program = Path(__file__).parents[2] / "tools" / "sandbox" / "sandbox"
    argv = [str(program), "up", "--nodes", "2", "--dir", str(box)]
    starter = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_until((box / landmark).exists, what=f"{landmark} of a start", timeout_s=120, most_pause_s=0.1)
    return starter


def footprint(box: Path) -> dict[str, list[str]]:
    """What exists for the sandbox in a directory: processes, links, mounts, control groups, the directory."""
    tag = hashlib.sha256(str(box).encode()).hexdigest()[:10]
    hardware_address = ":".join(["02", *re.findall("..", tag)])
    links = subprocess.run(["ip", "-oneline", "link"], check=True, capture_output=True, text=True).stdout
    bridges = re.findall(rf"(mribox\d+): .*{hardware_address}", links)
    return {
        "processes": [process for process in processes() if str(box) in process or tag in process],
        "links": [
            line
            for line in links.splitlines()
            if any(f"{name}:" in line or f"{name}-" in line for name in bridges)
        ],
        "mounts": Path("/proc/self/mounts").read_text().splitlines(),
        "control groups": [str(path) for path in Path("/sys/fs/cgroup").glob("*/slurm*")],
        "directory": [str(box)] if box.exists() else [],
    }


def processes() -> Iterator[str]:
    """The command line and environment of every process that we may look into."""
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and entry.name != str(os.getpid()):
            try:
                words = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue
            yield words.decode(errors="replace")


def network_namespaces() -> set[str]:
    """The network namespaces in which some process lives."""
    found = set()
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                found.add(str((entry / "ns" / "net").readlink()))
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue
    return found
