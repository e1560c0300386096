"""Find the bug. In which order does the network's output run?

Check it: frcnn anchors check bug_grid_order.py
"""

from __future__ import annotations

import torch


def grid_anchors(cell_anchors, grid_size, stride):
    """cell_anchors [A,4] at every cell of a map of grid_size = (height, width) cells -> [height*width*A,4].

        centre of cell (i, j) = ((j + 1/2) * stride, (i + 1/2) * stride)        i down, j to the right

    Order of the rows: (y, x, anchor), the anchor fastest: as the network's output, permuted to (H, W, A), runs.

    By hand: one anchor [-2,-2,2,2], one row of two cells, stride 8: [2,2,6,6] and [10,2,14,6].
    """
    height, width = grid_size
    centre_x = (torch.arange(width) + 0.5) * stride
    centre_y = (torch.arange(height) + 0.5) * stride
    anchors = []
    for x in centre_x:
        for y in centre_y:
            anchors.append(cell_anchors + torch.stack((x, y, x, y)))
    return torch.cat(anchors) if anchors else cell_anchors.new_zeros(0, 4)
