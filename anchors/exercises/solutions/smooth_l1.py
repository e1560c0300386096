"""Smooth L1."""

from __future__ import annotations

import torch


def smooth_l1(x: torch.Tensor, sigma: float) -> torch.Tensor:
    """Smooth L1 of every element of x -> a tensor of x's shape.

        0.5 * sigma^2 * x^2         if |x| < 1 / sigma^2
        |x| - 0.5 / sigma^2         otherwise

    By hand, sigma 3: x = 1 gives 1 - 1/18 = 0.9444.
    """
    distance = x.abs()
    return torch.where(distance < 1 / sigma**2, 0.5 * sigma**2 * x * x, distance - 0.5 / sigma**2)
