"""The part of MLflow that an export uses, as its documentation and its file store have it.

Where the real mlflow is installed, the tests beside this run on that instead.
"""

import dataclasses
import re
import sys
import types
from collections import defaultdict
from typing import ClassVar


class MlflowException(Exception):
    """What the client raises."""


@dataclasses.dataclass
class Metric:
    key: str
    value: float
    timestamp: int
    step: int


@dataclasses.dataclass
class Text:
    key: str
    value: str


@dataclasses.dataclass
class Run:
    run_id: str
    experiment_id: str
    name: str
    tags: dict
    status: str = "RUNNING"
    params: dict = dataclasses.field(default_factory=dict)
    metrics: defaultdict = dataclasses.field(default_factory=lambda: defaultdict(list))

    @property
    def info(self):
        return self

    @property
    def data(self):
        return self


class Client:
    """A client; those of one address share what is there."""

    servers: ClassVar[defaultdict] = defaultdict(lambda: ({}, {}))

    def __init__(self, tracking_uri):
        if tracking_uri.startswith("http"):
            raise MlflowException("API request failed: connection refused\nmore of it")
        self.experiments, self.runs = self.servers[tracking_uri]

    def get_experiment_by_name(self, name):
        number = self.experiments.get(name)
        return number and types.SimpleNamespace(experiment_id=number)

    def create_experiment(self, name):
        return self.experiments.setdefault(name, f"e{len(self.experiments)}")

    def search_runs(self, experiments, filter_string=""):
        wanted = re.fullmatch(r"tags\.`([\w.]+)` = '([\w.-]+)'", filter_string) if filter_string else None
        return [
            run
            for run in self.runs.values()
            if run.experiment_id in experiments and (not wanted or run.tags.get(wanted[1]) == wanted[2])
        ]

    def create_run(self, experiment, run_name, tags):
        run = Run(f"r{len(self.runs)}", experiment, run_name, dict(tags))
        return self.runs.setdefault(run.run_id, run)

    def get_run(self, run_id):
        return self.runs[run_id]

    def log_batch(self, run_id, metrics=(), params=(), tags=()):
        if len(metrics) > 1000 or len(params) > 100 or len(tags) > 100:
            raise MlflowException("too many in one request")
        run = self.runs[run_id]
        for one in params:
            if run.params.setdefault(one.key, one.value) != one.value:
                raise MlflowException("Changing param values is not allowed")
        run.tags.update((one.key, one.value) for one in tags)
        # Twice the same is there twice.
        for one in metrics:
            run.metrics[one.key].append(one)

    def get_metric_history(self, run_id, key):
        return list(self.runs[run_id].metrics.get(key, ()))

    def update_run(self, run_id, status):
        self.runs[run_id].status = status


def install(monkeypatch):
    """Put it in the place of mlflow."""
    Client.servers.clear()
    mlflow = types.ModuleType("mlflow")
    mlflow.MlflowClient = Client
    entities, exceptions = types.ModuleType("mlflow.entities"), types.ModuleType("mlflow.exceptions")
    entities.Metric, entities.Param, entities.RunTag = Metric, Text, Text
    exceptions.MlflowException = MlflowException
    for module in (mlflow, entities, exceptions):
        monkeypatch.setitem(sys.modules, module.__name__, module)
