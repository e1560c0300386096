"""Evaluate a baseline on samples: its answers, the right numbers, and under `document_*` those that its document
computes.

Right are accuracy, IoU over objects, confusion, and COCO's AP from the toolkit's evaluator. Document 004 adds 1 to
widths in its IoU, right for pixel indices, but its coordinates run from 0 to 1: boxes that do not touch score .02 and
more, two unrelated ones .54 on average instead of .15. It also hands (cx, cy, w, h) to a function of corners, sums
over the found objects but divides by all images, and in the grid averages over all six cells, of which five are empty
on both sides: finding nothing scores about .8.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.ops import box_iou

from toolkit.evaluation.compute_metrics import coco_metrics
from toolkit.single_object import grid_cells, network_outputs
from toolkit.single_object.baselines import Baseline
from toolkit.single_object.data.samples import Samples
from toolkit.single_object.losses import inter_union
from toolkit.single_object.network_outputs import Answer, Prediction, inverted, predict, read, usable

_AP = ("AP", "AP50", "AP75")


def as_input(images: Tensor, device: torch.device, raw: bool) -> Tensor:
    """uint8 -> float on `device`: 0..255 as they are when `raw`, else 0..1."""
    floats = images.to(device, non_blocking=True).float()
    return floats if raw else floats.div_(255)


@torch.inference_mode()
def outputs(network: nn.Module, baseline: Baseline, images: Tensor, device: torch.device, batch: int) -> Any:
    """What the network gives for all images in evaluation mode, as for one batch, on the CPU."""
    was_training = network.training
    network.eval()
    try:
        found = [network(as_input(part, device, baseline.raw)) for part in images.split(batch)]
    finally:
        network.train(was_training)
    if isinstance(found[0], tuple):
        return tuple(None if parts[0] is None else _whole(parts) for parts in zip(*found, strict=True))
    return _whole(found)


def _whole(parts: Sequence[Tensor]) -> Tensor:
    return torch.cat([part.float().cpu() for part in parts])


def evaluate(
    network: nn.Module, baseline: Baseline, samples: Samples, device: torch.device, batch: int = 64
) -> tuple[dict[str, Any], Prediction | Tensor]:
    """-> (metrics with `document_*` beside them, the predictions; for a grid its outputs [N,2,3,7])."""
    found = outputs(network, baseline, samples.images, device, batch)
    if baseline.grid:
        return known(grid_numbers(samples, found)), found
    answer = read(found, baseline.form)
    prediction = predict(answer, baseline.code, samples.size)
    numbers = single_metrics(samples, prediction)
    return known({**numbers, **document_numbers(baseline, samples, answer, prediction)}), prediction


def known(numbers: dict[str, Any]) -> dict[str, Any]:
    """None where a number is infinite or none at all: what a network that ran away answers."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in numbers.items()}


def grid_numbers(samples: Samples, cells: Tensor) -> dict[str, Any]:
    targets, _ = grid_cells.assign(samples)
    return {**grid_metrics(samples, cells), **document_detection(cells, targets)}


def document_numbers(baseline: Baseline, samples: Samples, answer: Answer, prediction: Prediction) -> dict[str, float]:
    """The numbers that the baseline's own document computes, its way."""
    truth = samples.one()
    if baseline.data == "digits":
        assert answer.presence is not None  # these networks answer it
        rows = torch.cat((answer.presence[:, None], answer.values, answer.logits), 1)
        coded = network_outputs.encode(truth.boxes, "centre", samples.size)
        labels = torch.cat((truth.present[:, None].float(), coded, truth.labels[:, None].float()), 1)
        return document_localisation(rows, labels)
    if baseline.code == "inclusive":
        error = answer.values - network_outputs.encode(truth.boxes, "inclusive", samples.size)
        return {"document_mse": float(error.square().mean())}  # document 000: its only number for boxes
    if baseline.data == "dominant":
        return document_mean_iou(prediction.raw_boxes, truth.boxes)
    return {}


