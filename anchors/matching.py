"""Matching: which anchors are objects, which are background, which are neither.

    best(n)             the largest IoU of anchor n with any gt box
    target of anchor n  the gt box with that IoU

    label(n) = 0    if best(n) < low_thresh                                          background
               1    if best(n) >= high_thresh                                        object
               1    if n is the best anchor of some gt, ties included                object
              -1    otherwise                                                        ignored, trains nothing

"gt" is ground truth, the labelled boxes. The RPN uses thresholds 0.7 and 0.3. The head uses 0.5 and 0.5 without the
third rule, because proposals fit better than anchors do.

Limits: no gt: all background. In the worked example (boxes [30, 20, 500, 400] and [400, 300, 600, 500] in 800 x 800
pixels) NO anchor reaches 0.7; the best IoUs are 0.681 and 0.610. All 18 positives come from the third rule: 2 anchors
tie for the first object, 16 for the second. Without it an object of an unusual shape would have no positive anchor.

Order matters: the third rule comes after the first. Code that assigns the negatives last (a well-known mistake) loses
every object whose best anchor is below low_thresh. And the target is the anchor's own best gt, which need not be the gt
that made it positive.

Place: Faster R-CNN 3.1.2.

Where others differ: the paper says IoU above 0.7, all code says at least (`strict=True` is the paper). A gt that no
anchor touches has best IoU 0, and "equal to the best" then makes every anchor of IoU 0 positive: torchvision and the
paper's code do that (`force_zero_iou=True`), we do not. Ties depend on the last bit of the IoU.
"""

from __future__ import annotations

import torch
from torch import Tensor

from anchors.arguments import check_number, check_real, check_tensor

BELOW, BETWEEN = -1, -2


def match_anchors(
    iou: Tensor,
    *,
    high_thresh: float,
    low_thresh: float,
    low_quality: bool,
    strict: bool = False,
    force_zero_iou: bool = False,
) -> tuple[Tensor, Tensor]:
    """From iou [M gt, N anchors]: each anchor's gt [N] (0 if there is none) and label [N] in 1, 0, -1; int64.

    low_quality: the best anchors of each gt are positive however small their IoU. (Faster R-CNN 3.1.2)
    """
    iou = check_tensor(iou, "iou", ("M", "N"))
    check_real(iou, "iou")
    check_number(high_thresh, "high_thresh", 0, 1)
    check_number(low_thresh, "low_thresh", 0, high_thresh)
    num_gt, num_anchors = iou.shape
    if num_gt == 0 or num_anchors == 0:
        zeros = torch.zeros(num_anchors, dtype=torch.int64, device=iou.device)
        return zeros, zeros.clone()

    best, gt_idxs = iou.max(dim=0)
    labels = torch.full((num_anchors,), -1, dtype=torch.int64, device=iou.device)
    labels[best < low_thresh] = 0
    labels[best > high_thresh if strict else best >= high_thresh] = 1
    if low_quality:
        best_of_gt = iou.max(dim=1, keepdim=True).values
        forced = iou == best_of_gt  # ties included: every anchor as good as the best
        if not force_zero_iou:
            forced &= best_of_gt > 0
        labels[forced.any(dim=0)] = 1  # after the negatives: 3.1.2 (i) holds below low_thresh too
    return gt_idxs, labels


def to_matched_idxs(gt_idxs: Tensor, labels: Tensor) -> Tensor:
    """Both in one vector, as torchvision has it: the gt's index where positive, -1 background, -2 ignored."""
    return torch.where(labels == 1, gt_idxs, torch.where(labels == 0, BELOW, BETWEEN))


__test__ = {
    "tiny numbers": """
    Three gt (rows), four anchors (columns). Anchor 0: best 0.3, not below 0.3, ignored. Anchors 1 and 3 tie
    as the best of gt 2 with 0.4, so both are positive, but their targets are gt 1 (0.65) and gt 0 (0.6).
    Anchor 2: best 0.25, background.

    >>> iou = torch.tensor([[0.15, 0.45, 0.2, 0.6], [0.3, 0.65, 0.05, 0.1], [0.05, 0.4, 0.25, 0.4]])
    >>> gt_idxs, labels = match_anchors(iou, high_thresh=0.7, low_thresh=0.3, low_quality=True)
    >>> gt_idxs, labels
    (tensor([1, 1, 2, 0]), tensor([-1,  1,  0,  1]))
    >>> to_matched_idxs(gt_idxs, labels)
    tensor([-2,  1, -1,  0])
    """
}
