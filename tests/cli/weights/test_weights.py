"""``mri-hpc weights``: files appear whole or not at all, and whoever needs one is told how to get it."""

import contextlib
import dataclasses
import hashlib
import http.server
import io
import json
import socket
import threading

import pytest
import torch
from torchvision.models import get_model

from mri_hpc.base.errors import UserError
from mri_hpc.rundir.settings import TrainingSettings
from mri_hpc.training import pretrained
from mri_hpc.training.model import build, check_weights
from mri_hpc.weights import main

MODEL = "squeezenet1_1"


class Site(http.server.BaseHTTPRequestHandler):
    """Serves what its server holds, and counts how often it is asked."""

    def do_GET(self):
        self.server.asked += 1
        self.send_response(200 if self.server.body else 404)
        self.send_header("Content-Length", str(self.server.length or len(self.server.body)))
        self.end_headers()
        self.wfile.write(self.server.body)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="session")
def published_bytes():
    """The file of a network whose weights are known."""
    file = io.BytesIO()
    torch.manual_seed(5)
    torch.save(get_model(MODEL, weights=None).state_dict(), file)
    return file.getvalue()


@pytest.fixture
def site(tmp_path, monkeypatch, published_bytes):
    """A web site on this machine in place of torchvision's, and a TORCH_HOME of the test's own."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch home"))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with http.server.HTTPServer(("127.0.0.1", 0), Site) as server:
        server.body, server.length, server.asked = published_bytes, 0, 0
        threading.Thread(target=server.serve_forever, args=(0.01,)).start()
        point_to(monkeypatch, server.server_port, published_bytes)
        yield server
        server.shutdown()


def point_to(monkeypatch, port, content):
    name = f"{MODEL}-{hashlib.sha256(content).hexdigest()[:8]}.pth"
    genuine = pretrained.published

    def ours(model):
        there = genuine(model)
        if model != MODEL:
            return there
        return dataclasses.replace(
            there, url=f"http://127.0.0.1:{port}/{name}", path=there.path.with_name(name),
            sha256=name.split("-")[1].removesuffix(".pth"),
        )  # fmt: skip

    monkeypatch.setattr(pretrained, "published", ours)


def weights(*words, capsys):
    capsys.readouterr()
    status = main(list(words))
    printed = capsys.readouterr()
    return status, printed.out, printed.err


def here():
    return pretrained.published(MODEL).path


def settings(**values):
    return TrainingSettings(model=MODEL, weights="pretrained", **values)


def test_what_is_fetched_lies_where_torch_looks_and_is_said_so(site, capsys, published_bytes, tmp_path):
    status, out, err = weights("fetch", MODEL, capsys=capsys)
    assert (status, err) == (0, "")
    assert f"{MODEL}: fetched, {len(published_bytes) / 1e6:.1f} MB: {here()}\n" in out
    assert f"TORCH_HOME is {tmp_path}/torch home; it must be the same on all nodes" in out
    assert here().read_bytes() == published_bytes
    assert list(here().parent.iterdir()) == [here()]
    assert here().parent == tmp_path / "torch home" / "hub" / "checkpoints"


def test_what_is_there_and_whole_is_not_fetched_again(site, capsys):
    weights("fetch", MODEL, capsys=capsys)
    status, out, _err = weights("fetch", MODEL, capsys=capsys)
    assert (status, site.asked) == (0, 1)
    assert f"{MODEL}: already there" in out


def test_what_is_there_and_damaged_is_fetched_again(site, capsys, published_bytes):
    here().parent.mkdir(parents=True)
    here().write_bytes(published_bytes[:-1])
    status, out, _err = weights("fetch", MODEL, "--json", capsys=capsys)
    assert status == 0
    assert json.loads(out)[0]["outcome"] == "was damaged, fetched again"
    assert here().read_bytes() == published_bytes


@pytest.mark.parametrize("fault", ["other bytes", "cut short"])
def test_a_file_that_comes_damaged_is_not_kept(site, capsys, published_bytes, fault):
    site.length = len(published_bytes)
    site.body = published_bytes[:-9] if fault == "cut short" else published_bytes[:-1] + b"?"
    status, _out, err = weights("fetch", MODEL, capsys=capsys)
    assert status == 2
    assert "came damaged: its digest is not that in its name; try again" in err
    assert list(here().parent.iterdir()) == []


def test_without_a_way_out_one_line_says_where_to_run_it_and_where_to_copy_the_file(
    site, capsys, monkeypatch, published_bytes
):
    site.body = b""
    status, _out, err = weights("fetch", MODEL, capsys=capsys)
    assert (status, len(err.splitlines())) == (2, 1)
    assert "cannot be downloaded (Not Found): run this on a node with internet access" in err
    # A port where nobody listens: bound, but never listening.
    with contextlib.closing(socket.socket()) as deaf:
        deaf.bind(("127.0.0.1", 0))
        point_to(monkeypatch, deaf.getsockname()[1], published_bytes)
        status, _out, err = weights("fetch", MODEL, capsys=capsys)
    assert (status, len(err.splitlines())) == (2, 1)
    assert "cannot be downloaded (Connection refused)" in err
    assert f"or copy the file to {here()} yourself" in err
    assert list(here().parent.iterdir()) == []


def test_an_unknown_model_is_named_with_the_nearest_before_anything_is_fetched(site, capsys):
    status, _out, err = weights("fetch", MODEL, "squeezenet1_2", capsys=capsys)
    assert (status, site.asked) == (2, 0)
    assert "torchvision publishes no weights of 'squeezenet1_2'; did you mean 'squeezenet1_" in err
    assert weights("fetch", capsys=capsys)[0] == 2


def test_the_list_says_which_weights_are_here(site, capsys):
    weights("fetch", MODEL, capsys=capsys)
    _status, out, _err = weights("list", capsys=capsys)
    lines = {line.split()[0]: line for line in out.splitlines()}
    assert len(lines) > 70
    assert lines["resnet18"].split() == ["resnet18", "46.8", "MB"]
    rows = {row["model"]: row for row in json.loads(weights("list", "--json", capsys=capsys)[1])}
    assert set(rows) == set(lines)
    assert rows["resnet18"]["is_here"] is False
    assert rows["resnet18"]["bytes"] == pytest.approx(46_830_571, abs=1000)


def test_a_run_starts_from_what_was_fetched_and_asks_nobody(site, capsys):
    weights("fetch", MODEL, capsys=capsys)
    check_weights(settings())
    model = build(settings(), 3, (32, 32))
    assert site.asked == 1
    torch.manual_seed(5)
    theirs = get_model(MODEL, weights=None).state_dict()
    ours = model.network.state_dict()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs if name.startswith("features.3"))
    assert model.normalisation == "imagenet"


@pytest.mark.parametrize("check", [check_weights, lambda chosen: build(chosen, 3, (32, 32))])
def test_where_the_file_is_not_there_the_exact_command_is_named_and_nobody_is_asked(site, check):
    with pytest.raises(UserError) as caught:
        check(settings())
    assert str(caught.value).startswith(
        f"--weights pretrained: {here()} is not there, and jobs download noth"
    )
    assert f"run: mri-hpc weights fetch {MODEL} (TORCH_HOME is " in str(caught.value)
    assert site.asked == 0


def test_a_damaged_file_is_found_before_a_job_is_submitted(site, published_bytes):
    here().parent.mkdir(parents=True)
    here().write_bytes(published_bytes[:-1])
    with pytest.raises(UserError, match=f"is damaged: its digest .* run: mri-hpc weights fetch {MODEL}"):
        check_weights(settings())


def test_without_torch_home_the_way_to_share_is_said(monkeypatch):
    monkeypatch.delenv("TORCH_HOME", raising=False)
    assert pretrained.where_to_share().startswith("TORCH_HOME is not set: where nodes do not share your home")


def test_all_models_have_published_weights_with_a_digest_in_the_name():
    for model in pretrained.known_models():
        found = pretrained.published(model)
        assert len(found.sha256) >= 8
        assert found.path.name.endswith(f"-{found.sha256}.pth")
