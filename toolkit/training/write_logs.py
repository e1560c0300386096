"""What a run writes and shows while it goes on: metrics.jsonl, results.csv, curves.png, progress, trackers."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from label_tools.text.errors import InputError
from toolkit.config import Config
from toolkit.training import run_folder
from toolkit.training.checkpoints import State
from toolkit.training.curves import draw_curves
from toolkit.training.progress import Progress, duration
from toolkit.training.trackers import wanted

SHARE_OF_DRAWING = 0.02  # of the time between two drawings; it takes a second, an epoch of ten images not much more


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
        losses = state.recent_means()
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
