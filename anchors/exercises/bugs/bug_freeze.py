"""Find the bug. Which weights still get a gradient?

Check it: frcnn anchors check bug_freeze.py
"""

from __future__ import annotations

from itertools import pairwise

from torch import nn


def trainable_after_freezing(sizes):
    """Layers of these sizes, all frozen but the last (the new head): how many numbers still train?"""
    layers = nn.Sequential(*(nn.Linear(a, b) for a, b in pairwise(sizes)))
    layers[:-1].eval()
    return sum(p.numel() for p in layers.parameters() if p.requires_grad)
