"""NMS in chunks: the result of `anchors.nms.nms` at torchvision's speed.

    for each chunk of 256 boxes, best scores first:
        drop the boxes that a box kept so far suppresses
        within the chunk, from keep = all, repeat until nothing changes:
            keep[j] = no i < j with keep[i] and IoU(i, j) > thresh
    stop when max_keep boxes are kept

Why it is right: box j is correct after as many rounds as the longest chain of suppressors above it, so the rounds end;
and what they end in has only one solution, the greedy one. Usually a handful of rounds is enough.

Why it is fast: one matrix of IoUs for each chunk instead of one call for each kept box. And of 12,000 proposals only
the first 2,000 kept are wanted: nobody looks at the rest.
"""

from __future__ import annotations

import torch
from torch import Tensor

from anchors.boxes import pairwise_iou
from anchors.nms import checked_and_sorted, thresh_in

CHUNK = 256


def nms(boxes: Tensor, scores: Tensor, iou_thresh: float, max_keep: int | None = None) -> Tensor:
    """Indices [K] int64 of the kept boxes [N,4] XYXY, by falling score [N]; at most max_keep of them."""
    boxes, order = checked_and_sorted(boxes, scores, iou_thresh, max_keep)
    iou_thresh = thresh_in(boxes.dtype, iou_thresh)
    boxes = boxes[order]
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    wanted = len(boxes) if max_keep is None else max_keep
    kept = order.new_empty(0)
    for start in range(0, len(boxes), CHUNK):
        if len(kept) >= wanted:
            break
        chunk = torch.arange(start, min(start + CHUNK, len(boxes)), device=boxes.device)
        if len(kept):
            iou = pairwise_iou(boxes[kept], boxes[chunk], areas[kept], areas[chunk])
            chunk = chunk[~(iou > iou_thresh).any(dim=0)]
        kept = torch.cat((kept, chunk[_survivors(boxes[chunk], areas[chunk], iou_thresh)]))
    return order[kept[:wanted]]


def _survivors(boxes: Tensor, areas: Tensor, iou_thresh: float) -> Tensor:
    """Greedy NMS within a sorted chunk, as a mask: repeat the suppression until nothing changes."""
    suppresses = (pairwise_iou(boxes, boxes, areas, areas) > iou_thresh).float().triu_(diagonal=1)
    keep = boxes.new_ones(len(boxes), dtype=torch.float32)
    while True:
        again = (keep @ suppresses == 0).float()
        if torch.equal(again, keep):
            return keep.bool()
        keep = again
