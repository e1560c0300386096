"""A solution of the exercise head."""

from __future__ import annotations

import torch.nn.functional as F


def head(x, w1, b1, w2, b2):
    """The detector's two hidden layers: x [R,A] pooled features, w1 [B,A], b1 [B], w2 [A,B], b2 [A] -> [R,A]."""
    hidden = F.relu(F.linear(x, w1, b1))
    return F.relu(F.linear(hidden, w2, b2))
