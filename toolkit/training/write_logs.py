"""Write the logs of a run while it trains: metrics.jsonl, results.csv, curves.png, and the lines on the terminal."""

from __future__ import annotations

import contextlib
import csv
import errno
import io
import json
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from label_tools.files.atomic_write import atomic_write
from label_tools.pictures.palette import PAGE_COLOURS
from label_tools.text.errors import InputError
from toolkit.config import Config
from toolkit.training import run_folder, trackers
from toolkit.training.progress import Progress, duration
from toolkit.training.save_and_resume import State

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
        self.log = MetricsLog(self.folder, self.state.log_bytes if self.resumed else None)
        after = self.first_step if self.resumed else None
        self.trackers = [tracker(self.folder, self.config, after) for tracker in trackers.wanted(self.config.run)]
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
        if state.step % self.log_every == 0 and losses:  # none where all batches since the last record were left out
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
            write_results(self.folder)
            if draw:
                started = time.monotonic()
                draw_curves(each_metric(self.folder), self.folder / "curves.png")
                now, self.stale = time.monotonic(), False
                self.next_drawing = now + (now - started) / SHARE_OF_DRAWING
        except InputError as error:
            self.progress.line(f"warning: {error}")


class MetricsLog:
    """metrics.jsonl, one object a line. A full disk loses no line: what could not be written waits for `sync`."""

    def __init__(self, folder: Path, keep_bytes: int | None = None) -> None:
        self.path = folder / run_folder.METRICS
        if keep_bytes is not None and self.path.exists():  # resume: forget what came after the checkpoint
            with open(self.path, "r+b") as file:
                file.truncate(min(keep_bytes, self.path.stat().st_size))
        self.file = open(self.path, "ab", buffering=0)  # noqa: SIM115
        self.size = self.path.stat().st_size
        self.waiting = b""

    def write(self, **record: Any) -> None:
        self.waiting += json.dumps(record, sort_keys=True).encode() + b"\n"
        with contextlib.suppress(OSError):
            self._flush()

    def _flush(self) -> None:
        while self.waiting:
            try:
                written = self.file.write(self.waiting)
            except OSError:
                with contextlib.suppress(OSError):
                    self.file.truncate(self.size)  # no half line
                raise
            full = written < len(self.waiting)  # the disk is, in the middle of a line: the rest says so
            if full:
                written = self.waiting.rfind(b"\n", 0, written) + 1
                self.file.truncate(self.size + written)
            self.waiting, self.size = self.waiting[written:], self.size + written
            if full:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def sync(self) -> int:
        """Flush to disk, or raise OSError; -> bytes written so far."""
        self._flush()
        os.fsync(self.file.fileno())
        return self.size

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._flush()
        self.file.close()


def each_metric(folder: Path, kind: str = "") -> Iterator[dict[str, Any]]:
    """Records of metrics.jsonl, those of one `kind` or all, one after the other: a long run has a hundred thousand. A
    last line that a kill cut off is left out."""
    path = folder / run_folder.METRICS
    if not path.exists():
        return
    wanted = f'"kind": "{kind}"'.encode() if kind else b""
    with open(path, "rb") as lines:
        for line in lines:
            if wanted in line:
                with contextlib.suppress(ValueError, RecursionError):
                    yield json.loads(line)


def write_results(folder: Path) -> None:
    """results.csv: one row an epoch; the losses with their sums, then every number of the evaluation."""
    rows = []
    for record in each_metric(folder, "epoch"):
        row = {"epoch": record["epoch"], "step": record["step"]}
        for part in ("train_loss", "val_loss"):
            losses = record.get(part) or {}
            row[part] = sum(losses.values()) if losses else ""
            row.update({f"{part.split('_')[0]}_{name}": value for name, value in losses.items()})
        first = {name: record.get(name) for name in ("AP", "AP50", "AP75", "lr", "seconds")}
        others = {k: v for k, v in record.items() if k not in ("kind", "train_loss", "val_loss") and k not in first}
        row.update({k: "" if v is None else v for k, v in {**first, **others}.items()})
        rows.append(row)
    names = list(dict.fromkeys(name for row in rows for name in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    with atomic_write(folder / run_folder.RESULTS) as file:
        file.write(text.getvalue().encode())


def numbers(metrics: dict[str, Any]) -> dict[str, float | None]:
    """The scalar metrics: one row of a log or table."""
    return {name: value for name, value in metrics.items() if value is None or isinstance(value, int | float)}


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
