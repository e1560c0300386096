"""Exercise 4: Anchors inside the image.

Check it: frcnn anchors check 04_inside.py
"""

from __future__ import annotations

import torch


def inside_image(boxes: torch.Tensor, image_size: tuple[int, int]) -> torch.Tensor:
    """Which of boxes [N,4] XYXY lie inside an image of image_size = (height, width) -> bool [N].

    A box that ends exactly at an edge is inside: 0 <= x1, x2 <= width, and the same for y.

    By hand: in an image 6 high and 10 wide, [0,0,10,6] is inside and [0,0,5,7] is not.
    """
    raise NotImplementedError("not written yet")
