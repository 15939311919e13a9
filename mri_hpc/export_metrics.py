"""``mri-hpc export-metrics``: the curves and settings of a run, for a tracker of experiments."""

import dataclasses
import os
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from mri_hpc.base.command import counted, print_json, run_command
from mri_hpc.base.errors import UserError
from mri_hpc.base.marks import POSITIONAL, Flag
from mri_hpc.base.settings import identity_of
from mri_hpc.rundir.layout import RunDir, open_run

EXAMPLE = "mri-hpc export-metrics runs/resnet18-1a2b3c4d --to mlflow --uri http://mlflow.my.site:5000"
MARK = "mri_hpc.run"
"""Tag of the tracker's run by which it is found again."""
MOST_AT_ONCE, MOST_TAGS_AT_ONCE = 1000, 100
"""Of the tracker's interface."""
PATHS = ("store", "weights", "continue_from")
"""Settings of which the last name alone is exported: the folders above may name a person."""
STATES = {"finished": "FINISHED", "cancelled": "KILLED", "failed": "FAILED", "gave_up": "FAILED"}


@dataclass(frozen=True, kw_only=True)
class Options:
    """Send the curves and settings of a run to a tracker; again and again, each figure once.

    Figures of steps that an interruption could still take back are sent with a later export. Nothing about
    patients or images is sent. Needs internet or a server that this machine reaches: run it on a login node.
    """

    run: Annotated[Path, POSITIONAL]
    """Folder of the run."""
    to: Literal["mlflow"] = "mlflow"
    """The tracker."""
    uri: str = ""
    """Address of its server, or of its store; by default that of MLFLOW_TRACKING_URI."""
    experiment: str = "mri_hpc"
    """Experiment under which the run is shown; made where there is none."""
    json: Flag = False
    """Print as JSON."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    return run_command("mri-hpc export-metrics", Options, export, argv, example=EXAMPLE)


def export(options: Options) -> None:
    """Send what the tracker has not yet; UserError where it cannot be reached, or is not installed."""
    run = open_run(options.run)
    uri = options.uri or os.environ.get("MLFLOW_TRACKING_URI", "")
    if not uri:
        raise UserError("where to? give --uri http://SERVER:5000, or set MLFLOW_TRACKING_URI")
    # Its own are minutes of silence.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "30")
    try:
        from mlflow import MlflowClient
        from mlflow.exceptions import MlflowException
    except ImportError:
        raise UserError(
            "mlflow is not installed here: pip install mlflow-skinny, then run it again"
        ) from None
    try:
        sent, there = _send(MlflowClient(tracking_uri=uri), options.experiment, run)
    except MlflowException as error:
        says = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(_without_password(f"{uri}: {says}")) from None
    uri = _without_password(uri)
    if options.json:
        print_json({"run": str(run.path), "uri": uri, "sent": sent, "already_there": there})
    else:
        print(f"{run.path.name}: {counted(sent, 'figure')} sent, {there:,} already there, to {uri}")


def _without_password(text: str) -> str:
    """Return a text in which no address names a user or a password."""
    return re.sub(r"(?<=://)[^/\s]*@", "", text)


def _send(client: Any, experiment: str, run: RunDir) -> tuple[int, int]:
    """Send settings, new figures and state; return the numbers of figures sent, and there before."""
    from mlflow.entities import Metric, Param, RunTag

    from mri_hpc.rundir.durable_metrics import durable_points
    from mri_hpc.rundir.settings import load_job, load_training

    training, job = load_training(run), load_job(run)
    run_id = _found_or_made(client, experiment, run)
    # They never change, and an export that was cut short may have left them out.
    params = [Param(*one) for one in _texts(identity_of(training))]
    _log(client, run_id, "params", params, MOST_TAGS_AT_ONCE)
    operated = {**dataclasses.asdict(training), **dataclasses.asdict(job)}
    changeable = {name: value for name, value in operated.items() if name not in identity_of(training)}
    _log(client, run_id, "tags", [RunTag(*one) for one in _texts(changeable)], MOST_TAGS_AT_ONCE)
    points = list(durable_points(run))
    known = {
        (name, figure.step)
        for name in {point.name for point in points}
        for figure in client.get_metric_history(run_id, name)
    }
    new = [point for point in points if (point.name, point.step) not in known]
    figures = [Metric(one.name, one.value, round(one.time_s * 1000), one.step) for one in new]
    _log(client, run_id, "metrics", figures, MOST_AT_ONCE)
    client.update_run(run_id, status=_state(run))
    return len(new), len(points) - len(new)


def _found_or_made(client: Any, experiment: str, run: RunDir) -> str:
    """Return the tracker's number of a run, which is made there where it is new."""
    found = client.get_experiment_by_name(experiment)
    number = found.experiment_id if found else client.create_experiment(experiment)
    mark = _mark(run)
    there = client.search_runs([number], f"tags.`{MARK}` = '{mark}'")
    if there:
        return str(there[0].info.run_id)
    return str(client.create_run(number, run_name=run.path.name, tags={MARK: mark}).info.run_id)


def _mark(run: RunDir) -> str:
    """Name a run for good, wherever its folder is moved: by what it is, and when it began."""
    from mri_hpc.rundir.ledger import read_events
    from mri_hpc.rundir.settings import load_training

    events = read_events(run)
    return f"{load_training(run).identity_digest()[:16]}-{events[0].time if events else 0:.6f}"


def _texts(settings: dict[str, Any]) -> list[tuple[str, str]]:
    shown = {name: value for name, value in settings.items() if value not in (None, (), "")}
    return [
        (name, Path(value).name if name in PATHS else str(value)) for name, value in sorted(shown.items())
    ]


def _log(client: Any, run_id: str, kind: str, entities: Sequence[Any], most: int) -> None:
    for first in range(0, len(entities), most):
        client.log_batch(run_id, **{kind: entities[first : first + most]})


def _state(run: RunDir) -> str:
    """Return the tracker's word for how the run stands by its ledger."""
    from mri_hpc.rundir.ledger import read_events
    from mri_hpc.rundir.summary import summarise

    summary = summarise(read_events(run), [], None, time.time(), is_finished=run.is_finished)
    return STATES.get(summary.state, "RUNNING")


if __name__ == "__main__":
    sys.exit(main())
