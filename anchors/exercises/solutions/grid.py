"""Anchors all over the grid."""

from __future__ import annotations

import torch


def grid_anchors(cell_anchors: torch.Tensor, grid_size: tuple[int, int], stride: int) -> torch.Tensor:
    """cell_anchors [A,4] at every cell of a map of grid_size = (height, width) cells -> [height*width*A,4].

        centre of cell (i, j) = ((j + 1/2) * stride, (i + 1/2) * stride)        i down, j to the right

    Order of the rows: (y, x, anchor), the anchor fastest: as the network's output, permuted to (H, W, A), runs.

    By hand: one anchor [-2,-2,2,2], one row of two cells, stride 8: [2,2,6,6] and [10,2,14,6].
    """
    height, width = grid_size
    y = (torch.arange(height) + 0.5) * stride
    x = (torch.arange(width) + 0.5) * stride
    y, x = torch.meshgrid(y, x, indexing="ij")
    centres = torch.stack((x, y, x, y), dim=-1).reshape(-1, 1, 4)
    return (centres + cell_anchors).reshape(-1, 4)
