"""Exercise 18: The loss of the mask head.

Check it: frcnn anchors check 18_mask_loss.py
"""

from __future__ import annotations

import torch


def mask_loss(mask_logits: torch.Tensor, labels: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The mask loss, a scalar: mask_logits [R,K+1,S,S], labels [R] (0 background, else the class), targets [R,S,S].

        of each foreground RoI take the map of its own class
        binary cross-entropy of sigmoid(map) with the target, the mean over these RoIs and their S x S cells

    No foreground RoI: 0. The targets are in 0..1, with fractions at the object's edge.

    By hand: one RoI of class 1, logits 0 everywhere, any target: ln 2 = 0.693.
    """
    raise NotImplementedError("not written yet")
