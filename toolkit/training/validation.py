"""What weights are worth after an epoch: validation loss and AP, over all processes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from toolkit import runtime
from toolkit.data.dataset import Index, coco_results
from toolkit.stopping import StopSignal
from toolkit.training import engine
from toolkit.training.build import Parts
from toolkit.training.progress import Progress


def judge(
    parts: Parts,
    train: Index,
    val: Index,
    evaluate: Callable[[list[dict]], dict[str, Any]],
    stop: StopSignal,
    progress: Progress,
) -> tuple[dict[str, Any], int]:
    """-> ({"val_loss", "AP", "AP50", "AP75"} of `parts.judged`, 0), the same in every process; or ({}, the signal that
    one of them got meanwhile). `val_loss` is empty when it is not finite."""
    model, processes = parts.judged, parts.processes
    runtime.agree_buffers(model, processes)
    stopped = lambda: bool(stop)  # noqa: E731
    losses = engine.validation_loss(model, parts.val_batches, parts.device, parts.dtype, stopped)
    results = []
    if not stop:
        for image_id, output in engine.predict(model, parts.val_batches, parts.device, parts.dtype, stopped):
            results += coco_results(image_id, output, train.category_ids)
    count = len(range(processes.rank, len(val), processes.world_size))
    found = runtime.gather_objects((losses, count, results, stop.requested), processes)
    if signum := next((signal for *_, signal in found if signal), 0):
        return {}, signum
    metrics: dict[str, Any] = {}
    if processes.first:
        everything = evaluate([entry for _, _, mine, _ in found for entry in mine])
        metrics = {name: everything[name] for name in ("AP", "AP50", "AP75")}
        total = sum(n for _, n, _, _ in found)
        mean = {name: sum(theirs.get(name, 0.0) * n for theirs, n, _, _ in found) / total for name in losses}
        if not math.isfinite(sum(mean.values())):
            progress.line(f"warning: the validation loss is not finite: {mean}")
            mean = {}
        metrics["val_loss"] = mean
    return runtime.gather_objects(metrics, processes)[0], 0
