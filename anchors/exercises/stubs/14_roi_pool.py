"""Exercise 14: RoI pooling.

Check it: frcnn anchors check 14_roi_pool.py
"""

from __future__ import annotations

import torch


def roi_pool(features: torch.Tensor, rois: torch.Tensor, output_size: int, spatial_scale: float) -> torch.Tensor:
    """RoI pooling: features [B,C,H,W], rois [K,5] (image index, x1, y1, x2, y2 in pixels) -> [K,C,P,P].

        corners on the map = round(coordinate * spatial_scale), halves away from zero: floor(x + 0.5) for x >= 0
        w = max(x2 - x1 + 1, 1), h likewise                     the last cell belongs to the RoI
        bin p covers x1 + floor(p * w / P) up to, not including, x1 + ceil((p + 1) * w / P), clipped to the map
        the answer is the maximum over the bin's cells, 0 for a bin outside the map          P = output_size

    By hand: a map of 0..15 (4 x 4), scale 1/4, RoI [0,0,8,8]: 3 x 3 cells, P = 2: [[5, 6], [9, 10]].
    """
    raise NotImplementedError("not written yet")
