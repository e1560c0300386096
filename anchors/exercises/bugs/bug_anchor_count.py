"""Find the bug. How many cells has the feature map?

Check it: frcnn anchors check bug_anchor_count.py
"""

from __future__ import annotations


def anchor_count(image_size, stride, num_cell_anchors):
    """How many anchors an image of image_size = (height, width) pixels has, with num_cell_anchors at each cell.

    The feature map has ceil(height / stride) x ceil(width / stride) cells.
    """
    return stride * stride * num_cell_anchors
