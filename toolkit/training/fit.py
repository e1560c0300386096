"""`fit`: train a detector in a run folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from toolkit import checkpoint, runtime
from toolkit.config import Config
from toolkit.data.coco_index import Index
from toolkit.training import epoch_loop
from toolkit.training.detection_task import Detection
from toolkit.training.frozen_body import FrozenBody
from toolkit.training.progress import Progress


def fit(
    config: Config,
    folder: Path,
    train: Index,
    val: Index | None,
    evaluate: Callable[[list[dict]], dict[str, Any]] | None,
    *,
    resume: checkpoint.Checkpoint | None = None,
    processes: runtime.Processes | None = None,
    progress: Progress | None = None,
) -> epoch_loop.Trained:
    """Train a detector on `train` into `folder`; `evaluate(detections) -> metrics` compares with the labels of `val`.

    Without `val` there is no AP, and `best` holds the last weights. For what it writes and raises see `epoch_loop.run`.
    """
    processes = processes or runtime.Processes()
    progress = progress or Progress(quiet=True)

    def make() -> Detection:
        kind = FrozenBody if config.data.cached_views else Detection
        task = kind(config, train, val, evaluate, processes, resume)
        progress.line(task.about)
        return task

    return epoch_loop.run(make, config, folder, resume=resume, processes=processes, progress=progress)
