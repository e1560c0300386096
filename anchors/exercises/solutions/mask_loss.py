"""The loss of the mask head."""

from __future__ import annotations

import torch
import torch.nn.functional as F


def mask_loss(mask_logits: torch.Tensor, labels: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The mask loss, a scalar: mask_logits [R,K+1,S,S], labels [R] (0 background, else the class), targets [R,S,S].

        of each foreground RoI take the map of its own class
        binary cross-entropy of sigmoid(map) with the target, the mean over these RoIs and their S x S cells

    No foreground RoI: 0. The targets are in 0..1, with fractions at the object's edge.

    By hand: one RoI of class 1, logits 0 everywhere, any target: ln 2 = 0.693.
    """
    foreground = labels > 0
    if not bool(foreground.any()):
        return mask_logits.sum() * 0
    own_class = mask_logits[foreground, labels[foreground]]
    return F.binary_cross_entropy_with_logits(own_class, targets[foreground])
