"""MLflow: a SQLite file in the folder of all runs, or what ``MLFLOW_TRACKING_URI`` names."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ..runtime.locks import lock
from .json_lines import Event
from .tracker import DATABASE, DATABASE_LOCK, Run, Status

# Set unless the user's environment says otherwise.
ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_LOGGING_LEVEL": "CRITICAL",  # the logger reports what fails
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "15",  # seconds
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2",
}
ID_TAG = "phalanx.id"
MAX_METRICS, MAX_PARAMS, MAX_PARAM_LENGTH = 1000, 100, 500  # limits of every server


class MLflow:
    """One MLflow run per fold, in the experiment ``phalanx`` or ``MLFLOW_EXPERIMENT_NAME``.

    MLflow cannot take a value back. Of a step that a kill undid, a value is recorded again only if it changed.
    """

    def __init__(self, run: Run):
        for key, value in ENVIRONMENT.items():
            os.environ.setdefault(key, value)
        from mlflow import MlflowClient

        self.recorded: dict[tuple[str, int], float] = {}
        runs = run.runs.absolute()
        if uri := os.environ.get("MLFLOW_TRACKING_URI"):
            self.client = MlflowClient(tracking_uri=uri)
            self._open(run, None)
        else:
            with lock(runs / DATABASE_LOCK):  # folds side by side: one makes the tables
                self.client = MlflowClient(tracking_uri=f"sqlite:///{runs / DATABASE}")
                self._open(run, runs)
        self._log(run.history)

    def _open(self, run: Run, runs: Path | None) -> None:
        """Finds the run by its tag, or creates it."""
        experiment = self._experiment(os.environ.get("MLFLOW_EXPERIMENT_NAME") or "phalanx", runs)
        found = self.client.search_runs([experiment], f"tags.`{ID_TAG}` = '{run.id}'", max_results=1)
        if found:
            self.id, known = found[0].info.run_id, found[0].data.params
            self.client.update_run(self.id, status="RUNNING")
            for key in found[0].data.metrics:
                self.recorded |= {(key, m.step): m.value for m in self.client.get_metric_history(self.id, key)}
        else:
            tags = {ID_TAG: run.id, "phalanx.run": run.name, "phalanx.fold": run.fold}
            created = self.client.create_run(experiment, run_name=f"{run.name}/{run.fold}", tags=tags)
            self.id, known = created.info.run_id, {}
        self._log_recipe({key: value for key, value in run.recipe.items() if _param_key(key) not in known})

    def _experiment(self, name: str, runs: Path | None) -> str:
        from mlflow import MlflowException

        for _ in range(2):
            if found := self.client.get_experiment_by_name(name):
                return found.experiment_id
            try:
                place = (runs / "mlflow").as_uri() if runs else None  # for artifacts; MLflow makes it with the first
                return self.client.create_experiment(name, artifact_location=place)
            except MlflowException as error:
                if error.error_code != "RESOURCE_ALREADY_EXISTS":  # by another fold, a moment ago
                    raise
        raise RuntimeError(f"the experiment {name} can be neither found nor created")

    def _log_recipe(self, recipe: dict[str, Any]) -> None:
        from mlflow.entities import Param

        params = [Param(_param_key(key), str(value)[:MAX_PARAM_LENGTH]) for key, value in recipe.items()]
        for first in range(0, len(params), MAX_PARAMS):
            self.client.log_batch(self.id, params=params[first : first + MAX_PARAMS], synchronous=True)

    def write(self, event: Event) -> None:
        """Records an event in one transaction or request."""
        self._log([event])

    def _log(self, events: Iterable[Event]) -> None:
        from mlflow.entities import Metric

        points = {(key, e.step): (value, e.time) for e in events for key, value in e.numbers().items()}
        points = {place: point for place, point in points.items() if self.recorded.get(place) != point[0]}
        metrics = [Metric(key, value, int(time * 1000), step) for (key, step), (value, time) in points.items()]
        for first in range(0, len(metrics), MAX_METRICS):
            self.client.log_batch(self.id, metrics=metrics[first : first + MAX_METRICS], synchronous=True)
        self.recorded |= {place: value for place, (value, _) in points.items()}

    def picture(self, key: str, step: int, pixels: np.ndarray) -> None:
        """Records a picture RGB uint8[H, W, 3] among the images of a step."""
        self.client.log_image(self.id, pixels, key=key, step=step)

    def close(self, status: Status) -> None:
        """Marks the run as finished or failed."""
        self.client.set_terminated(self.id, "FINISHED" if status == "finished" else "FAILED")


def _param_key(key: str) -> str:
    """A key of the recipe in the characters that MLflow allows.

    >>> _param_key("loss.class_weights.hook (left)")
    'loss.class_weights.hook _left_'
    """
    return "".join(c if c.isalnum() or c in "_-./ :" else "_" for c in key)
