"""A command ends in one clear line and the right status."""

from dataclasses import dataclass

import pytest

from mri_hpc.base.command import run_command
from mri_hpc.base.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Options:
    """Try things."""

    count: int = 1
    """How many."""


def run(body, argv=()):
    return run_command("mri-hpc try", Options, body, list(argv), example="mri-hpc try --count 2")


def raising(error):
    def body(_options):
        raise error

    return body


def test_a_users_mistake_is_one_line_and_status_2(capsys):
    assert run(raising(UserError("store is empty; run preprocess"))) == 2
    assert capsys.readouterr().err == "mri-hpc try: store is empty; run preprocess\n"


def test_no_space_is_the_users_to_mend(capsys, tmp_path):
    assert run(raising(OSError(28, "No space left on device", "/store/chunk"))) == 2
    assert capsys.readouterr().err == (
        "mri-hpc try: No space left on device: /store/chunk; make room there, then run it again\n"
    )


def test_too_many_open_files_are_the_users_to_mend(capsys):
    assert run(raising(OSError(24, "Too many open files", "/store/file"))) == 2
    assert capsys.readouterr().err == (
        "mri-hpc try: Too many open files: /store/file; raise the limit on open files (ulimit -n), "
        "then run it again\n"
    )


def test_a_bug_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        run(raising(ZeroDivisionError()))


def test_the_body_may_choose_its_status():
    assert run(lambda options: 75) == 75
    assert run(lambda options: None) == 0


def test_an_unknown_option_exits_with_2_and_names_the_nearest(capsys):
    with pytest.raises(SystemExit) as left:
        run(lambda options: None, ["--coutn", "3"])
    assert left.value.code == 2
    assert "--count" in capsys.readouterr().err


def test_help_shows_the_example(capsys):
    with pytest.raises(SystemExit) as left:
        run(lambda options: None, ["--help"])
    assert left.value.code == 0
    assert "Example: mri-hpc try --count 2" in capsys.readouterr().out
