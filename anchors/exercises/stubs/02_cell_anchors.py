"""Exercise 2: Nine anchors at a cell.

Check it: frcnn anchors check 02_cell_anchors.py
"""

from __future__ import annotations

import torch


def generate_cell_anchors(sizes: list[float], aspect_ratios: list[float]) -> torch.Tensor:
    """The anchors of one cell, centred on (0, 0) -> [A,4] XYXY, float, A = len(aspect_ratios) * len(sizes).

        w = size / sqrt(ratio)        h = size * sqrt(ratio)        ratio = height / width

    sizes and aspect_ratios are lists of numbers. Order: the ratio is the slow index, the size the fast one.

    By hand: size 10, ratio 4 is 5 wide and 20 high: [-2.5, -10, 2.5, 10].
    """
    raise NotImplementedError("not written yet")
