"""``doctor --fix`` shows each change with the way back, and makes none unless that was typed."""

import subprocess

import pytest

from mri_hpc.cluster.doctor import private_folders, scheduler, site_defaults, site_key, weights_cache
from mri_hpc.cluster.doctor.finding import Site, note
from mri_hpc.cluster.doctor.fixes import SITE_ENV, clone_of, key_at, line_in_site_env, mode_of
from mri_hpc.cluster.doctor.fixing import fixes_of, make
from mri_hpc.doctor import main
from mri_hpc.intake.labels.pseudonyms import site_key as read_key

SHIPPED = "# What a site sets once.\n# export SBATCH_ACCOUNT=my_project\n"


@pytest.fixture
def clone(tmp_path):
    folder = tmp_path / "clone"
    (folder / SITE_ENV).parent.mkdir(parents=True)
    (folder / SITE_ENV).write_text(SHIPPED)
    return folder


@pytest.fixture
def run(clone):
    """A run whose private folder is open to others."""
    folder = clone / "runs" / "a"
    (folder / "private").mkdir(parents=True)
    (folder / "private").chmod(0o755)
    (folder / "settings.toml").touch()
    return folder


@pytest.fixture
def config(tmp_path, monkeypatch):
    """The user's configuration folder, in which no key is."""
    for name in ("MRI_KEY_FILE", "SLURM_JOB_ID", "TORCH_HOME", "SBATCH_PARTITION", "MRI_SITE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path / "config" / "mri_hpc"


def as_it_is(folder):
    """All that lies below a folder: modes, and what files hold."""
    return {
        path: (path.stat().st_mode, path.read_bytes() if path.is_file() else None)
        for path in folder.rglob("*")
    }


CHECKED = ("--only", "key", "private", "--fix")


def test_changes_are_shown_with_the_way_back_and_none_is_made(clone, run, config, tmp_path, capsys):
    before = as_it_is(tmp_path)
    assert main([str(clone), *CHECKED]) == 2
    shown = capsys.readouterr().out
    assert as_it_is(tmp_path) == before
    assert f"  chmod 700 {run}/private\n    undo: chmod 755 {run}/private\n" in shown
    assert (
        f"  make the key of pseudonyms: {config}/site.key\n    undo: rm {config}/site.key, as long as"
        in shown
    )
    assert "Nothing is changed so far" in shown


def test_with_yes_they_are_made_and_nothing_is_left_to_do(clone, run, config, capsys):
    assert main([str(clone), *CHECKED, "--yes"]) == 0
    made = capsys.readouterr().out
    assert (run / "private").stat().st_mode & 0o777 == 0o700
    assert len(read_key(config / "site.key")) == 32
    assert made.count("  done    ") == 2 and f"undo: chmod 755 {run}/private" in made
    assert main([str(clone), *CHECKED, "--yes"]) == 0
    assert "There is nothing here that doctor could change" in capsys.readouterr().out


def test_a_change_that_cannot_be_made_is_a_failure_and_the_others_are_made(clone, run, config, capsys):
    config.parent.touch()
    fixes = [key_at(config / "site.key"), mode_of(run / "private", 0o700)]
    assert not make(fixes)
    assert "  failed  make the key of pseudonyms" in capsys.readouterr().out
    assert (run / "private").stat().st_mode & 0o777 == 0o700


def test_no_key_is_offered_inside_a_job(config):
    login, node = (
        Site(folder=config.parent, environment={"XDG_CONFIG_HOME": str(config.parent), **job})
        for job in ({}, {"SLURM_JOB_ID": "7"})
    )
    config.parent.mkdir()
    assert [fix.path for fix in fixes_of(site_key.look(login), login)] == [config / "site.key"]
    assert fixes_of(site_key.look(node), node) == []


def test_what_lies_elsewhere_is_not_offered_also_by_a_link(clone, tmp_path):
    outside = tmp_path / "project"
    (outside / "private").mkdir(parents=True)
    (clone / "link").symlink_to(outside)
    site = Site(folder=clone, environment={"XDG_CONFIG_HOME": str(tmp_path / "config")}, clone=clone)
    found = [note("", fix=mode_of(folder / "private", 0o700)) for folder in (outside, clone / "link")]
    assert fixes_of(found, site) == []
    site = Site(folder=outside, environment=site.environment, clone=clone, run=outside)
    assert len(fixes_of(found, site)) == 2


def test_a_line_of_site_env_is_added_or_replaced_and_nothing_else_changes(clone):
    path = clone / SITE_ENV
    path.chmod(0o664)
    line_in_site_env(clone, "SBATCH_ACCOUNT", "abc def").make()
    assert path.read_text().startswith(SHIPPED) and path.stat().st_mode & 0o777 == 0o664
    asked = ["bash", "-c", '. "$1"; printf %s "$SBATCH_ACCOUNT"', "bash", str(path)]
    assert subprocess.run(asked, capture_output=True, text=True, check=True).stdout == "abc def"
    with path.open("a") as file:
        file.write("export OTHER=1\n")
    before = path.read_text()
    again = line_in_site_env(clone, "SBATCH_ACCOUNT", "new")
    assert again.undo == "write export SBATCH_ACCOUNT='abc def' there again"
    again.make()
    assert path.read_text() == before.replace("'abc def'", "new")


def test_the_line_that_counts_is_replaced_and_not_a_comment_of_the_same_words(clone):
    path = clone / SITE_ENV
    path.write_text("export SBATCH_ACCOUNT=old\n# export SBATCH_ACCOUNT=old\n")
    line_in_site_env(clone, "SBATCH_ACCOUNT", "new").make()
    assert path.read_text() == "export SBATCH_ACCOUNT=new\n# export SBATCH_ACCOUNT=old\n"


def test_the_clone_is_the_one_in_which_one_works(clone, run):
    assert clone_of(run) == clone
    assert (clone_of(clone.parent) / SITE_ENV).is_file()


# The changes that each check offers


CPU = {"PartitionName": "cpu", "Default": "NO"}


@pytest.mark.parametrize(
    ("partitions", "by_shell", "lines"),
    [
        ([CPU], None, ["export SBATCH_PARTITION=cpu"]),
        ([CPU, {**CPU, "PartitionName": "gpu"}], None, []),
        ([CPU, {"PartitionName": "all", "Default": "YES"}], "gone", ["export SBATCH_PARTITION=all"]),
    ],
)
def test_a_partition_is_offered_where_only_one_can_be_meant(clone, partitions, by_shell, lines):
    found = list(scheduler.of_partitions(partitions, by_shell, clone))
    assert [one.fix.does.partition(": ")[2] for one in found if one.fix] == lines


def test_a_folder_of_weights_is_offered_where_none_can_be_written(clone, tmp_path):
    (tmp_path / "file").touch()
    [found] = weights_cache.look(
        Site(folder=clone, environment={"XDG_CACHE_HOME": str(tmp_path / "file")}, clone=clone)
    )
    assert f"export TORCH_HOME={clone}/data/torch" in found.fix.does


def test_folders_that_are_no_runs_or_a_groups_are_left_alone(clone, run):
    (clone / "runs" / "other" / "private").mkdir(parents=True)
    (run / "private").chmod(0o2770)
    assert [one.fix for one in private_folders.look(Site(folder=clone, environment={}))] == [None]


def test_a_folder_of_a_group_stays_the_groups_once_others_are_kept_out(clone, run):
    (run / "private").chmod(0o2775)
    [found] = private_folders.look(Site(folder=clone, environment={}))
    assert found.cure == f"chmod 2770 {run}/private"
    found.fix.make()
    assert (run / "private").stat().st_mode & 0o7777 == 0o2770


def test_what_the_site_sets_for_launch_alone_is_offered_for_sbatch(clone, tmp_path):
    (tmp_path / "site.toml").write_text('[defaults]\naccount = "proj"\npartition = "gpu"\n')
    environment = {"MRI_SITE": str(tmp_path / "site.toml"), "SBATCH_PARTITION": "mine"}
    found = list(site_defaults.look(Site(folder=clone, environment=environment, clone=clone)))
    assert [one.fix.does.partition(": ")[2] for one in found if one.fix] == ["export SBATCH_ACCOUNT=proj"]
    assert "SBATCH_PARTITION of your shell comes before its partition" in [one.says for one in found]


def test_a_folder_of_weights_that_the_site_sets_is_no_finding(clone, config, tmp_path, monkeypatch, capsys):
    (tmp_path / "file").touch()
    (tmp_path / "site.toml").write_text(f'[variables]\nTORCH_HOME = "{tmp_path}/torch"\n')
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setenv("MRI_SITE", str(tmp_path / "site.toml"))
    main([str(clone), "--only", "weights", "--fix"])
    assert "no published weights in" in (shown := capsys.readouterr().out)
    assert "export TORCH_HOME" not in shown
