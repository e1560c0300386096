"""Exercise 16: The head's two losses.

Check it: frcnn anchors check 16_detection_loss.py
"""

from __future__ import annotations

import torch


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
    raise NotImplementedError("not written yet")
