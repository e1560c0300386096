"""Label the RoIs that train the head."""

from __future__ import annotations

import torch

from anchors.boxes import box_iou
from anchors.deltas import encode


def label_rois(
    proposals: torch.Tensor, gt_boxes: torch.Tensor, gt_labels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What the head learns from: (rois [P+M,4], labels [P+M] int64, target_deltas [P+M,4]).

        rois = proposals [P,4], then the true boxes gt_boxes [M,4]
        label = the class (gt_labels [M], 1 or more) of the roi's best gt if their IoU is >= 0.5, else 0
        target = encode(best gt, roi) * (10, 10, 5, 5), for background too; all 0 where there is no gt

    box_iou and encode may be your own, or those of anchors.boxes and anchors.deltas.

    By hand: a far proposal and one gt of class 2: labels [0, 2], and the last target is (0, 0, 0, 0).
    """
    rois = torch.cat((proposals, gt_boxes))
    if len(gt_boxes) == 0:
        return rois, torch.zeros(len(rois), dtype=torch.int64), torch.zeros_like(rois)
    best, gt_idxs = box_iou(gt_boxes, rois).max(dim=0)
    labels = torch.where(best >= 0.5, gt_labels[gt_idxs], 0)
    return rois, labels, encode(gt_boxes[gt_idxs], rois) * torch.tensor([10.0, 10.0, 5.0, 5.0])
