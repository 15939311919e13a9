"""What a site edits and installs by: shell files that bash accepts, a lock of all that is needed."""

import ast
import configparser
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[3]
PLACES = ("hpc/**/*.sh", "hpc/**/*.env", "tools/**/*.sh", ".ci/run")
SHELL_FILES = sorted(file for place in PLACES for file in ROOT.glob(place))
INSTALLER = ROOT / "tools" / "install_cluster.sh"


def bash(*words, **changes):
    settings = {"capture_output": True, "text": True, "timeout": 60}
    return subprocess.run(["bash", *map(str, words)], **{**settings, **changes})


@pytest.mark.parametrize("file", SHELL_FILES, ids=lambda file: file.name)
def test_bash_accepts_every_shell_file(file):
    checked = bash("-n", file)
    assert (checked.returncode, checked.stderr) == (0, "")


def test_there_are_shell_files_for_a_cluster():
    for_all = {"preprocess_array.sh", "pipeline.sh", "site.env", "install_cluster.sh"}
    assert {file.name for file in SHELL_FILES} >= {*for_all, "apptainer_python.sh"}


@pytest.mark.parametrize("shell", ["bash", "sh"])
def test_what_a_site_edits_sets_nothing_and_says_nothing_as_shipped(shell):
    script = 'set -eu; before=$(export -p); . "$1"; [ "$before" = "$(export -p)" ]'
    ran = subprocess.run(
        [shell, "-c", script, shell, str(ROOT / "hpc" / "slurm" / "site.env")], capture_output=True, text=True
    )
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, "", "")


def test_every_line_that_a_site_may_uncomment_is_shell(tmp_path):
    lines = (ROOT / "hpc" / "slurm" / "site.env").read_text().splitlines()
    exports = [line.removeprefix("# ") for line in lines if line.startswith("# export ")]
    assert len(exports) > 10
    (tmp_path / "all.env").write_text("\n".join(exports) + "\n")
    ran = bash("-euc", '. "$1"; echo "$MRI_IMAGE $SBATCH_PARTITION"', "bash", tmp_path / "all.env")
    assert ran.stdout == "/project/mri/mri_hpc.sif cpu\n"


# The installer.


def install(*words, **changes):
    return bash(INSTALLER, *words, **changes)


def test_a_dry_run_of_the_installer_shows_its_commands_and_makes_nothing(tmp_path):
    ran = install("--dry-run", "--lock", "--env", tmp_path / "an env")
    assert ran.returncode == 0, ran.stderr
    environment = f"{tmp_path}/an\\ env"
    assert f"+ python3 -m venv {environment} \n" in ran.stdout
    pip = f"+ {environment}/bin/python -m pip --disable-pip-version-check install"
    assert (
        f"{pip} --quiet --require-hashes --requirement requirements.lock \n{pip} --quiet --no-deps . \n"
        in ran.stdout
    )
    assert f"source {environment}/bin/activate" in ran.stdout
    assert f"export MRI_PYTHON={environment}/bin/python" in ran.stdout
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("more", [(), ("--lock",)])
def test_what_only_preprocesses_gets_the_lock_without_torch(tmp_path, more):
    ran = install("--dry-run", "--preprocess-only", *more, "--env", tmp_path / "env")
    assert ran.returncode == 0, ran.stderr
    assert "--require-hashes --requirement requirements-preprocess.lock \n" in ran.stdout
    assert "--no-deps . \n" in ran.stdout
    assert "requirements.lock" not in ran.stdout and "mri_hpc.launch" not in ran.stdout


