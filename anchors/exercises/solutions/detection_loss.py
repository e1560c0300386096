"""The head's two losses."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def detection_loss(
    class_logits: torch.Tensor,
    box_deltas: torch.Tensor,
    labels: torch.Tensor,
    target_deltas: torch.Tensor,
    sigma: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """The head's losses (classification, box), two scalars.

    class_logits [R,K+1], class 0 is background; box_deltas [R,4(K+1)], four for each class; labels [R] int64;
    target_deltas [R,4].

        classification = mean over all RoIs of the cross-entropy
        box            = sum over foreground RoIs of smooth_l1(the label's four deltas - targets, sigma) / R

    R = 0: 0 and 0.

    By hand: logits 0 of two classes, label 1, its dx wrong by 1, sigma 1: ln 2 and 0.5.
    """
    num_rois = len(labels)
    if num_rois == 0:
        return class_logits.sum() * 0, box_deltas.sum() * 0
    foreground = (labels > 0).nonzero()[:, 0]
    own = box_deltas.reshape(num_rois, -1, 4)[foreground, labels[foreground]]
    terms = F.smooth_l1_loss(own, target_deltas[foreground], beta=1 / sigma**2, reduction="sum")
    return F.cross_entropy(class_logits, labels), terms / num_rois
