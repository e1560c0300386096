"""Log a run to TensorBoard and MLflow: extras, off by default."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from typing import Any

from label_tools.text.errors import InputError, MissingExtra, one_line
from toolkit.config import Config, Run, flat
from toolkit.training import run_folder

log = logging.getLogger(__name__)


def wanted(run: Run) -> list[type[TensorBoard] | type[MLflow]]:
    """The trackers that a recipe asks for. MissingExtra without the package, InputError without its server."""
    found = [tracker for name, tracker in TRACKERS.items() if getattr(run, name)]
    for tracker in found:
        tracker.check()
    return found


def scalars(record: dict[str, Any]) -> dict[str, float]:
    """A record of metrics.jsonl as numbers: `step/lr`, `step/loss_...`, `epoch/AP`, `epoch/val_loss`."""
    kind, numbers = record.get("kind"), {}
    for name, value in record.items() if kind in ("step", "epoch") else ():
        if isinstance(value, dict):
            value = sum(value.values())
        if name not in ("kind", "step", "epoch") and isinstance(value, int | float):
            numbers[f"{kind}/{name}"] = value
    return numbers


class TensorBoard:
    """Event files in RUN/tensorboard. resumed_after: forget what was written after this step."""

    def __init__(self, folder: Path, config: Config, resumed_after: int | None) -> None:
        purge = None if resumed_after is None else resumed_after + 1
        self.writer = self.check()(str(folder / "tensorboard"), purge_step=purge)

    @staticmethod
    def check() -> type:
        try:
            from torch.utils.tensorboard import SummaryWriter
        except ImportError:
            raise MissingExtra(
                "--tensorboard: tensorboard is not installed; pip install 'frcnn-toolkit[tensorboard]'"
            ) from None
        return SummaryWriter

    def write(self, record: dict[str, Any]) -> None:
        for name, value in scalars(record).items():
            self.writer.add_scalar(name, value, record["step"])

    def close(self) -> None:
        self.writer.close()


class MLflow:
    """A run of MLflow's experiment "frcnn" where MLFLOW_TRACKING_URI says, else in mlflow.db here.

    Its id stands in run.json, so that a resumed run goes on there. A server that is lost costs records, not the run.
    """

    def __init__(self, folder: Path, config: Config, resumed_after: int | None) -> None:
        self.client = self.check()
        self.run_id = run_folder.read_run(folder).get("mlflow") if resumed_after is not None else None
        if self.run_id:
            self._try(self.client.update_run, self.run_id, "RUNNING")
            return
        experiment = self.client.get_experiment_by_name("frcnn")
        place = experiment.experiment_id if experiment else self.client.create_experiment("frcnn")
        self.run_id = self.client.create_run(place, run_name=folder.name).info.run_id
        run_folder.update_run(folder, mlflow=self.run_id)
        for name, value in flat(config).items():
            self._try(self.client.log_param, self.run_id, name, value)

    @staticmethod
    def check() -> Any:
        for name, value in (("MLFLOW_DISABLE_TELEMETRY", "true"), ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "1")):
            os.environ.setdefault(name, value)  # it would tell its makers of each run, and wait minutes for a server
        try:
            from mlflow import MlflowClient, get_tracking_uri
        except ImportError:
            raise MissingExtra("--mlflow: mlflow is not installed; pip install 'frcnn-toolkit[mlflow]'") from None
        try:
            client = MlflowClient()
            client.get_experiment_by_name("frcnn")
        except Exception as error:  # any of its libraries
            raise InputError(f"--mlflow: {get_tracking_uri()} cannot be used: {one_line(error)[:200]}") from None
        return client

    def write(self, record: dict[str, Any]) -> None:
        for name, value in scalars(record).items():
            self._try(self.client.log_metric, self.run_id, name, value, step=record["step"])

    def close(self) -> None:
        self._try(self.client.set_terminated, self.run_id, "KILLED" if sys.exc_info()[0] else "FINISHED")

    def _try(self, do: Any, *words: Any, **more: Any) -> None:
        if self.run_id is None:
            return
        try:
            do(*words, **more)
        except Exception as error:
            self.run_id = None
            log.warning(f"--mlflow: no more records: {one_line(error)[:200]}")


TRACKERS: dict[str, type[TensorBoard] | type[MLflow]] = {"tensorboard": TensorBoard, "mlflow": MLflow}
