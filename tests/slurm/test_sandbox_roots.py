"""A sandbox comes up where its books cannot, and in another distribution's root; here without any Slurm."""

import importlib
import json
from pathlib import Path

import pytest

pytestmark = pytest.mark.fast


@pytest.fixture
def module(monkeypatch):
    """Imports one of the sandbox's modules, as its own command does."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "tools" / "sandbox"))
    return importlib.import_module


@pytest.fixture
def begin(module, monkeypatch, tmp_path):
    """Starts accounting that ends as slurmdbd of Debian 13 does: (the layout, the state that came of it)."""

    def make(accounting):
        daemons, failure = module("daemons"), module("failure")

        def fail(layout):
            raise failure.SandboxError("slurmdbd has ended; slurmdbd said: fatal: 5027")

        monkeypatch.setattr(daemons, "start_database", lambda layout: None)
        monkeypatch.setattr(daemons, "start_slurmdbd", fail)
        layout = module("layout").Layout(dir=tmp_path)
        layout.etc.mkdir()
        options = module("options").Options(accounting=accounting)
        state = module("layout").State(bridge="mribox1", subnet="10.213.1", options=options)
        return layout, module("lifecycle").start_accounting(layout, state)

    return make


def test_where_slurmdbd_cannot_start_a_line_says_so_and_jobs_run_without_it(begin, capsys):
    layout, state = begin("auto")
    assert (state.options.accounting, state.options.has_accounting) == ("none", False)
    assert "AccountingStorageType=accounting_storage/none\n" in layout.slurm_conf.read_text()
    [line] = capsys.readouterr().err.splitlines()
    assert line.startswith("sandbox: without accounting, for slurmdbd cannot start: slurmdbd has ended")


def test_accounting_that_was_asked_for_is_not_left_out(begin, module):
    with pytest.raises(module("failure").SandboxError, match=r"5027; .* sandbox up --accounting none$"):
        begin("slurmdbd")


def test_the_tables_of_the_database_are_found_in_either_place(module, monkeypatch, tmp_path):
    daemons = module("daemons")
    monkeypatch.setattr(daemons, "SYSTEM_TABLES", (tmp_path / "mysql.sql", tmp_path / "mariadb.sql"))
    with pytest.raises(module("failure").SandboxError, match="MariaDB's tables are not in"):
        daemons.system_tables()
    (tmp_path / "mariadb.sql").touch()
    assert daemons.system_tables() == tmp_path / "mariadb.sql"


def test_packages_come_from_debian_itself_and_from_no_other_source(module):
    sources = "a://keys Google Cloud\na://security Debian Debian-Security\na://debian Debian Debian\n"
    assert module("root").mirror_of(sources) == "a://debian"
    assert module("root").mirror_of("a://ubuntu Ubuntu Ubuntu\n") is None


def test_a_folder_of_other_things_becomes_no_root_and_one_of_another_release_is_not_mistaken(
    module, tmp_path
):
    root, error = module("root"), module("failure").SandboxError
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(error, match="holds other files"):
        root.make(tmp_path, "trixie")
    with pytest.raises(error, match=r"is not a root of the sandbox: sandbox up --root DIR --suite trixie"):
        root.enter(tmp_path, ["true"])
    (tmp_path / root.MARK_FILE).write_text(json.dumps({"suite": "bookworm"}))
    assert root.make(tmp_path, "bookworm") is False
    with pytest.raises(error, match="is of bookworm: choose another --root for trixie"):
        root.make(tmp_path, "trixie")


def test_the_state_of_a_sandbox_says_in_whose_root_it_lives(module, tmp_path):
    layout = module("layout").Layout(dir=tmp_path)
    assert layout.root is None
    options = module("options").Options()
    for root, found in (("/", None), ("/roots/trixie", Path("/roots/trixie"))):
        state = module("layout").State(bridge="mribox1", subnet="10.213.1", options=options, root=root)
        layout.save_state(state)
        assert layout.root == found
        assert layout.load_state() == state
