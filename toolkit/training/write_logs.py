"""Write the logs of a run while it trains: metrics.jsonl, results.csv, curves.png, progress, trackers."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from label_tools.files.atomic_write import atomic_write
from label_tools.pictures.palette import PAGE_COLOURS
from label_tools.text.errors import InputError
from toolkit.config import Config
from toolkit.training import run_folder
from toolkit.training.progress import Progress, duration
from toolkit.training.run_state import State
from toolkit.training.trackers import wanted

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
        self.trackers = [tracker(self.folder, self.config, after) for tracker in wanted(self.config.run)]
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