def test_an_environment_that_is_there_is_kept(tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to(sys.executable)
    ran = install("--dry-run", "--env", tmp_path)
    assert f"environment: {tmp_path} (there already)" in ran.stdout
    assert "-m venv" not in ran.stdout


def test_a_folder_that_compute_nodes_do_not_see_is_warned_of():
    ran = install("--dry-run", "--env", "/var/tmp/mri-environment")
    assert ran.returncode == 0
    assert "warning: /var/tmp/mri-environment is on this machine alone" in ran.stderr


def test_the_python_of_a_module_is_used_and_the_module_named_for_later(tmp_path):
    module = 'module() { echo "module $*"; }; export -f module; exec bash "$@"'
    words = ("--module", "languages/python/3.11", "--env", tmp_path / "env", "--dry-run")
    ran = bash("-c", module, "bash", INSTALLER, *words)
    assert ran.returncode == 0, ran.stderr
    assert "+ module load languages/python/3.11 \n" in ran.stdout
    assert f"  module load languages/python/3.11 && source {tmp_path}/env/bin/activate\n" in ran.stdout


def test_conda_makes_the_environment_where_it_is_asked_for(tmp_path):
    conda = tmp_path / "conda"
    conda.write_text("#!/bin/sh\n")
    conda.chmod(0o755)
    path = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    ran = install("--conda", "--env", tmp_path / "env", "--dry-run", env=path)
    assert f"conda create --yes --quiet --prefix {tmp_path}/env python=3.11 pip \n" in ran.stdout
    assert f"conda activate {tmp_path}/env\n" in ran.stdout


def python_that(tmp_path, script):
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{script}\n")
    python.chmod(0o755)
    return python


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (("--loc",), "unknown option --loc; see --help"),
        (("--env",), "--env needs a value; see --help"),
        (("--python", "/no/python"), "/no/python is not on the PATH; use --module, --conda or --python PATH"),
        (("--module", "python"), "there is no 'module' here; leave --module out, or use --conda"),
        (("--gpu", "gtx"), "--gpu gtx is no GPU known here: give its compute capability, such as 7.0"),
        (("--gpu", "k80"), "compute capability 3.7 is too old for every torch from 2.8 on"),
        (("--driver", "535"), "--driver needs --gpu WHICH; see --help"),
        (("--gpu", "a100", "--driver", "new"), "--driver new is no number such as 535.183.01"),
        (
            ("--gpu", "a100", "--driver", "470.82"),
            "driver 470.82 is older than 525, and no torch from 2.8 on runs with it: "
            "ask your site for a newer one",
        ),
    ],
)
def test_what_cannot_be_done_is_one_line_of_the_installer(tmp_path, words, complaint):
    ran = install("--env", tmp_path / "env", "--dry-run", *words)
    # Tests run below /tmp, of which it warns.
    said = [line for line in ran.stderr.splitlines() if not line.startswith("warning: ")]
    assert (ran.returncode, said) == (2, [f"tools/install_cluster.sh: {complaint}"])


def test_an_old_python_is_refused_before_anything_is_made(tmp_path):
    old = python_that(tmp_path, 'case "$1" in --version) echo Python 3.9.18 ;; *) exit 1 ;; esac')
    ran = install("--env", tmp_path / "env", "--python", old)
    assert ran.returncode == 2
    assert f"{old} is Python 3.9.18, and 3.11 is needed: use --module, --conda or --python" in ran.stderr
    assert not (tmp_path / "env").exists()


@pytest.mark.parametrize(
    ("words", "files"),
    [
        (("--gpu", "a100", "--driver", "580.65.06"), "requirements.lock"),
        (("--gpu", "T4"), "requirements.lock"),
        (("--gpu", "a100", "--driver", "535.183.01"), "requirements-cuda12.lock"),
        (("--gpu", "V100", "--lock"), "requirements-cuda12.lock"),
        (("--gpu", "12.0", "--driver", "580"), "requirements.lock"),
        (("--gpu", "v100", "--preprocess-only"), "requirements-preprocess.lock"),
    ],
)
def test_a_gpu_and_its_driver_choose_the_lock_whose_torch_runs_there(tmp_path, words, files):
    ran = install("--dry-run", *words, "--env", tmp_path / "env")
    assert ran.returncode == 0, ran.stderr
    assert re.findall(r"--require-hashes --requirement (\S+)", ran.stdout) == [files]
    assert (ROOT / files).is_file()


