"""Where rank 0 can be found, who is taken for it, and how long others look; on nodes in tests/slurm."""

import json
import os
import subprocess
import sys

import pytest
from torch._C._distributed_c10d import TCPStore

from mri_hpc.base import network
from mri_hpc.base.errors import UserError
from mri_hpc.base.network import Interface
from mri_hpc.base.stop_flag import StopFlag
from mri_hpc.rundir.layout import Attempt, RunDir
from mri_hpc.rundir.ledger import Kind, record
from mri_hpc.rundir.place import Place
from mri_hpc.rundir.settings import JobSettings
from mri_hpc.training import meeting, ranks
from mri_hpc.training.hang_watch import HUNG
from mri_hpc.training.meeting import Patience, Wishes

FIRST = Attempt(submission=1, restart=0)
# All sockets that gloo, NCCL's bootstrap and torch's store open, in a process of its own.
LISTENS = """
import pathlib
from torch._C._distributed_c10d import ProcessGroupGloo, TCPStore
from mri_hpc.base.network import PortRange
from mri_hpc.training.port_range import keep_within
assert keep_within(PortRange(low=41100, high=41149)) > 0
held = [ProcessGroupGloo.create_device(interface="lo") for _ in range(3)]
held.append(TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False))
own = {str(file.readlink()) for file in pathlib.Path("/proc/self/fd").iterdir() if file.is_symlink()}
rows = [row.split() for name in ("tcp", "tcp6") for row in open(f"/proc/self/net/{name}")]
mine = [row[1] for row in rows if row[3] == "0A" and f"socket:[{row[9]}]" in own]
print(*(int(address.rsplit(":", 1)[1], 16) for address in mine))
"""


@pytest.fixture
def run(tmp_path):
    run = RunDir(tmp_path / "run")
    run.claim_submission()
    return run


@pytest.fixture
def patience(monkeypatch):
    """Patience of looks that take no time."""
    monkeypatch.setattr(meeting.time, "sleep", lambda _s: None)
    return Patience(StopFlag(), 600, lambda: None)


def place(number, host="n1", addresses=()):
    return Place(rank=number, world_size=2, host=host, addresses=addresses)


def test_rank_0_is_found_by_slurms_address_first_then_by_names_then_by_interfaces(monkeypatch):
    known = {"n1": ["10.0.0.1"], os.uname().nodename: ["10.1.0.1", "10.0.0.1"], "10.9.0.1": ["10.9.0.1"]}
    monkeypatch.setattr(network, "resolve", lambda name: known.get(name, []))
    monkeypatch.setattr(network, "interfaces", lambda: [Interface(name="ib0", address="10.2.0.1")])
    found = meeting._own_addresses(place(0, addresses=("no-such-name", "10.9.0.1")))
    assert found == ["10.9.0.1", "10.0.0.1", "10.1.0.1", "10.2.0.1"]


def test_a_machine_without_any_ipv4_address_is_looked_for_by_name(monkeypatch):
    monkeypatch.setattr(network, "resolve", lambda _name: [])
    monkeypatch.setattr(network, "interfaces", list)
    assert meeting._own_addresses(place(0)) == ["n1"]


def test_ranks_of_one_host_meet_by_loopback_whatever_its_name(run, patience):
    hosts = "n1.no-such-name"
    opened = meeting._open(place(0, hosts), run, FIRST, Wishes(), "")
    found = meeting._come(place(1, hosts), run, FIRST, patience)
    assert found is not None
    store, address = found
    store.set("met", "yes")
    assert (opened.get("met"), address) == (b"yes", "127.0.0.1")


def test_a_store_of_another_run_is_not_taken_for_that_of_this_one(run, patience):
    other = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    where = {"host": "n1", "port": other.port, "token": "of this run", "addresses": []}
    assert not meeting._join_store(where, ["127.0.0.1"], [])
    other.set("of this run", "")
    assert meeting._join_store(where, ["127.0.0.1"], [])


