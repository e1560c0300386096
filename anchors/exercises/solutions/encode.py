"""Encode boxes as deltas of anchors."""

from __future__ import annotations

import torch


def encode(gt_boxes: torch.Tensor, anchors: torch.Tensor) -> torch.Tensor:
    """Deltas [N,4] that lead from anchors [N,4] to gt_boxes [N,4], row by row. XYXY.

        dx = (gx - ax) / aw     dw = ln(gw / aw)        (gx, gy), (ax, ay): the centres
        dy = (gy - ay) / ah     dh = ln(gh / ah)

    By hand: from [0,0,10,20] to [0,0,20,20]: the centre moves by 5 of 10, the width doubles: (0.5, 0, ln 2, 0).
    """
    gw, gh = (gt_boxes[:, 2:] - gt_boxes[:, :2]).unbind(1)
    aw, ah = (anchors[:, 2:] - anchors[:, :2]).unbind(1)
    gx, gy = gt_boxes[:, 0] + gw / 2, gt_boxes[:, 1] + gh / 2
    ax, ay = anchors[:, 0] + aw / 2, anchors[:, 1] + ah / 2
    return torch.stack(((gx - ax) / aw, (gy - ay) / ah, torch.log(gw / aw), torch.log(gh / ah)), dim=1)
