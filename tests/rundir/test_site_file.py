"""The site file: read whole or refused by name, and weaker than what anybody typed, saved or exported."""

import dataclasses

import pytest

from mri_hpc.base.errors import UserError
from mri_hpc.cluster.defaults import default_job
from mri_hpc.rundir import site_file as module
from mri_hpc.rundir.settings import JobSettings
from mri_hpc.rundir.site_file import SiteFile, refuse_above, site_file, take_variables

WHOLE = """
[defaults]
partition = "gpu"
account = "proj"
mem_gb = 64
time_limit_min = 1440
slurm = ["nice=5"]
[ceilings]
nodes = 4
time_limit_min = 600
gpus_per_node = 2
[variables]
TORCH_HOME = "/project/torch"
"""


@pytest.fixture
def written(tmp_path):
    """Writes a site file, and gives the environment that names it."""

    def write(text):
        (tmp_path / "site.toml").write_text(text)
        return {"MRI_SITE": str(tmp_path / "site.toml")}

    return write


def test_there_may_be_none_and_an_empty_name_means_none(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "PLACE", tmp_path / "site.toml")
    assert site_file({}) == SiteFile()
    (tmp_path / "site.toml").write_text('[defaults]\npartition = "gpu"\n')
    assert site_file({}).job == JobSettings(partition="gpu")
    assert site_file({"MRI_SITE": ""}) == SiteFile()


def test_defaults_are_lowered_to_the_ceilings_and_all_else_is_the_programs(written):
    site = site_file(written(WHOLE))
    assert site.job == JobSettings(
        partition="gpu", account="proj", mem_gb=64, time_limit_min=600, slurm=("nice=5",)
    )
    assert site.ceilings.given() == {"nodes": 4, "time_limit_min": 600, "gpus_per_node": 2}


def test_a_range_of_nodes_is_lowered_to_the_ceiling_and_stays_a_range(written):
    for asked, lowered in {"2-9": "2-4", "6-9": "4-4", "1-3": "1-3"}.items():
        file = written(f'[defaults]\nnodes = "{asked}"\n[ceilings]\nnodes = 4\n')
        assert site_file(file).job.nodes == lowered


def test_what_the_shell_says_comes_before_the_site(written):
    environment = {
        **written(WHOLE),
        "SBATCH_PARTITION": "mine",
        "SBATCH_MEM_PER_CPU": "2G",
        "TORCH_HOME": "/me",
    }
    job = default_job(site_file(environment), environment)
    assert (job.partition, job.mem_gb, job.account) == (None, None, "proj")
    take_variables(site_file(environment), environment)
    assert environment["TORCH_HOME"] == "/me"
    unset = {}
    take_variables(site_file(environment), unset)
    assert unset == {"TORCH_HOME": "/project/torch"}


@pytest.mark.parametrize(
    ("typed", "left"),
    [
        (["--slurm", "gres=gpu:4"], (None, 64)),
        (["--slurm", "nice=5", "mem_per_cpu=4G", "--nodes", "2"], (1, None)),
        (["--slurm=gpus=4"], (None, 64)),
        (["--slurm", "nice=5"], (1, 64)),
        ([], (1, 64)),
    ],
)
def test_what_slurm_is_asked_for_in_its_own_words_comes_before_the_site(written, typed, left):
    site = site_file(written("[defaults]\ngpus_per_node = 1\nmem_gb = 64\n"))
    job = default_job(site, {}, typed=typed)
    assert (job.gpus_per_node, job.mem_gb) == left


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[defaults\n", "is not a settings file"),
        (
            '[defaults]\npartitoin = "gpu"\n',
            "unknown setting 'partitoin' in [defaults]; did you mean 'partition'?",
        ),
        ("[ceilings]\nepochs = 3\n", "unknown setting 'epochs' in [ceilings]"),
        ('[ceilings]\nnodes = "two"\n', "nodes = 'two' in [ceilings] must be a whole number"),
        ('[defaults]\nnodes = "two"\n', "--nodes takes a number, or LOW-HIGH such as 1-4, got 'two'"),
        ("[default]\nnodes = 2\n", "unknown table [default]; did you mean 'defaults'?"),
        ('[variables]\nMRI_KEY_FILE = "/k"\n', "[variables] may set TORCH_HOME"),
        ("[variables]\nTORCH_HOME = 3\n", "TORCH_HOME = 3 in [variables] must be a text"),
        ("variables = 3\n", "variables is no table"),
        ("[ceilings]\ntime_limit_min = 1\n", "--signal-ahead-s must be below"),
    ],
)
def test_a_file_that_cannot_be_meant_so_is_refused_by_name_with_the_way_around(written, text, says):
    environment = written(text)
    with pytest.raises(UserError) as error:
        site_file(environment)
    assert str(error.value).startswith(environment["MRI_SITE"])
    assert says in str(error.value)
    assert "MRI_SITE= before a command does without it" in str(error.value)


def test_a_file_that_is_named_and_not_there_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"site\.toml does not exist: tell who runs this cluster"):
        site_file({"MRI_SITE": str(tmp_path / "site.toml")})


@pytest.mark.parametrize(
    ("asked", "gpus", "says"),
    [
        ({"nodes": 5}, 0, "--nodes 5 is above the 4 that"),
        ({"nodes": "1-5"}, 0, "--nodes 5 is above the 4 that"),
        ({"time_limit_min": 601}, 0, "--time-limit-min 601 is above the 600 that"),
        ({}, 3, "--gpus-per-node 3 is above the 2 that"),
        ({"tasks_per_node": None}, 2, "--tasks-per-node 3 is above the 2 that"),
        ({"slurm": ("time=2-0",)}, 0, "has a ceiling on --time-limit-min for all users here"),
        ({"slurm": ("--nodes=9",)}, 0, "has a ceiling on --nodes for all users here"),
    ],
)
def test_above_a_ceiling_a_job_is_refused_in_one_line_that_names_the_file(written, asked, gpus, says):
    environment = written(WHOLE.replace("gpus_per_node = 2", "gpus_per_node = 2\ntasks_per_node = 2"))
    job = dataclasses.replace(JobSettings(time_limit_min=600), **asked)
    # Where none was typed, launch takes a rank a GPU.
    ranks = 3 if asked == {"tasks_per_node": None} else 1
    with pytest.raises(UserError) as error:
        refuse_above(site_file(environment), job, tasks_per_node=ranks, gpus_per_node=gpus)
    assert says in str(error.value)
    assert environment["MRI_SITE"] in str(error.value)
    assert "\n" not in str(error.value)


def test_at_the_ceilings_and_in_words_without_one_nothing_is_refused(written):
    job = JobSettings(nodes=4, time_limit_min=600, mem_gb=9999, slurm=("mem-per-cpu=4G", "nice=5"))
    refuse_above(site_file(written(WHOLE)), job, tasks_per_node=2, gpus_per_node=2)
    refuse_above(SiteFile(), JobSettings(nodes=9999), tasks_per_node=99, gpus_per_node=99)