def test_a_look_at_a_closed_port_costs_no_more_of_the_patience_than_it_took(run, closed_port):
    looks = []
    impatient = Patience(StopFlag(), 0.4, lambda: looks.append(1))
    publish(run, closed_port)
    with pytest.raises(SystemExit):
        meeting._come(place(1), run, FIRST, impatient)
    assert len(looks) > 5


def publish(run, port):
    where = {"host": "n0", "port": port, "token": "x", "addresses": ["127.0.0.1"]}
    (run.attempt_folder(FIRST) / meeting.RENDEZVOUS).write_text(json.dumps(where))


@pytest.fixture
def closed_port(monkeypatch):
    monkeypatch.setattr(meeting, "REACH_S", 0.5)
    with network.listening("127.0.0.1", None) as port:
        pass
    return port


def test_a_rank_that_does_not_reach_rank_0_says_where_it_looked_and_what_to_type(run, patience, closed_port):
    publish(run, closed_port)
    with pytest.raises(
        UserError, match=rf"rank 1 on n1 does not reach rank 0 on n0 \(127.0.0.1 port {closed_port}"
    ):
        meeting._come(place(1), run, FIRST, patience)


def test_ranks_that_have_met_before_are_tried_again(run, patience, closed_port, capsys):
    publish(run, closed_port)
    record(run, FIRST, Kind.STARTED, ranks=2)
    with pytest.raises(SystemExit) as ended:
        meeting._come(place(1), run, FIRST, patience)
    assert ended.value.code == HUNG
    assert "--port-range LOW-HIGH" in capsys.readouterr().err


def test_what_is_typed_reaches_the_ranks():
    wishes = Wishes.of(JobSettings(interface="ib0", port_range="50000-50999"))
    assert (wishes.interface, str(wishes.ports)) == ("ib0", "50000-50999")
    assert Wishes.of(JobSettings()) == Wishes()


def test_all_that_listens_in_a_rank_lies_in_the_range():
    ran = subprocess.run([sys.executable, "-c", LISTENS], capture_output=True, text=True, check=True)
    ports = [int(word) for word in ran.stdout.split()]
    assert len(ports) >= 4
    assert all(41100 <= port <= 41149 for port in ports), ports


def test_a_torch_that_cannot_be_kept_to_a_range_is_refused(monkeypatch):
    monkeypatch.setattr(ranks, "keep_within", lambda _ports: 0)
    with pytest.raises(
        UserError, match=r"cannot be kept within --port-range 50000-50999: ask your site to open"
    ):
        ranks._keep_ports(network.PortRange.parse("50000-50999"))


@pytest.fixture
def store():
    return TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)


def test_a_node_that_knows_no_way_to_where_others_found_rank_0_takes_its_own(
    run, patience, store, monkeypatch
):
    for rank, towards in ((0, ""), (1, "10.4.0.1")):
        store.set(f"host/{rank}", json.dumps({"host": f"n{rank}", "towards": towards}))
    monkeypatch.setattr(meeting, "_come", lambda *_arguments: (store, "10.5.0.1"))
    monkeypatch.setattr(network, "own_address_towards", {"10.5.0.1": "10.5.0.9", "10.4.0.1": ""}.get)
    owned = []
    monkeypatch.setattr(meeting, "_reach_all", lambda *_arguments, own, wishes: owned.append((own, wishes)))
    meeting.meet(Place(rank=2, world_size=3, host="n2", addresses=()), run, FIRST, patience)
    assert owned == [("10.5.0.9", Wishes())]


def test_a_node_without_an_address_is_passed_over_and_not_waited_for(run, patience, store):
    def reaches(rank, own):
        hosts = ["n0", "n1", "n2"]
        at = place(rank, hosts[rank])
        return meeting._reach_all(at, run, store, hosts, patience, own=own, wishes=Wishes())

    store.set("listens/2", "")
    store.set("reached/2", "")
    assert reaches(1, "")
    assert reaches(0, "127.0.0.1")
