"""Overlap of boxes."""

from __future__ import annotations

import torch


def box_iou(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """IoU of every box of a [N,4] with every box of b [M,4] -> [N,M], float. XYXY, half-open: width = x2 - x1.

        IoU = inter / (area(a) + area(b) - inter)
        inter = max(0, overlap in x) * max(0, overlap in y)

    Two boxes without area (0/0): 0. N or M may be 0.

    By hand: [0,0,2,2] and [1,1,3,3] share one pixel of 4 + 4 - 1: 1/7.
    """
    width = torch.minimum(a[:, None, 2], b[:, 2]) - torch.maximum(a[:, None, 0], b[:, 0])
    height = torch.minimum(a[:, None, 3], b[:, 3]) - torch.maximum(a[:, None, 1], b[:, 1])
    inter = width.clamp(min=0) * height.clamp(min=0)
    area_a = (a[:, 2] - a[:, 0]) * (a[:, 3] - a[:, 1])
    area_b = (b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1])
    return (inter / (area_a[:, None] + area_b - inter)).nan_to_num(nan=0.0)
