"""tools/main_job.sh with stand-ins for Slurm and commands: what it asks of its source, and leaves behind."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
STANDIN = "#!/bin/sh\n"
# Follows for a minute what has failed before: its process id is kept.
PYTHON = f"""{STANDIN}
case "$*" in
    -c*) exec {sys.executable} "$@" ;;
    *--wait*) echo $$ >"$NOTES/follower"; exec sleep 60 ;;
    tools/mid_epoch.py*)
        while [ ! -s "$NOTES/follower" ]; do sleep 0.05; done
        echo "$@" >>"$NOTES/said"
        exit 2
        ;;
esac
"""


def standin(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)


@pytest.fixture
def main_job(tmp_path):
    """Runs the script on a CSV of these folds; returns what came of it, and what the stand-ins were told."""
    project, source = tmp_path / "project", tmp_path / "source"
    source.mkdir()
    (project / "tools").mkdir(parents=True)
    shutil.copy(ROOT / "tools" / "main_job.sh", project / "tools")
    standin(
        project / "tools" / "sandbox" / "sandbox", f'{STANDIN}[ "$1" = env ] || echo "$1" >>"$NOTES/said"\n'
    )
    standin(tmp_path / "bin" / "sbatch", f'{STANDIN}echo done >"$NOTES/preprocess-0.out"\n')
    standin(tmp_path / "bin" / "python", PYTHON)
    home = {
        **os.environ, "NOTES": str(tmp_path), "MRI_PYTHON": str(tmp_path / "bin" / "python"),
        "PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT),
    }  # fmt: skip

    def run(folds):
        rows = [f"{number}.jpg,glioma,P{number},{fold}" for number, fold in enumerate(folds)]
        (source / "labels.csv").write_text("\n".join(["path,label,patient,fold", *rows]) + "\n")
        words = ["bash", project / "tools" / "main_job.sh", source, tmp_path]
        ran = subprocess.run(words, env=home, capture_output=True, text=True, timeout=300)
        said = tmp_path / "said"
        return ran, said.read_text().splitlines() if said.exists() else []

    return run


@pytest.mark.parametrize(
    ("folds", "found"), [((0, 1, 2, 3), "0, 1, 2, 3"), ((3, 4), "3, 4"), (("",), "none")]
)
def test_a_source_without_the_folds_is_refused_before_a_sandbox_starts(main_job, folds, found):
    ran, said = main_job(folds)
    assert (ran.returncode, said) == (2, [])
    assert ran.stderr.endswith(f"labels.csv needs a column fold with 3, 4 and others; found: {found}\n")


def test_where_a_step_fails_the_follower_ends_and_the_sandbox_goes(main_job, tmp_path):
    ran, said = main_job((0, 3, 4))
    assert ran.returncode == 2, ran.stderr
    assert said == ["up", f"tools/mid_epoch.py {tmp_path}/runs/main 3", "down"]
    follower = int((tmp_path / "follower").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(follower, 0)
