"""The metrics as the documents computed them, bugs included. Each stands beside the right one under `document_*`.

Document 004 adds 1 to widths in its IoU, right for pixel indices, but its coordinates run from 0 to 1: boxes that
do not touch score .02 and more, two unrelated ones .54 on average instead of .15. It also hands
(cx, cy, w, h) to a function of corners, sums over the found objects but divides by all images, and in the grid
averages over all six cells, of which five are empty on both sides: finding nothing scores about .8.
"""

from __future__ import annotations

import torch
from torch import Tensor


def iou_plus_one(a: Tensor, b: Tensor) -> Tensor:
    """The documents' calculate_iou, [N,4] and [N,4] -> [N]: corners with "+1", whatever the unit."""
    sides = (torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2]) + 1).clamp(min=0)
    inter = sides.prod(1)
    areas = (a[:, 2:] - a[:, :2] + 1).prod(1), (b[:, 2:] - b[:, :2] + 1).prod(1)
    return inter / (areas[0] + areas[1] - inter)


def localisation(outputs: Tensor, truth: Tensor) -> dict[str, float]:
    """outputs [N,15], truth [N,6] (presence, cx, cy, w, h, class) -> 004's accuracy and IoU of the first part."""
    present, found = truth[:, 0] == 1, outputs[:, 0].sigmoid() > 0.5
    right = torch.where(present, found & (outputs[:, 5:].argmax(1) == truth[:, 5]), ~found)
    iou = iou_plus_one(truth[:, 1:5], outputs[:, 1:5])[present & found]  # cx, cy, w, h taken for corners
    return {"document_accuracy": float(right.float().mean()), "document_iou": float(iou.sum() / len(truth))}


def detection(outputs: Tensor, targets: Tensor) -> dict[str, float]:
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


def mean_iou(boxes: Tensor, truth: Tensor, batch_size: int = 16) -> dict[str, float]:
    """Document 001: torchvision's box_iou on raw boxes, averaged over batches (a short last one counts as much)."""
    from torchvision.ops import box_iou

    means = [box_iou(a, b).diagonal().mean() for a, b in zip(boxes.split(batch_size), truth.split(batch_size))]
    return {"document_iou": float(torch.stack(means).mean())}


def mse(values: Tensor, truth: Tensor) -> dict[str, float]:
    """Document 000: mean square error of the inclusive pixel coordinates, its only number for boxes."""
    return {"document_mse": float((values - truth).square().mean())}