def finds_nothing(samples: Samples, is_grid: bool) -> dict[str, Any]:
    """Numbers of an answer that never finds anything: what a metric gives away for free."""
    if is_grid:
        cells = torch.zeros(len(samples), grid_cells.ROWS, grid_cells.COLUMNS, 7)
        cells[..., 0] = -20.0
        return grid_numbers(samples, cells)
    nothing = torch.zeros(len(samples), 4)
    zeros = torch.zeros(len(samples), dtype=torch.int64)
    prediction = Prediction(torch.zeros(len(samples)), zeros, torch.ones(len(samples)), nothing, nothing)
    return single_metrics(samples, prediction)


def always_the_same(samples: Samples, train: Samples) -> dict[str, Any]:
    """Numbers of the answer that needs no picture: the commonest class and the mean box of the training set."""
    common = int(torch.bincount(train.labels).argmax())
    box = train.boxes.mean(0).expand(len(samples), 4)
    share = float((train.labels == common).float().mean())
    prediction = Prediction(
        torch.ones(len(samples)), torch.full((len(samples),), common), torch.full((len(samples),), share), box, box
    )
    return single_metrics(samples, prediction)


def paired_iou(a: Tensor, b: Tensor) -> Tensor:
    """IoU of each a [N,4] with its own b [N,4] -> [N]; no area on both sides: 0. XYXY, never inverted."""
    inter, union = inter_union(a, b)
    return torch.where(union > 0, inter / union.clamp(min=1e-12), 0.0)


def single_metrics(samples: Samples, prediction: Prediction) -> dict[str, Any]:
    """Numbers of one answer an image, in 0..1 unless named otherwise; None where nothing is defined.

    accuracy: images answered rightly (class right where there is an object, "none" where there is none).
    class_accuracy, mean_iou, iou50: over the objects; an object that was not found has IoU 0.
    confusion: rows true, columns answered, "none" last where the data has images without an object.
    """
    truth = samples.one()
    found, present = prediction.found, truth.present
    right = torch.where(present, found & (prediction.labels == truth.labels), ~found)
    iou = paired_iou(prediction.boxes, truth.boxes) * found
    names = [*samples.classes] + ([] if present.all() and found.all() else ["none"])
    none = len(samples.classes)
    actual = torch.where(present, truth.labels, none)
    answered = torch.where(found, prediction.labels, none)
    confusion = torch.bincount(actual * (none + 1) + answered, minlength=(none + 1) ** 2).view(none + 1, none + 1)
    per_class = {}
    for k, name in enumerate(samples.classes):
        mine = present & (truth.labels == k)
        per_class[name] = {"accuracy": _mean(right[mine]), "mean_iou": _mean(iou[mine]), "num_objects": int(mine.sum())}
    error = (prediction.raw_boxes - truth.boxes)[present]
    return {
        "num_images": len(samples),
        "num_objects": int(present.sum()),
        "accuracy": _mean(right),
        "class_accuracy": _mean((prediction.labels == truth.labels)[present]),
        "mean_iou": _mean(iou[present]),
        "iou50": _mean(iou[present] >= 0.5),
        "iou75": _mean(iou[present] >= 0.75),
        "box_l1_px": _mean(error.abs()),
        "box_mse_px": _mean(error.square()),
        "inverted_boxes": int(inverted(prediction.raw_boxes).sum()),
        "per_class": per_class,
        "confusion": {"classes": names, "counts": confusion[: len(names), : len(names)].tolist()},
        **average_precision(samples, prediction.detections()),
    }


