"""The RPN's two losses."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def rpn_loss(
    objectness: torch.Tensor, deltas: torch.Tensor, labels: torch.Tensor, target_deltas: torch.Tensor, sigma: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """The RPN's losses (classification, box), two scalars.

    objectness [R] logits, deltas and target_deltas [R,4], labels [R] int64: 1, 0, or -1 (outside the sample).

        classification = mean over the sampled anchors (1 and 0) of the binary cross-entropy with logits
        box            = sum over positives and their 4 deltas of smooth_l1(deltas - targets, sigma) / sampled anchors

    Nothing sampled: 0 and 0.

    By hand: logits 0, labels [1, 0, -1], the positive's dx wrong by 1, sigma 3: ln 2 and (1 - 1/18) / 2.
    """
    sampled, positive = labels >= 0, labels == 1
    if not sampled.any():
        return objectness.sum() * 0, deltas.sum() * 0
    cls_loss = F.binary_cross_entropy_with_logits(objectness[sampled], positive[sampled].to(objectness.dtype))
    terms = F.smooth_l1_loss(deltas[positive], target_deltas[positive], beta=1 / sigma**2, reduction="sum")
    return cls_loss, terms / sampled.sum()