def test_gpus_that_no_lock_serves_get_pytorchs_own_files(tmp_path):
    ran = install("--dry-run", "--lock", "--gpu", "p100", "--env", tmp_path / "env")
    assert ran.returncode == 0, ran.stderr
    assert (
        "--index-url https://download.pytorch.org/whl/cu126 torch==2.10.\\* torchvision==0.25.\\* \n"
        in ran.stdout
    )
    assert "--require-hashes" not in ran.stdout


def test_a_job_is_asked_for_the_gpu_and_one_that_never_ran_is_not_believed(tmp_path):
    sbatch = tmp_path / "sbatch"
    sbatch.write_text(
        '#!/bin/bash\nfor word; do case "$word" in --output=*) file="${word#*=}" ;; esac; done\n'
        'printf "$ANSWER" >"$file"\n'
    )
    sbatch.chmod(0o755)
    words = ("--gpu", "ask", "--env", tmp_path / "env", "--python", "/no/python")
    here = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    ran = install(*words, env={**here, "ANSWER": "slurmstepd: killed"})
    assert ran.returncode == 2
    assert "no GPU node answered within 600 s; the job said: slurmstepd: killed. Give the name" in ran.stderr
    ran = install(*words, env={**here, "ANSWER": "9.0, 550.54.15\\n7.0, 550.54.15\\n"})
    assert "compute capability 7.0, driver 550.54.15: requirements-cuda12.lock\n" in ran.stdout
    assert not list(ROOT.glob(".gpu-*"))


def test_the_recipe_of_the_image_takes_files_that_are_there_and_is_shell():
    recipe = (ROOT / "hpc" / "apptainer" / "mri_hpc.def").read_text()
    parts = dict(re.findall(r"^%(\w+)\n((?:    .*\n|\n)+)", recipe, re.MULTILINE))
    assert set(parts) == {"arguments", "files", "post", "environment", "test", "runscript", "help"}
    values = dict(line.strip().split("=") for line in parts["arguments"].splitlines() if line)
    for name, value in values.items():
        recipe = recipe.replace(f"{{{{ {name} }}}}", value)
    assert "{{" not in recipe
    sources = re.findall(r"^    (\S+) /opt/mri_hpc-source/", recipe, re.MULTILINE)
    assert {"mri_hpc", "setup.cfg", "requirements.lock"} <= set(sources)
    assert all((ROOT / source).exists() for source in sources)
    for name in ("post", "environment", "test", "runscript"):
        checked = subprocess.run(["sh", "-n"], input=parts[name], capture_output=True, text=True)
        assert (checked.returncode, checked.stderr) == (0, ""), name


# The pipeline's audit, without Slurm.


PASSED = "pipeline: the audit has passed\n"


@pytest.mark.parametrize(
    ("finds", "variables", "status", "says"),
    [
        ("exit 0", {}, 0, PASSED),
        ("exit 2", {}, 2, "nothing is launched. Fix what it names, then run the pipeline again; MRI_AUDIT"),
        # Leaks are accepted by the audit itself, which then ends with 0.
        ('[ "$5" = --report-only ]', {"MRI_AUDIT": "report"}, 0, PASSED),
        # Whatever else keeps it from passing is no finding that somebody could accept.
        ("exit 2", {"MRI_AUDIT": "report"}, 2, "nothing is launched"),
        ("exit 1", {"MRI_AUDIT": "report"}, 2, "nothing is launched"),
    ],
)
def test_an_audit_that_does_not_pass_stops_the_pipeline_and_the_user_may_accept_leaks_alone(
    tmp_path, finds, variables, status, says
):
    place = {"SLURM_SUBMIT_DIR": str(tmp_path), "MRI_PYTHON": str(python_that(tmp_path, finds))}
    stage = (ROOT / "hpc" / "slurm" / "pipeline.sh", "--stage=audit")
    ran = bash(*stage, env={**os.environ, **place, **variables})
    assert ran.returncode == status
    assert says in ran.stdout
    # By which a shell that waited for it knows.
    assert (ran.stdout == PASSED) == (status == 0)


