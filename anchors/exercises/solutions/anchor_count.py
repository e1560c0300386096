"""A solution of the exercise anchor_count."""

from __future__ import annotations

import math


def anchor_count(image_size, stride, num_cell_anchors):
    """How many anchors an image of image_size = (height, width) pixels has, with num_cell_anchors at each cell.

    The feature map has ceil(height / stride) x ceil(width / stride) cells.
    """
    height, width = image_size
    return math.ceil(height / stride) * math.ceil(width / stride) * num_cell_anchors
