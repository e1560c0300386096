"""Write the logs of a run while it trains: metrics.jsonl, results.csv, curves.png, lines on the terminal; where asked
for, TensorBoard and MLflow (extras)."""

from __future__ import annotations

import logging
import math
import os
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from label_tools.files.atomic_write import atomic_write
from label_tools.pictures.palette import PAGE_COLOURS
from label_tools.text.errors import InputError, MissingExtra, one_line
from toolkit.config import Config, Run, flat
from toolkit.training import run_folder
from toolkit.training.progress import Progress, duration
from toolkit.training.save_and_resume import State

log = logging.getLogger(__name__)
SHARE_OF_DRAWING = 0.02  # of the time between two drawings; it takes a second, an epoch of ten images not much more
MOST_POINTS = 2000  # of a curve; a pixel shows no more
COLUMNS = 3
COLOURS = PAGE_COLOURS[:6]
LINES = (("train_loss", "-", COLOURS[0], "training"), ("val_loss", "o--", COLOURS[1], "validation"))
METRICS = ("AP", "AP50", "AP75", "segm_AP", "accuracy", "mean_iou")  # the numbers of an epoch that are drawn


@dataclass
class Journal:
    """Log of the run in `folder`, from `state` on. `resumed`: drop records written after its checkpoint."""

    folder: Path
    progress: Progress
    state: State
    resumed: bool
    config: Config
    steps: int  # of the whole run
    log_every: int  # steps between two records of the losses

    def __post_init__(self) -> None:
        self.first_step = self.state.step
        self.log = run_folder.MetricsLog(self.folder, self.state.log_bytes if self.resumed else None)
        after = self.first_step if self.resumed else None
        self.trackers = [tracker(self.folder, self.config, after) for tracker in wanted_trackers(self.config.run)]
        self.started, self.next_drawing, self.stale = time.monotonic(), 0.0, False

    def record(self, **record: Any) -> None:
        self.log.write(**record)
        for tracker in self.trackers:
            tracker.write(record)

    def step(self, lr: float, speed: float) -> None:
        """After an optimiser step: the progress line, and a record of the mean losses where one is due."""
        state = self.state
        losses = {name: value / state.recent_counted for name, value in state.recent.items()}
        spent = time.monotonic() - self.started
        left = spent / max(1, state.step - self.first_step) * (self.steps - state.step)
        parts = "  ".join(f"{name.removeprefix('loss_')} {value:.3f}" for name, value in losses.items())
        self.progress.step(
            f"epoch {state.epoch + 1}/{self.config.schedule.epochs}  step {state.step}/{self.steps}  {parts}  "
            f"lr {lr:.2g}  {speed:.1f} images/s  {duration(left)} left",
            state.step,
            self.steps,
        )
        if state.step % self.log_every == 0:
            self.record(
                kind="step",
                step=state.step,
                epoch=state.epoch,
                lr=lr,
                loss=sum(losses.values()),
                images_per_s=round(speed, 2),
                **losses,
            )
            state.recent, state.recent_counted = {}, 0

    def draw(self) -> None:
        """Rewrite results.csv after an epoch, and curves.png at intervals."""
        self.stale = True
        self._write(draw=time.monotonic() >= self.next_drawing)

    def close(self) -> None:
        self.log.close()
        if self.stale:
            self._write(draw=True)
        for tracker in self.trackers:
            tracker.close()

    def _write(self, draw: bool) -> None:
        """Write; a full disk does not end the run."""
        try:
            run_folder.write_results(self.folder)
            if draw:
                started = time.monotonic()
                draw_curves(run_folder.each_metric(self.folder), self.folder / "curves.png")
                now, self.stale = time.monotonic(), False
                self.next_drawing = now + (now - started) / SHARE_OF_DRAWING
        except InputError as error:
            self.progress.line(f"warning: {error}")


def epoch_line(
    done: float,
    epochs: int,
    train_loss: Mapping[str, float],
    metrics: Mapping[str, Any] | None,
    shown: Sequence[str],
    is_best: bool,
    seconds: float,
) -> str:
    """The line after an epoch: losses, the numbers `shown` of its evaluation, whether it is the best, the time so far.

    done: epochs trained, with a fraction where --max-time ended one.
    """
    part = "" if done == int(done) else f" ({done % 1:.0%} of it)"
    text = f"epoch {math.ceil(done)}/{epochs}{part}  train loss {sum(train_loss.values()):.3f}"
    if metrics is not None:
        losses = metrics["val_loss"]
        text += f"  val loss {sum(losses.values()):.3f}" if losses else "  val loss n/a"
        for name in shown:
            text += f"  {name} " + ("n/a" if metrics[name] is None else f"{metrics[name]:.3f}")
        text += "  best so far" if is_best else ""
    return f"{text}  {duration(seconds)}"


def draw_curves(records: Iterable[dict[str, Any]], path: Path) -> None:
    """Draw the records of metrics.jsonl; with fewer than one epoch there is nothing to draw."""
    epochs: list[dict] = []
    steps: list[np.ndarray] = []  # step, learning rate, losses; arrays, for a long run has a hundred thousand
    names: list[str] = []
    for record in records:
        if record.get("kind") == "epoch":
            epochs.append(record)
        elif record.get("kind") == "step":
            names = names or [k for k in record if k not in ("kind", "step", "epoch", "lr", "loss", "images_per_s")]
            steps.append(np.array([record.get(name, np.nan) for name in ("step", "lr", *names)]))
    if not epochs:
        return
    table = np.stack(steps)[:: 1 + len(steps) // MOST_POINTS] if steps else np.empty((0, 2 + len(names)))
    from matplotlib.figure import Figure

    rows = -(-(len(names) + 2) // COLUMNS)
    figure = Figure(figsize=(3.7 * COLUMNS, 3.1 * rows), layout="constrained")
    panels = list(figure.subplots(rows, COLUMNS, squeeze=False).flat)
    for panel, name, values in zip(panels, names, table.T[2:], strict=False):
        panel.plot(table[:, 0], values, color=COLOURS[0], alpha=0.3, linewidth=0.8)
        for key, style, colour, label in LINES:
            points = [(r["step"], r[key][name]) for r in epochs if name in (r.get(key) or {})]
            if points:
                panel.plot(*zip(*points, strict=True), style, color=colour, markersize=3, label=label)
        _name(panel, name.removeprefix("loss_").replace("_", " ") + " loss", "step")
        panel.set_ylim(bottom=0)
        panel.legend(frameon=False, fontsize=8)
    numbers, rate = panels[len(names) : len(names) + 2]
    measured = [r for r in epochs if any(name in r for name in METRICS)]
    for name, colour in zip(METRICS, COLOURS, strict=True):
        if values := [np.nan if r.get(name) is None else r[name] for r in measured if name in r]:
            numbers.plot([r["epoch"] for r in measured], values, "o-", markersize=3, color=colour, label=name)
    if measured:
        numbers.legend(frameon=False, fontsize=8)
    _name(numbers, "validation", "epoch")
    numbers.set_ylim(0, 1.02)
    rate.plot(table[:, 0], table[:, 1], color="#555555")
    _name(rate, "learning rate", "step")
    for panel in panels[len(names) + 2 :]:
        panel.set_visible(False)
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=110)


def _name(panel: Any, title: str, below: str) -> None:
    panel.set_title(title, fontsize=10)
    panel.set_xlabel(below)
    panel.xaxis.get_major_locator().set_params(integer=True)
    panel.spines[["top", "right"]].set_visible(False)


def wanted_trackers(run: Run) -> list[type[TensorBoard] | type[MLflow]]:
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
