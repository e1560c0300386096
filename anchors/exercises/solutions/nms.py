"""Non-maximum suppression."""

from __future__ import annotations

import torch


def nms(boxes: torch.Tensor, scores: torch.Tensor, iou_thresh: float) -> torch.Tensor:
    """Non-maximum suppression: the indices (int64) of the kept boxes [N,4] XYXY, by falling score [N].

        take the best box left; drop all others whose IoU with it is above iou_thresh; go on

    Equal scores: the lower index first. An IoU equal to the threshold stays. Boxes are half-open: no +1.

    By hand: [0,0,10,10] (0.9), [1,0,11,10] (0.8), [20,0,30,10] (0.7) at 0.5: [0, 2].
    """
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    order = scores.argsort(descending=True, stable=True)
    keep = []
    while len(order):
        best, rest = order[0], order[1:]
        keep.append(int(best))
        low = torch.maximum(boxes[best, :2], boxes[rest, :2])
        high = torch.minimum(boxes[best, 2:], boxes[rest, 2:])
        inter = (high - low).clamp(min=0).prod(dim=1)
        order = rest[inter / (area[best] + area[rest] - inter) <= iou_thresh]
    return torch.tensor(keep, dtype=torch.int64)
