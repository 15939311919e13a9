"""Nodes of a drill that do not reach each other are named, with address and port, before any rank starts."""

import contextlib
from concurrent.futures import ThreadPoolExecutor

import pytest

from mri_hpc.base import network
from mri_hpc.base.errors import UserError
from mri_hpc.base.network import Interface
from mri_hpc.cluster import slurm
from mri_hpc.cluster.doctor.finding import Level
from mri_hpc.cluster.drill import ways
from mri_hpc.cluster.drill.ways import Apart, Ways, judge_ways

NAMES = {"n1": "10.0.0.1", "n2": "10.0.0.2", "n3": "10.0.0.3"}


@pytest.fixture
def node(tmp_path, monkeypatch):
    """Nodes of one job, all of them on this machine; each reaches itself and others by loopback."""
    monkeypatch.setattr(ways, "POLL_S", 0.01)
    monkeypatch.setattr(ways, "LATE_S", 0.05)
    monkeypatch.setattr(slurm, "node_addresses", lambda: dict(NAMES))
    monkeypatch.setattr(network, "own_addresses", lambda _names: ["127.0.0.1"])

    def make(name, **more):
        monkeypatch.setattr(slurm, "node_name", lambda: name)
        return Ways(tmp_path, **more)

    return make


def tried(*nodes, is_busy=lambda: True):
    """What each of the nodes, which try at once, finds."""
    with ThreadPoolExecutor(len(nodes)) as pool:
        return list(pool.map(lambda one: list(one.apart(is_busy)), nodes))


def test_nodes_that_reach_each_other_find_nothing(node):
    assert tried(node("n1"), node("n2"), node("n3")) == [[], [], []]


def test_a_node_behind_a_closed_port_is_named_by_all_others_with_address_port_and_reason(node, monkeypatch):
    one, two, three = (node(name) for name in NAMES)
    publish = ways.publish_new_bytes
    closed = b'[["127.0.0.9"], 9]'
    monkeypatch.setattr(
        ways, "publish_new_bytes",
        lambda path, data: publish(path, closed if path.name == "n1.listens" else data),
    )  # fmt: skip
    monkeypatch.setattr(network, "way_to", lambda _address: "eth0")
    why = "127.0.0.9 port 9 by eth0: nothing listens there, or a firewall refuses"
    assert tried(one, two, three) == [[], [Apart(node="n1", why=why)], [Apart(node="n1", why=why)]]


def test_a_node_that_has_left_is_not_called_unreached(node, tmp_path):
    (tmp_path / "n2.listens").write_text('[["127.0.0.9"], 9]')
    (tmp_path / "n2.left").touch()
    assert tried(node("n1"), is_busy=lambda: False) == [[]]


def test_a_node_that_does_not_come_is_waited_for_while_there_is_else_to_do_and_a_little_longer(node):
    busy = iter([True] * 20)
    assert tried(node("n1"), node("n2"), is_busy=lambda: next(busy, False)) == [[], []]
    assert next(busy, None) is None


def test_a_port_range_is_kept_and_one_that_is_taken_said(node, tmp_path):
    with contextlib.ExitStack() as stack:
        port = stack.enter_context(network.listening("", None))
        with pytest.raises(UserError, match=f"all ports of --port-range {port}-{port} are taken"):
            tried(node("n1", ports=f"{port}-{port}"))
    tried(node("n1", ports=f"{port}-{port}"), is_busy=lambda: False)
    assert (tmp_path / "n1.listens").read_text() == f'[["127.0.0.1"], {port}]'


def test_an_interface_that_a_node_lacks_is_a_problem_and_nothing_is_tried(node, monkeypatch):
    monkeypatch.setattr(network, "interfaces", lambda: [Interface(name="eth0", address="10.0.0.1")])
    [found] = node("n1", interface="ib0").missing_interface()
    assert (found.level, found.says) == (
        Level.PROBLEM, "it has no interface ib0 with an IPv4 address, but eth0 (10.0.0.1)",
    )  # fmt: skip
    assert tried(node("n1", interface="ib0")) == [[]]
    assert list(node("n1", interface="eth0").missing_interface()) == []


def test_names_that_lead_elsewhere_or_nowhere_are_noted_since_ranks_need_none(node, monkeypatch):
    monkeypatch.setattr(network, "resolve", {"n2": ["10.9.9.9"], "n3": []}.get)
    [found] = node("n1").wrong_names()
    assert found.level is Level.NOTE
    assert "n2 leads to 10.9.9.9, not to 10.0.0.2; n3 leads nowhere, not to 10.0.0.3" in found.says
    monkeypatch.setattr(network, "resolve", lambda name: [NAMES[name], "10.9.9.9"])
    assert list(node("n1").wrong_names()) == []


def test_names_are_not_looked_up_for_minutes(node, monkeypatch):
    asked = []
    monkeypatch.setattr(ways.time, "monotonic", lambda: 100.0 * len(asked))
    monkeypatch.setattr(network, "resolve", lambda name: asked.append(name) or [])
    assert len(list(node("n1").wrong_names())) == 1
    assert asked == ["n2"]


def says(found):
    return {name: [one.says for one in findings] for name, findings in found.items()}


def test_a_node_that_several_do_not_reach_is_the_one_at_fault():
    apart = {("n2", "n1"): "no answer", ("n3", "n1"): "no answer", ("n1", "n2"): "no answer"}
    assert says(judge_ways(apart)) == {
        "n1": ["n2, n3 do not reach it (no answer)", "it does not reach n2 (no answer)"]
    }


def test_else_it_is_the_one_that_does_not_reach_others():
    apart = {("n2", name): "no route to it" for name in ("n1", "n3", "n4", "n5")}
    assert says(judge_ways(apart)) == {"n2": ["it does not reach n1, n3, n4 and 1 more (no route to it)"]}
