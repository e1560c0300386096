"""Objects <-> the 2 x 3 cells of the grid detectors.

A cell [p, x, y, w, h, c]: an object has its centre here or not; the centre's place in the cell, 0..1; its width
and height as shares of the image; its class, 0 or 1. Two objects in one cell: the larger stays, the other is lost.
"""

from __future__ import annotations

import torch
from torch import Tensor

from toolkit.single_object.data.samples import Samples
from toolkit.single_object.network_outputs import coco_results, usable

ROWS, COLUMNS = 2, 3
FLOOR = 0.01


def assign(samples: Samples) -> tuple[Tensor, int]:
    """-> (targets [N,2,3,6], objects that lost their cell to a larger one)."""
    height, width = samples.size
    targets = torch.zeros(len(samples), ROWS, COLUMNS, 6)
    lost = 0
    boxes = samples.boxes / torch.tensor([width, height, width, height])
    centres, sides = (boxes[:, :2] + boxes[:, 2:]) / 2, boxes[:, 2:] - boxes[:, :2]
    # the document's int(x * 3) is a fourth column for a centre at x = 1
    columns = (centres[:, 0] * COLUMNS).long().clamp(max=COLUMNS - 1)
    rows = (centres[:, 1] * ROWS).long().clamp(max=ROWS - 1)
    for i in sides.prod(1).argsort().tolist():  # smallest first: the larger overwrites
        cell = targets[samples.owner[i], rows[i], columns[i]]
        lost += int(cell[0])
        local = centres[i] * torch.tensor([COLUMNS, ROWS]) - torch.stack((columns[i], rows[i]))
        cell[:] = torch.cat((torch.ones(1), local, sides[i], samples.labels[i : i + 1].float()))
    return targets, lost


def boxes_of(cells: Tensor, size: tuple[int, int]) -> Tensor:
    """Cells [N,2,3,>=5] (outputs or targets) -> boxes [N,2,3,4] XYXY in pixels of (height, width)."""
    height, width = size
    column = torch.arange(COLUMNS, device=cells.device).view(1, 1, COLUMNS)
    row = torch.arange(ROWS, device=cells.device).view(1, ROWS, 1)
    x, y = (column + cells[..., 1]) / COLUMNS, (row + cells[..., 2]) / ROWS
    w, h = cells[..., 3], cells[..., 4]
    shares = torch.stack((x - w / 2, y - h / 2, x + w / 2, y + h / 2), -1)
    return shares * shares.new_tensor([width, height, width, height])


def detections(outputs: Tensor, size: tuple[int, int]) -> list[dict]:
    """COCO results of outputs [N,2,3,7]: every cell whose score (presence times class) reaches FLOOR."""
    boxes = usable(boxes_of(outputs, size).reshape(-1, 4), size)
    one = outputs[..., 5].sigmoid().flatten()
    labels = (one > 0.5).long()
    scores = outputs[..., 0].sigmoid().flatten() * torch.where(labels == 1, one, 1 - one)
    return coco_results(
        (place // (ROWS * COLUMNS), int(labels[place]), float(scores[place]), boxes[place].tolist())
        for place in (scores >= FLOOR).nonzero().squeeze(1).tolist()
    )