# The job of pipeline.sh --follow that looks again, without Slurm.


@pytest.mark.parametrize(
    ("squeue", "looks"),
    [
        ("exit 0", False),
        ("echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1", False),
        ("echo 7_0", True),
        # No answer is none: the controller is away, or the client cannot ask it.
        ("echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1", True),
        ("exit 127", True),
        # A user's own defaults show other jobs.
        ('[ -n "${SQUEUE_USERS:-}" ] || echo 7_0', True),
    ],
)
def test_the_job_that_looks_again_ends_only_where_slurm_says_that_the_array_has_gone(tmp_path, squeue, looks):
    ran, said = look_again(tmp_path, squeue=squeue, sbatch="exit 0")
    assert ran.returncode == 0
    assert [line for line in said if line.startswith("sbatch")] == (
        ["sbatch --begin=now+5minutes --job-name=follow-7"] if looks else []
    )
    assert ("launched" in ran.stdout) == looks


def test_the_job_that_looks_again_asks_slurm_again_to_take_the_next_one(tmp_path):
    ran, said = look_again(tmp_path, squeue="echo 7_0", sbatch='[ "$(grep -c ^sbatch said)" -ge 3 ]')
    assert (ran.returncode, len(said)) == (0, 5), said
    ran, said = look_again(tmp_path, squeue="echo 7_0", sbatch="exit 1")
    assert (ran.returncode, said.count("sleep 40"), said[-1][:6]) == (2, 9, "sbatch")
    assert "Slurm has taken no further job in 6 minutes" in ran.stdout


def test_a_next_job_that_slurm_has_taken_without_an_answer_is_not_submitted_again(tmp_path):
    ran, said = look_again(tmp_path, squeue="echo 7_0", sbatch="echo 31 >>taken; exit 1", later="cat taken")
    assert (ran.returncode, [line.split()[0] for line in said]) == (0, ["sbatch", "sleep"]), said


# The job before is about to end; a job of its own that has been requeued has submitted the next one already.
@pytest.mark.parametrize(("later", "looks"), [("echo 29; echo 30", True), ("echo 30; echo 31", False)])
def test_the_job_that_looks_again_leaves_it_to_a_later_one(tmp_path, later, looks):
    ran, said = look_again(tmp_path, squeue="echo 7_0", sbatch="exit 0", later=later)
    assert (ran.returncode, "launched" in ran.stdout, bool(said)) == (0, looks, looks)


def look_again(folder, *, later="exit 0", **programs):
    """Run that stage as job 30 beside programs of these bodies; what came of it, and which that act ran.

    later: what squeue says of jobs of its name.
    """
    programs["squeue"] = f'if [[ "$*" == *--name=follow-7* ]]; then {later}; exit; fi\n{programs["squeue"]}'
    place = folder / "bin"
    place.mkdir(exist_ok=True)
    (folder / "said").write_text("")
    for name, body in {**programs, "sleep": "exit 0"}.items():
        note = "" if name == "squeue" else f'echo {name} "$1"${{2:+" $2"}} >>said\n'
        (place / name).write_text(f"#!/bin/bash\n{note}{body}\n")
        (place / name).chmod(0o755)
    own = {
        "SLURM_SUBMIT_DIR": str(folder), "MRI_PYTHON": str(python_that(folder, "echo launched")),
        "PATH": f"{place}{os.pathsep}{os.environ['PATH']}", "SQUEUE_USERS": "nobody",
        "SLURM_JOB_ID": "30",
    }  # fmt: skip
    ran = bash(ROOT / "hpc/slurm/pipeline.sh", "--stage=follow", "7", env={**os.environ, **own})
    return ran, (folder / "said").read_text().splitlines()


# What is needed.

# Distributions whose modules have other names.
MODULES = {"opencv-python-headless": "cv2", "pillow": "PIL", "pynrrd": "nrrd", "scikit-learn": "sklearn"}


