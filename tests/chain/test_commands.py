"""Commands of a link, in processes of their own."""

import pytest

from mri_hpc.base.errors import UserError
from mri_hpc.base.stop_flag import StopFlag, StopRequest
from mri_hpc.chain.commands import Commands, Interrupted


def test_a_command_that_fails_is_told_in_its_last_line_and_one_that_a_signal_ended_goes_on_later(tmp_path):
    commands = Commands(log=tmp_path / "log", stop=StopFlag())
    commands.run("models", ["list", "--models", str(tmp_path / "none")])
    with pytest.raises(UserError, match=r"^mri-hpc models: .*unrecognized options: --lst.* \(see .*log\)$"):
        commands.run("models", ["list", "--lst"])
    log = commands.log.read_text()
    assert log.startswith("$ mri-hpc models list --models ") and "holds no model" in log
    commands.stop.take(StopRequest(signal_name="SIGTERM", received_s=0.0))
    with pytest.raises(Interrupted, match="SIGTERM"):
        commands.run("models", ["list"])
