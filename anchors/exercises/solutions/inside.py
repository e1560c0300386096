"""Anchors inside the image."""

from __future__ import annotations

import torch


def inside_image(boxes: torch.Tensor, image_size: tuple[int, int]) -> torch.Tensor:
    """Which of boxes [N,4] XYXY lie inside an image of image_size = (height, width) -> bool [N].

    A box that ends exactly at an edge is inside: 0 <= x1, x2 <= width, and the same for y.

    By hand: in an image 6 high and 10 wide, [0,0,10,6] is inside and [0,0,5,7] is not.
    """
    height, width = image_size
    x1, y1, x2, y2 = boxes.unbind(1)
    return (x1 >= 0) & (y1 >= 0) & (x2 <= width) & (y2 <= height)
