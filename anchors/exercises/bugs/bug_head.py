"""Find the bug. What are two Linears, one after the other?

Check it: frcnn anchors check bug_head.py
"""

from __future__ import annotations

import torch.nn.functional as F


def head(x, w1, b1, w2, b2):
    """The detector's two hidden layers: x [R,A] pooled features, w1 [B,A], b1 [B], w2 [A,B], b2 [A] -> [R,A]."""
    hidden = F.linear(x, w1, b1)
    return F.linear(hidden, w2, b2)