def grid_metrics(samples: Samples, outputs: Tensor) -> dict[str, Any]:
    """Numbers of outputs [N,2,3,7] of a grid detector.

    accuracy: cells answered rightly, as the document counts but with the output that was trained. object_accuracy:
    of the cells with an object alone. mean_iou: over the objects that have a cell, 0 where the cell says none.
    """
    targets, lost = grid_cells.assign(samples)
    present, found = targets[..., 0] > 0.5, outputs[..., 0] > 0
    right = torch.where(present, found & ((outputs[..., 5] > 0) == (targets[..., 5] > 0.5)), ~found)
    truth = grid_cells.boxes_of(targets, samples.size)[present]
    boxes = usable(grid_cells.boxes_of(outputs, samples.size)[present], samples.size)
    iou = paired_iou(boxes, truth) * found[present]
    return {
        "num_images": len(samples),
        "num_objects": len(samples.labels),
        "objects_without_cell": lost,
        "accuracy": _mean(right),
        "object_accuracy": _mean(right[present]),
        "mean_iou": _mean(iou),
        "iou50": _mean(iou >= 0.5),
        **average_precision(samples, grid_cells.detections(outputs, samples.size)),
    }


def average_precision(samples: Samples, detections: list[dict]) -> dict[str, float | None]:
    """AP, AP50, AP75 over all classes, from the toolkit's own evaluator."""
    found = coco_metrics(samples.coco(), detections)
    return {key: found[key] for key in _AP}


def score(metrics: dict[str, Any]) -> float:
    """What `best` and early stopping go by: the mean of accuracy and mean IoU (document 004 ranks by it too)."""
    return ((metrics["accuracy"] or 0.0) + (metrics["mean_iou"] or 0.0)) / 2


def _mean(values: Tensor) -> float | None:
    mean = float(values.float().mean()) if values.numel() else math.nan
    return mean if math.isfinite(mean) else None


def iou_plus_one(a: Tensor, b: Tensor) -> Tensor:
    """The documents' calculate_iou, [N,4] and [N,4] -> [N]: corners with "+1", whatever the unit."""
    sides = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2]) + 1).clamp(min=0)
    inter = sides.prod(1)
    areas = (a[:, 2:] - a[:, :2] + 1).prod(1), (b[:, 2:] - b[:, :2] + 1).prod(1)
    return inter / (areas[0] + areas[1] - inter)


def document_localisation(outputs: Tensor, truth: Tensor) -> dict[str, float]:
    """outputs [N,15], truth [N,6] (presence, cx, cy, w, h, class) -> 004's accuracy and IoU of the first part."""
    present, found = truth[:, 0] == 1, outputs[:, 0].sigmoid() > 0.5
    right = torch.where(present, found & (outputs[:, 5:].argmax(1) == truth[:, 5]), ~found)
    iou = iou_plus_one(truth[:, 1:5], outputs[:, 1:5])[present & found]  # cx, cy, w, h taken for corners
    return {"document_accuracy": float(right.float().mean()), "document_iou": float(iou.sum() / len(truth))}


def document_detection(outputs: Tensor, targets: Tensor) -> dict[str, float]:
    """outputs [N,2,3,7], targets [N,2,3,6] -> 004's accuracy and IoU of the second part, over all cells.

    The class is right when output 5 >= output 6 for digit 1; output 6 was in no loss.
    """
    pred, true = outputs.reshape(-1, outputs.shape[-1]), targets.reshape(-1, targets.shape[-1])
    found, present = pred[:, 0].sigmoid() >= 0.5, true[:, 0] == 1
    same = (pred[:, 5] >= pred[:, 6]) == (true[:, 5] == 1)
    right = torch.where(present, found & same, ~found)
    # the centre within the cell is taken for the top left corner of the image
    boxes = [torch.cat((v[:, 1:3], v[:, 1:3] + v[:, 3:5]), 1) for v in (pred, true)]
    return {"document_accuracy": float(right.float().mean()), "document_iou": float(iou_plus_one(*boxes).mean())}


def document_mean_iou(boxes: Tensor, truth: Tensor) -> dict[str, float]:
    """Document 001: torchvision's box_iou on raw boxes, averaged over batches of 16 (a short one counts as much)."""
    means = [box_iou(a, b).diagonal().mean() for a, b in zip(boxes.split(16), truth.split(16))]
    return {"document_iou": float(torch.stack(means).mean())}
