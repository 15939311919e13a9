"""tools/demo.sh: what it says where it cannot start, and what it leaves alone. A whole demo takes minutes."""

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
DEMO = ROOT / "tools" / "demo.sh"


@pytest.fixture
def project(tmp_path):
    """A copy of the script in a project that has no environment."""
    folder = tmp_path / "project"
    (folder / "tools").mkdir(parents=True)
    shutil.copy(DEMO, folder / "tools")
    return folder


def demo(project, *arguments, path=None, **environment):
    """Run the copy; `path` alone is where commands are looked for."""
    settings = {"PATH": str(path) if path else os.environ["PATH"], "HOME": str(project), **environment}
    command = ["/bin/bash", str(project / "tools" / "demo.sh"), *arguments]
    return subprocess.run(command, env=settings, capture_output=True, text=True)


def last_line(done):
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr.splitlines()[-1]


@pytest.fixture
def commands(tmp_path):
    """A folder of commands: what the script needs, and a python3 of which a test says what it can."""
    folder = tmp_path / "commands"
    folder.mkdir()
    for name in ("dirname", "realpath", "id"):
        (folder / name).symlink_to(shutil.which(name))

    def with_python(script):
        python = folder / "python3"
        python.write_text(f"#!/bin/bash\n{script}\n")
        python.chmod(0o755)
        return folder

    return folder, with_python


def test_the_script_has_no_syntax_error():
    subprocess.run(["bash", "-n", str(DEMO)], check=True)


def test_without_venv_one_line_says_what_to_install_and_nothing_is_left(project, commands):
    _, with_python = commands
    path = with_python('[[ "$*" == *ensurepip* ]] && exit 1; [[ "$*" == *venv* ]] && mkdir .venv; exit 0')
    done = demo(project, path=path)
    assert last_line(done) == (
        "tools/demo.sh: python3 cannot make a virtual environment; "
        "on Debian and Ubuntu: apt-get install python3-venv"
    )
    assert done.stderr.count("\n") == 1
    assert [entry.name for entry in project.iterdir()] == ["tools"]


def test_without_python_one_line_says_what_to_install(project, commands):
    folder, _ = commands
    assert last_line(demo(project, path=folder)) == (
        "tools/demo.sh: there is no python3; on Debian and Ubuntu: apt-get install python3 python3-venv"
    )


def test_an_old_python_is_named(project, commands):
    _, with_python = commands
    path = with_python('[[ "$1" == --version ]] && echo Python 3.9.2 && exit 0; exit 1')
    expected = "tools/demo.sh: Python 3.9.2 is too old: Python 3.11 or newer is needed"
    assert last_line(demo(project, path=path)) == expected


def test_a_failed_download_says_that_running_again_goes_on(project, commands):
    _, with_python = commands
    make = (
        'mkdir -p .venv/bin; printf "#!/bin/bash\\nexit 1\\n" > .venv/bin/python; chmod +x .venv/bin/python'
    )
    path = with_python(f'[[ "$*" == "-m venv .venv" ]] && {{ {make}; }}; exit 0')
    for name in ("mkdir", "chmod"):
        (path / name).symlink_to(shutil.which(name))
    done = demo(project, path=path)
    assert "this downloads a few GB" in done.stdout
    assert last_line(done).endswith(
        "installing failed; once the above is fixed, run this again: it goes on from here"
    )


def test_a_python_without_mri_hpc_is_refused(project, commands):
    _, with_python = commands
    python = with_python("exit 1") / "python3"
    line = last_line(demo(project, MRI_PYTHON=str(python)))
    assert line.startswith(f"tools/demo.sh: MRI_PYTHON={python} is no python that has what mri_hpc needs")


def test_a_folder_of_something_else_is_left_alone(project, tmp_path):
    mine = tmp_path / "my work"
    (mine / "raw").mkdir(parents=True)
    done = demo(project, str(mine), MRI_PYTHON="/bin/true")
    assert last_line(done) == (
        f"tools/demo.sh: {mine} holds other things: give another folder, bash tools/demo.sh FOLDER"
    )
    assert [entry.name for entry in mine.iterdir()] == ["raw"]


def test_a_second_demo_in_the_same_folder_waits_for_nobody(project, tmp_path):
    folder = tmp_path / "demo"
    folder.mkdir()
    with (folder / ".demo").open("a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        done = demo(project, str(folder), MRI_PYTHON="/bin/true")
    assert last_line(done).startswith(f"tools/demo.sh: another demo is at work in {folder}")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--help-me"], "--help-me is no option; usage: bash tools/demo.sh [--slurm] [FOLDER]"),
        (["one", "two"], "one folder is enough; usage: bash tools/demo.sh [--slurm] [FOLDER]"),
    ],
)
def test_a_wrong_command_line_is_refused_before_anything_is_made(project, arguments, message):
    assert last_line(demo(project, *arguments)) == f"tools/demo.sh: {message}"
    assert [entry.name for entry in project.iterdir()] == ["tools"]


def test_slurm_without_slurm_says_what_works_instead(project, commands):
    folder, _ = commands
    message = last_line(demo(project, "--slurm", path=folder, MRI_PYTHON=sys.executable))
    assert "--slurm needs root and Slurm" in message
    assert message.endswith("without it: bash tools/demo.sh")


def test_what_an_earlier_demo_left_is_replaced_and_nothing_else(project, tmp_path):
    folder = tmp_path / "demo"
    for name in ("raw", "store", "runs", "notes"):
        (folder / name).mkdir(parents=True)
    (folder / ".demo").touch()
    # The first thing that it does then is to draw phantoms, which fails: this project has none.
    done = demo(project, str(folder), MRI_PYTHON=str(_only_imports(tmp_path)))
    assert done.returncode != 0
    assert "this failed: " in done.stderr and "phantoms.py" in done.stderr
    assert sorted(entry.name for entry in folder.iterdir()) == [".demo", "notes"]


def _only_imports(tmp_path):
    python = tmp_path / "only_imports"
    python.write_text('#!/bin/bash\n[[ "$1" == -c ]]\n')
    python.chmod(0o755)
    return python
