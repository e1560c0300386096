"""Exercise 1: Overlap of boxes.

Check it: frcnn anchors check 01_iou.py
"""

from __future__ import annotations

import torch


def box_iou(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
    """IoU of every box of a [N,4] with every box of b [M,4] -> [N,M], float. XYXY, half-open: width = x2 - x1.

        IoU = inter / (area(a) + area(b) - inter)
        inter = max(0, overlap in x) * max(0, overlap in y)

    Two boxes without area (0/0): 0. N or M may be 0.

    By hand: [0,0,2,2] and [1,1,3,3] share one pixel of 4 + 4 - 1: 1/7.
    """
    raise NotImplementedError("not written yet")
