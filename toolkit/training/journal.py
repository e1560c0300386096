"""What a run says while it goes on: metrics.jsonl, TensorBoard, results.csv, curves.png and the progress line."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from label_tools.text.errors import InputError
from toolkit.training import run_folder
from toolkit.training.checkpoints import State
from toolkit.training.curves import draw_curves
from toolkit.training.progress import Progress, duration

SECONDS_BETWEEN_CURVES = 10.0  # drawing takes half a second, an epoch of a compact network not much more


class Journal:
    """Of a run in `folder` that goes on from `state`; `resumed` forgets what came after its checkpoint."""

    def __init__(self, folder: Path, progress: Progress, state: State, resumed: bool, tensorboard: bool) -> None:
        self.folder, self.progress, self.first_step = folder, progress, state.step
        self.log = run_folder.MetricsLog(folder, state.log_bytes if resumed else None)
        self.events = None
        if tensorboard:
            from toolkit.training.tensorboard import Events

            self.events = Events(folder, state.step + 1 if resumed else None)
        self.started, self.drawn, self.stale = time.monotonic(), 0.0, False

    def record(self, **record: Any) -> None:
        self.log.write(**record)
        if self.events:
            self.events.write(**record)

    def step(
        self, state: State, group: list[dict[str, float]], lr: float, images: int, seconds: float, of: str
    ) -> None:
        """An optimiser step from the losses of its batches; `of`: "EPOCHS STEPS" of the whole run."""
        used = [losses for losses in group if losses]
        names = used[0] if used else {}
        losses = {name: sum(part[name] for part in used) / len(used) for name in names}
        speed = images / max(1e-9, seconds)
        self.record(
            kind="step",
            step=state.step,
            epoch=state.epoch,
            lr=lr,
            loss=sum(losses.values()),
            images_per_s=round(speed, 2),
            **losses,
        )
        epochs, steps = of.split()
        spent = time.monotonic() - self.started
        left = spent / max(1, state.step - self.first_step) * (int(steps) - state.step)
        parts = "  ".join(f"{name.removeprefix('loss_')} {value:.3f}" for name, value in losses.items())
        self.progress.step(
            f"epoch {state.epoch + 1}/{epochs}  step {state.step}/{steps}  {parts}  "
            f"lr {lr:.2g}  {speed:.1f} images/s  {duration(left)} left"
        )

    def epoch(self) -> None:
        """After the record of an epoch: the table, and now and then the curves."""
        self.stale = True
        self._write(draw=time.monotonic() - self.drawn > SECONDS_BETWEEN_CURVES)

    def close(self) -> None:
        self.log.close()
        if self.stale:
            self._write(draw=True)
        if self.events:
            self.events.close()

    def _write(self, draw: bool) -> None:
        """A disk that refuses them does not end the run."""
        try:
            run_folder.write_results(self.folder)
            if draw:
                draw_curves(run_folder.each_metric(self.folder), self.folder / "curves.png")
                self.drawn, self.stale = time.monotonic(), False
        except InputError as error:
            self.progress.line(f"warning: {error}")
