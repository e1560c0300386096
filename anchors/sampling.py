"""Sampling: train on a few of many examples, so that background does not outweigh the objects.

    positives = min(number of label 1, int(num_samples * positive_fraction))     drawn without replacement
    negatives = min(number of label 0, num_samples - positives)                  fill the rest

The RPN draws 256 anchors, at most half of them positive; the head 128 RoIs, at most a quarter foreground.

Limits: few positives: negatives take their place (the worked example has 18 positives: 18 + 238, not 128 + 128). No
positives: all negative. Few of both: a smaller sample, never one drawn twice.

Place: Faster R-CNN 3.1.3 (RPN), Fast R-CNN 2.3 (head; proposal_target_layer in the paper's code).

For the head, `sample_rois` first adds the true boxes to the proposals: early in training no proposal comes near an
object, and the head would never see one. Then each proposal takes its best gt: with IoU >= 0.5 it is foreground, of the
gt's class; with bg_low <= IoU < 0.5 background. bg_low is 0.1 in Fast R-CNN, 0 in Faster R-CNN's end-to-end training
and in torchvision.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from anchors.arguments import check_boxes, check_count, check_labels, check_number
from anchors.boxes import box_iou
from anchors.deltas import encode
from anchors.matching import match_anchors


def sample_labels(
    labels: Tensor, *, num_samples: int, positive_fraction: float, generator: torch.Generator | None = None
) -> tuple[Tensor, Tensor]:
    """Indices (positives, negatives), int64, drawn from labels [N]: >= 1 positive, 0 negative, -1 never.

    The draws are torchvision's, in its order, so that one seed gives one sample in both. (Faster R-CNN 3.1.3)
    """
    check_labels(labels, "labels", len(labels) if isinstance(labels, Tensor) and labels.ndim else 0, "labels")
    check_count(num_samples, "num_samples")
    check_number(positive_fraction, "positive_fraction", 0, 1)
    positive = (labels >= 1).nonzero().squeeze(1)
    negative = (labels == 0).nonzero().squeeze(1)
    num_positive = min(len(positive), int(num_samples * positive_fraction))
    num_negative = min(len(negative), num_samples - num_positive)

    def draw(indices: Tensor, count: int) -> Tensor:
        return indices[torch.randperm(len(indices), generator=generator, device=indices.device)[:count]]

    return draw(positive, num_positive), draw(negative, num_negative)


class RoISample(NamedTuple):
    """The head's training sample: rois [R,4] XYXY, labels [R] int64 (0 background), target_deltas [R,4],
    gt_idxs [R] int64 (the best gt of each, background too; 0 where there is no gt)."""

    rois: Tensor
    labels: Tensor
    target_deltas: Tensor
    gt_idxs: Tensor


def sample_rois(
    proposals: Tensor,
    gt_boxes: Tensor,
    gt_labels: Tensor,
    *,
    num_samples: int,
    positive_fraction: float,
    fg_thresh: float,
    bg_low: float = 0.0,
    weights: Sequence[float],
    add_gt: bool = True,
) -> RoISample:
    """Draw num_samples of proposals [P,4] plus gt_boxes [M,4] (labels [M] in 1..K), in rising order of index.

    No gt: all background with zero targets. weights are encode's. A sampled proposal without width or
    height next to a gt is a ValueError: remove small boxes first. (Fast R-CNN 2.3)
    """
    check_boxes(proposals, "proposals", order="weak")
    check_boxes(gt_boxes, "gt_boxes", order="strict")
    check_labels(gt_labels, "gt_labels", len(gt_boxes), "gt_boxes")
    if len(gt_labels) and int(gt_labels.min()) < 1:
        raise ValueError(f"gt_labels: found {int(gt_labels.min())}, needed 1 or more (0 is background)")
    check_number(fg_thresh, "fg_thresh", 0, 1)
    check_number(bg_low, "bg_low", 0, fg_thresh)

    gt_boxes = gt_boxes.to(proposals.dtype)
    if add_gt:
        proposals = torch.cat((proposals, gt_boxes))
    iou = box_iou(gt_boxes, proposals)
    gt_idxs, fg = match_anchors(iou, high_thresh=fg_thresh, low_thresh=fg_thresh, low_quality=False)
    labels = torch.zeros_like(fg)
    if len(gt_boxes):
        labels = torch.where(fg == 1, gt_labels[gt_idxs].long(), fg)
        labels[(fg == 0) & (iou.amax(dim=0) < bg_low)] = -1

    positive, negative = sample_labels(labels, num_samples=num_samples, positive_fraction=positive_fraction)
    sampled = torch.cat((positive, negative)).sort().values
    rois, gt_idxs = proposals[sampled], gt_idxs[sampled]
    targets = encode(gt_boxes[gt_idxs], rois, weights) if len(gt_boxes) else torch.zeros_like(rois)
    return RoISample(rois, labels[sampled], targets, gt_idxs)


__test__ = {
    "tiny numbers": """
    Two positives, five negatives, one ignored; four wanted, half of them positive: 2 + 2.

    >>> labels = torch.tensor([0, 1, 0, -1, 0, 1, 0, 0])
    >>> positive, negative = sample_labels(labels, num_samples=4, positive_fraction=0.5)
    >>> sorted(positive.tolist()), len(negative), bool((labels[negative] == 0).all())
    ([1, 5], 2, True)

    At most one of them positive: 1 + 3.

    >>> [len(part) for part in sample_labels(labels, num_samples=4, positive_fraction=0.25)]
    [1, 3]

    One far proposal, one gt of class 2: the gt itself is the foreground RoI, with deltas 0.

    >>> sample = sample_rois(
    ...     torch.tensor([[50.0, 50, 60, 60]]), torch.tensor([[0.0, 0, 10, 10]]), torch.tensor([2]),
    ...     num_samples=4, positive_fraction=0.25, fg_thresh=0.5, weights=(10, 10, 5, 5))
    >>> sample.labels, sample.target_deltas[1]
    (tensor([0, 2]), tensor([0., 0., 0., 0.]))
    """
}
