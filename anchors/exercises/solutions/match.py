"""Match anchors to objects."""

from __future__ import annotations

import torch


def match_anchors(iou: torch.Tensor, high_thresh: float, low_thresh: float) -> tuple[torch.Tensor, torch.Tensor]:
    """From iou [M gt, N anchors]: (gt_idxs, labels), both int64 [N].

    gt_idxs: each anchor's own best gt. labels, with best(n) = the largest IoU of anchor n:
        0    best(n) < low_thresh
        1    best(n) >= high_thresh
        1    n is the best anchor of some gt, ties included, however low its IoU (but not at IoU 0)
        -1   otherwise
    M = 0: both all 0.

    By hand: iou [[0.1, 0.2]] with 0.7 and 0.3: the labels are [0, 1].
    """
    num_gt, num_anchors = iou.shape
    if num_gt == 0 or num_anchors == 0:
        return torch.zeros(num_anchors, dtype=torch.int64), torch.zeros(num_anchors, dtype=torch.int64)
    best, gt_idxs = iou.max(dim=0)
    labels = torch.full_like(gt_idxs, -1)
    labels[best < low_thresh] = 0
    labels[best >= high_thresh] = 1
    best_of_gt = iou.max(dim=1, keepdim=True).values
    forced = (iou == best_of_gt) & (best_of_gt > 0)
    labels[forced.any(dim=0)] = 1
    return gt_idxs, labels