def needed():
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    return [re.match(r"[\w.-]+", line).group() for line in setup["options"]["install_requires"].split()]


def imported(*places):
    """Dotted names that the files of these places import."""
    for file in (file for place in places for file in ROOT.glob(place)):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.ImportFrom):
                yield node.module
            elif isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)


def test_what_is_installed_is_what_the_project_and_the_demos_phantoms_import():
    modules = {MODULES.get(name, name) for name in needed()}
    ours = list(imported("mri_hpc/**/*.py"))
    # Any part of a name: torch.utils.tensorboard needs tensorboard.
    assert modules - {part for name in ours for part in name.split(".")} == set()
    names = {name.partition(".")[0] for name in [*ours, *imported("tools/phantoms.py", "tools/phantom/*.py")]}
    # markupsafe is a part of jinja2's own interface; _typeshed is there for type checkers alone.
    others = {"mri_hpc", "phantom", "markupsafe", "_typeshed"}
    # Asked for where they are there: a tracker's client, and what reads a GPU's counters.
    assert names - modules - sys.stdlib_module_names == others | {"mlflow", "pynvml"}


# The locks.

LOCKS = ("requirements.lock", "requirements-preprocess.lock")
PINNED = re.compile(r"([\w.-]+)==(\d[\w.]*)( ; [\w\s.<>='()]+)?((?: --hash=sha256:[0-9a-f]{64})+)")


def locked(lock):
    """Name → version, of a lock of which every line is pinned, and has hashes."""
    lines = (ROOT / lock).read_text().replace("\\\n", "").splitlines()
    pinned = [re.sub(" +", " ", line) for line in lines if not line.startswith("#")]
    found = [PINNED.fullmatch(line) for line in pinned]
    assert all(found), pinned[found.index(None)] if None in found else ""
    return {match[1]: match[2] for match in found}


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def test_the_lock_holds_all_that_is_needed_with_nvidias_libraries_and_no_test_tool():
    assert len(needed()) > 10
    assert {normal(name) for name in needed()} <= set(locked("requirements.lock"))
    assert {"nvidia-nccl-cu13", "triton"} <= set(locked("requirements.lock"))
    tools = {"pytest", "ruff", "mypy", "hypothesis", "import-linter", "uv", "mri-hpc"}
    assert not tools & set(locked("requirements.lock"))


def test_the_lock_without_torch_is_a_part_of_the_other():
    part, whole = locked("requirements-preprocess.lock"), locked("requirements.lock")
    assert part.items() <= whole.items()
    assert not [name for name in part if name.startswith(("torch", "nvidia", "triton", "cuda"))]


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_names_no_address_and_the_command_that_makes_it(lock):
    text = (ROOT / lock).read_text()
    assert "//" not in text and "index" not in text
    assert "tools/lock.py\n" in text.split("==")[0]


def test_preprocess_and_store_import_only_what_their_lock_holds(tmp_path):
    """In a Python that finds nothing else of what is installed here."""
    held = {MODULES.get(name, name.replace("-", "_")) for name in locked("requirements-preprocess.lock")}
    raw, store = str(tmp_path / "raw"), str(tmp_path / "store")
    code = f"""
import importlib.abc, sys

class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path, target=None):
        if name.partition(".")[0] not in {sorted(held | {"mri_hpc"} | sys.stdlib_module_names)}:
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Refuse())
from mri_hpc import preprocess, store
sys.exit(
    preprocess.main(["--source", {raw!r}, "--store", {store!r}])
    or store.main(["info", {store!r}, "--json"])
    or store.main(["verify", {store!r}])
)
"""
    for number in range(4):
        path = tmp_path / "raw" / f"class{number % 2}" / f"patient{number}" / "slice.png"
        path.parent.mkdir(parents=True)
        Image.new("L", (40, 40), 40 * number).save(path)
    key = {**os.environ, "MRI_KEY_FILE": str(tmp_path / "key")}
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=key)
    assert ran.returncode == 0, ran.stderr
    assert '"images": 4' in ran.stdout
