"""Memory that a process holds, and may hold."""

import json
import subprocess
import sys

import pytest

from mri_hpc.base.memory import forget_peak, give_back, held_bytes, limit_bytes, machine_bytes


def test_memory_that_was_let_go_counts_and_a_file_that_is_mapped_does_not(tmp_path):
    status = tmp_path / "status"
    status.write_text("Name:\tpython\nVmHWM:\t  900 kB\nVmRSS:\t  500 kB\nRssFile:\t  300 kB\n")
    assert held_bytes(status) == 600 * 1024
    # Kernels before 4.5 do not tell the two apart.
    status.write_text("VmHWM:\t  900 kB\n")
    assert held_bytes(status) == 900 * 1024
    assert 0 < held_bytes() < machine_bytes()


def test_a_peak_that_is_forgotten_counts_no_more(tmp_path):
    size = 2**27
    filled = bytearray(b"x") * size
    del filled
    # Another test's training may have told this process to keep what is freed.
    give_back()
    peak = held_bytes()
    forget_peak()
    assert peak - held_bytes() > size / 2


def test_a_kernel_that_forgets_no_peak_ends_no_run(tmp_path):
    forget_peak(tmp_path / "nothing" / "clear_refs")


@pytest.fixture
def groups(tmp_path):
    def make(line, limits):
        for name, text in limits.items():
            file = tmp_path / "cgroup" / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        (tmp_path / "groups").write_text(line)
        return limit_bytes(tmp_path / "groups", tmp_path / "cgroup")

    return make


def test_the_least_limit_of_all_groups_around_counts(groups):
    limits = {"job_7/memory.max": "4096\n", "job_7/step_0/memory.max": "max\n", "memory.max": "8192"}
    assert groups("0::/job_7/step_0/task_1\n", limits) == 4096


def test_groups_of_the_first_version_have_their_own_folder_and_a_huge_number_for_none(groups):
    name = "memory/slurm/job_7/memory.limit_in_bytes"
    line = "5:cpu:/elsewhere\n4:memory,hugetlb:/slurm/job_7\n0::/\n"
    assert groups(line, {name: "4096"}) == 4096
    assert groups(line, {name: str(2**63 - 4096)}) is None


def test_a_group_that_cannot_be_seen_limits_nothing(groups, tmp_path):
    assert groups("0::/out/of/sight\n", {}) is None
    assert limit_bytes(tmp_path / "nothing") is None


# In a process of its own, which is to keep it to its end.
TAKEN_AGAIN = """
import json, resource
from mri_hpc.base.memory import give_back, keep_freed

def faults_of_taking():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    bytearray(2**26)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def held():
    return int(open("/proc/self/statm").read().split()[1])

usual = [faults_of_taking() for _ in range(3)]
assert keep_freed()
kept = [faults_of_taking() for _ in range(3)]
before = held()
give_back()
print(json.dumps([usual, kept, before - held()]))
"""
PAGES = 2**26 // 4096


def test_memory_that_is_kept_is_taken_again_without_the_system_until_it_is_given_back():
    words = [sys.executable, "-c", TAKEN_AGAIN]
    usual, kept, given_back = json.loads(subprocess.run(words, check=True, capture_output=True).stdout)
    # Of huge pages, where the system gives such, there are few.
    assert min(usual) > 10 * max(1, *kept[1:])
    assert given_back > PAGES / 2
