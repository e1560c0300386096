"""Train on drawn scenes from random weights, and measure recall and precision.

    recall = found / objects                precision = found / detections

    a detection (score >= score_thresh) finds an object of its class if their IoU is at least 0.5
    and no better detection has found it before

Limits: no detection: recall 0, and precision 0 rather than 0/0. In other words: recall = TP / (TP + FN), precision =
TP / (TP + FP). A model can have one of them at 1 and be useless.

Place: the loop is plain Faster R-CNN 3.2, with Adam, a short warm-up and one drop of the learning rate. `frcnn train`
has a loop for real data; this one is for an experiment of a minute and for the walkthrough.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from anchors.arguments import check_count, check_number
from anchors.boxes import box_iou

Scene = tuple[Tensor, dict[str, Tensor]]
WARM_UP = 50


def train_on_scenes(
    model: nn.Module,
    scenes: Sequence[Scene],
    *,
    steps: int,
    batch_size: int = 4,
    lr: float = 1e-3,
    seed: int = 0,
    after_step: Callable[[int, dict[str, float]], None] | None = None,
) -> list[dict[str, float]]:
    """Train in place; the losses of every step. `after_step(step, losses)` may draw or print."""
    check_count(steps, "steps")
    check_count(batch_size, "batch_size", low=1)
    check_count(len(scenes), "the number of scenes", low=1)
    torch.manual_seed(seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    history = []
    for step in range(steps):
        rate = lr * min(1, (step + 1) / WARM_UP) * (0.1 if step >= 0.8 * steps else 1)
        for group in optimizer.param_groups:
            group["lr"] = rate
        model.train()
        batch = [scenes[i] for i in torch.randint(len(scenes), (batch_size,)).tolist()]
        losses = model([image for image, _ in batch], [target for _, target in batch])
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        history.append({name: float(value.detach()) for name, value in losses.items()})
        if after_step is not None:
            after_step(step, history[-1])
    return history


@torch.no_grad()
def recall_and_precision(
    model: nn.Module, scenes: Sequence[Scene], *, score_thresh: float = 0.5, iou_thresh: float = 0.5
) -> tuple[float, float]:
    """(recall, precision) of the model's detections on scenes; the class must be right too."""
    check_number(score_thresh, "score_thresh", 0, 1)
    check_number(iou_thresh, "iou_thresh", 0, 1)
    model.eval()
    num_found = num_detections = num_objects = 0
    for image, target in scenes:
        detections = model([image])[0]
        sure = detections["scores"] >= score_thresh
        iou = box_iou(detections["boxes"][sure], target["boxes"])
        iou[detections["labels"][sure][:, None] != target["labels"]] = 0
        num_detections += len(iou)
        num_objects += len(target["boxes"])
        for row in range(len(iou)):  # best score first, as the model gives them
            if iou.shape[1] and iou[row].max() >= iou_thresh:
                num_found += 1
                iou[:, iou[row].argmax()] = 0  # found: no second detection can find it
    return num_found / max(num_objects, 1), num_found / max(num_detections, 1)
