"""Nine anchors at a cell."""

from __future__ import annotations

import torch


def generate_cell_anchors(sizes: list[float], aspect_ratios: list[float]) -> torch.Tensor:
    """The anchors of one cell, centred on (0, 0) -> [A,4] XYXY, float, A = len(aspect_ratios) * len(sizes).

        w = size / sqrt(ratio)        h = size * sqrt(ratio)        ratio = height / width

    sizes and aspect_ratios are lists of numbers. Order: the ratio is the slow index, the size the fast one.

    By hand: size 10, ratio 4 is 5 wide and 20 high: [-2.5, -10, 2.5, 10].
    """
    size = torch.tensor(sizes, dtype=torch.float32)
    root = torch.tensor(aspect_ratios, dtype=torch.float32).sqrt()[:, None]
    w, h = (size / root).flatten(), (size * root).flatten()
    return torch.stack((-w, -h, w, h), dim=1) / 2
